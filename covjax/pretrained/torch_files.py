"""The three forms in which torch.save has written state dicts, read without PyTorch.

A zip archive (since PyTorch 1.6), pickles one after another (before), a tar archive (before 0.1.12;
torchvision served such files until March 2021). Formats as written by torch/serialization.py of
PyTorch 2.13. Nothing is extracted, so names in archives lead nowhere; numbers are views of the
file's own bytes, so a file cannot ask for memory that it does not fill. They are not read here: the
caller fills those that it keeps (`covjax.pretrained.content`).
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from covjax.pretrained.content import MAX_PICKLE, Content
from covjax.pretrained.unpickle import (
    DTYPES,
    MAX_DIMENSIONS,
    MAX_MEMBERS,
    Holder,
    Unreadable,
    read_pickle,
    shown,
    tensor,
    text,
    whole,
)

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
# keys under which checkpoints keep the weights
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")
ORDERS: dict[bytes, Literal["<", ">"]] = {b"little": "<", b"big": ">"}
BLOCK = 512
MAX_OLD_PICKLE = 1 << 20  # bytes, of those in a tar archive
ENTRY = b"PK\1\2"  # what a zip archive's list of its files has before each


def read_zip(data: Content) -> dict[str, np.ndarray]:
    """Finds what torch.save writes. Raises Unreadable, or what files.DAMAGE lists."""
    members = _zip_members(data)

    def content(name: str) -> memoryview:
        start, end, checksum = members[name]
        if end - start > MAX_PICKLE:
            raise Unreadable(f"{shown(name)} in it is too long, save the weights alone")
        place = data.read(start, end)
        if zlib.crc32(place) != checksum:
            raise ValueError(f"the checksum of {shown(name)} is wrong")
        return place

    pickles = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise Unreadable(
            "a zip archive but no weights of torch.save, export the weights with torch.save"
        )
    folder = pickles[0].removesuffix("data.pkl")
    if any(name.startswith(f"{folder}code/") for name in members):
        raise Unreadable(
            "a TorchScript program, save the weights alone: torch.save(model.state_dict(), PATH)"
        )
    declared_order = f"{folder}byteorder"
    order = ORDERS[bytes(content(declared_order)) if declared_order in members else b"little"]

    def storage(saved_id: Any) -> np.ndarray:
        dtype, key, size = _declared(saved_id)
        start, end, _ = members[f"{folder}data/{key}"]
        return np.frombuffer(data.view[start:end], dtype.newbyteorder(order), size)

    data.checked = sorted(members.values())
    return _state_dict(read_pickle(io.BytesIO(content(pickles[0])), storage))


def _zip_members(data: Content) -> dict[str, tuple[int, int, int]]:
    """Returns where every member lies, from and to, and the checksum that it should have.

    Raises Unreadable for what torch.save never writes.
    """
    if data.count(ENTRY) > MAX_MEMBERS:
        raise Unreadable(
            f"a zip archive of more than {MAX_MEMBERS:,} files, no network has as many"
        )
    members: dict[str, tuple[int, int, int]] = {}
    free = 0  # from here on no member has been seen
    with zipfile.ZipFile(data.file) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
            name = shown(info.filename)
            if info.filename in members:
                raise Unreadable(f"holds {name} twice, get it from another place")
            if info.header_offset < free:
                raise Unreadable(f"{name} in it overlaps another file, get it from another place")
            stored = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
            if not stored or info.file_size != info.compress_size:
                raise Unreadable(f"{name} in it is compressed, save it again with torch.save")
            # A header of 30 bytes goes before, which ends in the lengths of two names after it.
            start = info.header_offset + 30
            start += sum(struct.unpack("<2H", data.read(start - 4, start)))
            free = start + info.file_size
            members[info.filename] = start, free, info.CRC
    return members


def read_legacy(data: Content) -> dict[str, np.ndarray]:
    """Reads pickles one after another, and finds the storages after them.

    The pickles: magic number, protocol, system, object, keys of the storages. Their types are in
    the object, which is read twice: for the types, and with the storages.

    Raises Unreadable, or what files.DAMAGE lists.
    """
    stream = io.BytesIO(data.read(0, min(data.size, MAX_PICKLE)))
    if read_pickle(stream) != MAGIC_NUMBER:
        raise Unreadable(
            "a pickle, but not of torch.save; save it again: torch.save(model.state_dict(), PATH)"
        )
    read_pickle(stream)  # a protocol, of which there is one
    if read_pickle(stream).get("little_endian") is not True:
        raise Unreadable(
            "written on a big-endian machine, save it again in the zip form of PyTorch 1.6 or newer"
        )
    start = stream.tell()
    declared: dict[str, tuple[np.dtype, int]] = {}
    contents: dict[str, np.ndarray] = {}

    def unread(saved_id: Any) -> np.ndarray:
        dtype, key, size = _declared(saved_id[:5])
        if declared.setdefault(key, (dtype, size)) != (dtype, size):
            raise ValueError(f"storage {shown(key)} of two types")
        return np.frombuffer(data.view, dtype, size)

    def storage(saved_id: Any) -> np.ndarray:
        whole_storage = contents[saved_id[2]]
        return whole_storage if saved_id[5] is None else _part(whole_storage, *saved_id[5][1:])

    read_pickle(stream, unread)
    keys = read_pickle(stream)
    place = stream.tell()
    for key in keys:
        contents[key], place = _numbers(data, place, *declared[text(key)])
    stream.seek(start)
    return _state_dict(read_pickle(stream, storage))


def read_tar(data: Content) -> dict[str, np.ndarray]:
    """Looks into a tar archive of "storages", "tensors" and "pickle", which numbers the tensors.

    Raises Unreadable, or what files.DAMAGE lists.
    """
    members = dict(_tar_members(data))
    if not {"storages", "tensors", "pickle"} <= members.keys():
        raise Unreadable(
            "a tar archive but no weights of torch.save, unpack it and name the weight file in it"
        )
    storages = _tar_storages(data, *members["storages"])
    tensors = _tar_tensors(_beginning(data, *members["tensors"]), storages)
    pickle = _beginning(data, *members["pickle"])
    return _state_dict(read_pickle(pickle, lambda saved_id: tensors[int(saved_id)]))


def _tar_members(data: Content) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yields the name of every plain file, and from where to where it goes.

    By hand, because tarfile also knows links, sparse files and headers without end.
    """
    start = 0
    while start + BLOCK <= data.size:
        header = bytes(data.read(start, start + BLOCK))
        if not header.strip(b"\0"):
            break
        size = int(header[124:136].rstrip(b" \0") or b"0", 8)
        start += BLOCK
        if size < 0 or start + size > data.size:
            raise ValueError("a member is cut off")
        if header[156:157] in (b"0", b"\0"):
            yield header[:100].rstrip(b"\0").decode("ascii"), (start, start + size)
        start += -(-size // BLOCK) * BLOCK


def _beginning(data: Content, start: int, end: int) -> io.BytesIO:
    return io.BytesIO(data.read(start, min(end, start + MAX_OLD_PICKLE)))


def _tar_storages(data: Content, start: int, end: int) -> dict[int, np.ndarray]:
    place = start

    def next_pickle() -> Any:
        nonlocal place
        stream = _beginning(data, place, end)
        found = read_pickle(stream)
        place += stream.tell()
        return found

    storages: dict[int, np.ndarray] = {}
    for _ in range(whole(next_pickle())):
        key, _, kind = next_pickle()
        storages[whole(key)], place = _numbers(data, place, DTYPES[text(kind)])
    for key, root, first, size in next_pickle():
        storages[whole(key)] = _part(storages[whole(root)], first, size)
    return storages


def _tar_tensors(stream: io.BytesIO, storages: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    tensors = {}
    for _ in range(whole(read_pickle(stream))):
        key, storage, _ = read_pickle(stream)
        (dimensions,) = struct.unpack("<i4x", stream.read(8))
        if not 0 <= dimensions <= MAX_DIMENSIONS:
            raise ValueError(f"a tensor of {dimensions} dimensions")
        *numbers, offset = struct.unpack(
            f"<{2 * dimensions + 1}q", stream.read(16 * dimensions + 8)
        )
        shape = tuple(numbers[:dimensions])
        strides = tuple(numbers[dimensions:])
        tensors[whole(key)] = tensor(storages[whole(storage)], offset, shape, strides)
    return tensors


def _declared(saved_id: Any) -> tuple[np.dtype, str, int]:
    """Returns type, key and size of what ("storage", type, key, location, size) stands for."""
    if not isinstance(saved_id, tuple) or len(saved_id) != 5 or saved_id[0] != "storage":
        raise Unreadable(
            "refers to something other than numbers; "
            "save the weights alone: torch.save(model.state_dict(), PATH)"
        )
    _, kind, key, _, size = saved_id
    return DTYPES[text(kind)], text(key), whole(size)


def _part(storage: np.ndarray, start: Any, size: Any) -> np.ndarray:
    if whole(start) + whole(size) > storage.size:
        raise ValueError("a view beyond its storage")
    return storage[start : start + size]


def _numbers(
    data: Content, place: int, dtype: np.dtype, declared: int | None = None
) -> tuple[np.ndarray, int]:
    """Returns the numbers that follow their count at a place, not read, and where they end."""
    (count,) = struct.unpack("<q", data.read(place, place + 8))
    if declared not in (None, count):
        raise ValueError("a storage has another size than its tensors say")
    numbers = np.frombuffer(data.view, dtype, whole(count), place + 8)
    return numbers, place + 8 + numbers.nbytes


def _state_dict(found: Any) -> dict[str, np.ndarray]:
    """Returns the arrays by name of a state dict, which may lie within a checkpoint.

    Raises Unreadable if there are none.
    """
    for _ in range(3):
        inner = [found.get(key) for key in WRAPPERS if isinstance(found, dict)]
        found = next((value for value in inner if isinstance(value, dict)), found)
    items = found.items() if isinstance(found, dict) else ()
    held = {name: value.array if isinstance(value, Holder) else value for name, value in items}
    state = {
        name: array
        for name, array in held.items()
        if isinstance(name, str) and isinstance(array, np.ndarray)
    }
    if not state:
        raise Unreadable(
            "holds no weights by name; save the weights alone: torch.save(model.state_dict(), PATH)"
        )
    return state
