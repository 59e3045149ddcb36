"""The three forms in which torch.save has written state dicts, read without PyTorch.

A zip archive (since PyTorch 1.6), pickles one after another (before), a tar archive (before 0.1.12;
torchvision served such files until March 2021). Formats as written by torch/serialization.py of
PyTorch 2.13. Nothing is extracted, so names in archives lead nowhere; numbers are views of the
file's own bytes, so a file cannot ask for memory that it does not fill.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal

import numpy as np

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
ENTRY = b"PK\1\2"  # what a zip archive's list of its files has before each


def read_zip(data: bytes) -> dict[str, np.ndarray]:
    """Reads what torch.save writes. Raises Unreadable, or what files.DAMAGE lists."""
    members = _zip_members(data)

    def content(name: str) -> memoryview:
        place, checksum = members[name]
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

    @cache  # so that tensors of one storage do not add up its checksum each
    def numbers(key: str) -> memoryview:
        return content(f"{folder}data/{key}")

    def storage(saved_id: Any) -> np.ndarray:
        dtype, key, size = _declared(saved_id)
        return np.frombuffer(numbers(key), dtype.newbyteorder(order), size)

    return _state_dict(read_pickle(io.BytesIO(content(pickles[0])), storage))


def _zip_members(data: bytes) -> dict[str, tuple[memoryview, int]]:
    """Returns the content of every member, not copied, and the checksum that it should have.

    Raises Unreadable for what torch.save never writes.
    """
    if data.count(ENTRY) > MAX_MEMBERS:
        raise Unreadable(
            f"a zip archive of more than {MAX_MEMBERS:,} files, no network has as many"
        )
    view = memoryview(data)
    members = {}
    free = 0  # from here on no member has been seen
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
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
            start += sum(struct.unpack("<2H", view[start - 4 : start]))
            free = start + info.file_size
            members[info.filename] = view[start:free], info.CRC
    return members


def read_legacy(data: bytes) -> dict[str, np.ndarray]:
    """Reads pickles one after another, then the storages.

    The pickles: magic number, protocol, system, object, keys of the storages. Their types are in
    the object, which is read twice: for the types, and with the storages.

    Raises Unreadable, or what files.DAMAGE lists.
    """
    stream = io.BytesIO(data)
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
        return np.frombuffer(data, dtype, size)

    def storage(saved_id: Any) -> np.ndarray:
        whole_storage = contents[saved_id[2]]
        return whole_storage if saved_id[5] is None else _part(whole_storage, *saved_id[5][1:])

    read_pickle(stream, unread)
    for key in read_pickle(stream):
        contents[key] = _numbers(data, stream, *declared[text(key)])
    stream.seek(start)
    return _state_dict(read_pickle(stream, storage))


def read_tar(data: bytes) -> dict[str, np.ndarray]:
    """Reads a tar archive of "storages", "tensors" and "pickle", which numbers the tensors.

    Raises Unreadable, or what files.DAMAGE lists.
    """
    members = dict(_tar_members(data))
    if not {"storages", "tensors", "pickle"} <= members.keys():
        raise Unreadable(
            "a tar archive but no weights of torch.save, unpack it and name the weight file in it"
        )
    tensors = _tar_tensors(members["tensors"], _tar_storages(members["storages"]))
    pickle = io.BytesIO(members["pickle"])
    return _state_dict(read_pickle(pickle, lambda saved_id: tensors[int(saved_id)]))


def _tar_members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields name and content of every plain file.

    By hand, because tarfile also knows links, sparse files and headers without end.
    """
    position = 0
    while len(header := data[position : position + BLOCK]) == BLOCK and header.strip(b"\0"):
        size = int(header[124:136].rstrip(b" \0") or b"0", 8)
        position += BLOCK
        if size < 0 or position + size > len(data):
            raise ValueError("a member is cut off")
        if header[156:157] in (b"0", b"\0"):
            yield header[:100].rstrip(b"\0").decode("ascii"), data[position : position + size]
        position += -(-size // BLOCK) * BLOCK


def _tar_storages(member: bytes) -> dict[int, np.ndarray]:
    stream = io.BytesIO(member)
    storages = {}
    for _ in range(whole(read_pickle(stream))):
        key, _, kind = read_pickle(stream)
        storages[whole(key)] = _numbers(member, stream, DTYPES[text(kind)])
    for key, root, start, size in read_pickle(stream):
        storages[whole(key)] = _part(storages[whole(root)], start, size)
    return storages


def _tar_tensors(member: bytes, storages: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    stream = io.BytesIO(member)
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
    data: bytes, stream: io.BytesIO, dtype: np.dtype, declared: int | None = None
) -> np.ndarray:
    """Returns the numbers that follow their count where the stream stands, and goes past them."""
    (count,) = struct.unpack("<q", stream.read(8))
    if declared not in (None, count):
        raise ValueError("a storage has another size than its tensors say")
    numbers = np.frombuffer(data, dtype, whole(count), stream.tell())
    stream.seek(numbers.nbytes, io.SEEK_CUR)
    return numbers


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
