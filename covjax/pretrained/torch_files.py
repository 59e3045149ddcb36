"""The three forms in which torch.save has written state dicts, read without PyTorch.

A zip archive (since PyTorch 1.6), pickles one after another (before), a tar archive (before 0.1.12;
torchvision served such files until March 2021). Formats as written by torch/serialization.py of
PyTorch 2.13. Nothing is extracted, so names in archives lead nowhere; numbers are views of the
file's own bytes, so a file cannot ask for memory that it does not fill.
"""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from covjax.pretrained.unpickle import (
    MAX_DIMENSIONS,
    Parameter,
    Storage,
    StorageType,
    Tensor,
    Unreadable,
    read_pickle,
    shown,
    whole,
)

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
# keys under which checkpoints keep the weights
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")
MAX_PICKLE = 1 << 26
BLOCK = 512


def read_zip(data: bytes) -> dict[str, np.ndarray]:
    """Reads what torch.save writes. Raises Unreadable, or what a damaged file makes the parsers
    raise.
    """
    members = _zip_members(data)
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
    if len(members[pickles[0]]) > MAX_PICKLE:
        raise Unreadable("its pickle is longer than that of any state dict, save the weights alone")
    order = bytes(members.get(f"{folder}byteorder", b"little"))
    if order not in (b"little", b"big"):
        raise ValueError("an unknown byte order")

    def content(storage: Storage) -> memoryview:
        return members[f"{folder}data/{storage.key}"]

    found = read_pickle(io.BytesIO(members[pickles[0]]), _storage_of_id)
    return _arrays(_state_dict(found), content, len(data), "<" if order == b"little" else ">")


def _zip_members(data: bytes) -> dict[str, memoryview]:
    """Returns the content of every member, not copied. Raises Unreadable for what torch.save never
    writes.
    """
    view = memoryview(data)
    members = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            if info.filename in members:
                raise Unreadable(f"holds {shown(info.filename)} twice, get it from another place")
            if (
                info.compress_type != zipfile.ZIP_STORED
                or info.flag_bits & 1
                or info.file_size != info.compress_size
            ):
                raise Unreadable(
                    f"{shown(info.filename)} in it is compressed, save it again with torch.save"
                )
            members[info.filename] = _zip_content(view, info)
    return members


def _zip_content(view: memoryview, info: zipfile.ZipInfo) -> memoryview:
    header = struct.unpack("<4s5H3L2H", view[info.header_offset : info.header_offset + 30])
    start = info.header_offset + 30 + header[-2] + header[-1]
    content = view[start : start + info.file_size]
    if header[0] != b"PK\3\4" or len(content) != info.file_size:
        raise ValueError(f"{shown(info.filename)} is cut off")
    if zlib.crc32(content) != info.CRC:
        raise ValueError(f"the checksum of {shown(info.filename)} is wrong")
    return content


def read_legacy(data: bytes) -> dict[str, np.ndarray]:
    """Reads pickles one after another: magic number, protocol, system, object, keys of storages;
    then the storages.

    Raises Unreadable, or what a damaged file makes the parsers raise.
    """
    stream = io.BytesIO(data)
    contents = {}
    if read_pickle(stream) != MAGIC_NUMBER or read_pickle(stream) != PROTOCOL:
        raise Unreadable(
            "a pickle, but not of torch.save; save it again: torch.save(model.state_dict(), PATH)"
        )
    if read_pickle(stream).get("little_endian") is not True:
        raise Unreadable(
            "written on a big-endian machine, save it again in the zip form of PyTorch 1.6 or newer"
        )
    storages: dict[str, Storage] = {}

    def persistent(saved_id: Any) -> Storage:
        *first, view = saved_id
        storage = _storage_of_id(tuple(first))
        root = storages.setdefault(storage.key, storage)
        if (root.dtype, root.size) != (storage.dtype, storage.size):
            raise ValueError(f"storage {shown(storage.key)} of two kinds")
        return root if view is None else _view_of(root, *view)

    found = read_pickle(stream, persistent)
    keys = read_pickle(stream)
    if sorted(keys) != sorted(storages):
        raise ValueError("the storages are not those of the tensors")
    for key in keys:
        contents[key] = _storage_content(data, stream, storages[key])
    return _arrays(_state_dict(found), lambda storage: contents[storage.key], len(data))


def read_tar(data: bytes) -> dict[str, np.ndarray]:
    """Reads a tar archive of "storages", "tensors" and "pickle", which refers to the tensors by
    number.

    Raises Unreadable, or what a damaged file makes the parsers raise.
    """
    members: dict[str, bytes] = {}
    for name, content in _tar_members(data):
        if name in members:
            raise Unreadable(f"holds {shown(name)} twice, get it from another place")
        members[name] = content
    if not {"storages", "tensors", "pickle"} <= members.keys():
        raise Unreadable(
            "a tar archive but no weights of torch.save, unpack it and name the weight file in it"
        )
    storages, contents = _tar_storages(members["storages"])
    tensors = _tar_tensors(members["tensors"], storages)
    found = read_pickle(io.BytesIO(members["pickle"]), lambda key: tensors[str(key)])
    return _arrays(_state_dict(found), lambda storage: contents[storage.key], len(data))


def _tar_members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields name and content of every plain file; by hand, because what tarfile also knows is no
    use here.
    """
    position = 0
    while len(header := data[position : position + BLOCK]) == BLOCK and header.strip(b"\0"):
        size = int(header[124:136].rstrip(b" \0") or b"0", 8)
        position += BLOCK
        if size < 0 or position + size > len(data):
            raise ValueError("a member is cut off")
        if header[156:157] in (b"0", b"\0"):
            yield (
                header[:100].rstrip(b"\0").decode("ascii").removeprefix("./"),
                data[position : position + size],
            )
        position += -(-size // BLOCK) * BLOCK


def _tar_storages(member: bytes) -> tuple[dict[str, Storage], dict[str, memoryview]]:
    stream = io.BytesIO(member)
    storages = {}
    contents = {}
    for _ in range(whole(read_pickle(stream))):
        key, _, kind = read_pickle(stream)
        size = struct.unpack("<q", member[stream.tell() : stream.tell() + 8])[0]
        storage = _storage(kind, str(key), size)
        contents[storage.key] = _storage_content(member, stream, storage)
        storages[storage.key] = storage
    for target, root, start, size in read_pickle(stream):
        storages[str(target)] = _view_of(storages[str(root)], target, start, size)
    return storages, contents


def _tar_tensors(member: bytes, storages: Mapping[str, Storage]) -> dict[str, Tensor]:
    stream = io.BytesIO(member)
    tensors = {}
    for _ in range(whole(read_pickle(stream))):
        key, storage, _ = read_pickle(stream)
        dimensions = struct.unpack("<i4x", stream.read(8))[0]
        if not 0 <= dimensions <= MAX_DIMENSIONS:
            raise ValueError(f"a tensor of {dimensions} dimensions")
        numbers = struct.unpack(f"<{2 * dimensions + 1}q", stream.read(16 * dimensions + 8))
        shape = numbers[:dimensions]
        strides = numbers[dimensions:-1]
        tensors[str(key)] = Tensor(storages[str(storage)], numbers[-1], shape, strides)
    return tensors


def _storage(kind: Any, key: Any, size: Any) -> Storage:
    if not isinstance(kind, StorageType) or not isinstance(key, str):
        raise ValueError("a storage of unknown type")
    return Storage(key, kind.dtype, whole(size))


def _storage_of_id(saved_id: Any) -> Storage:
    """Returns the storage that ("storage", type, key, location, size) stands for."""
    if not isinstance(saved_id, tuple) or len(saved_id) != 5 or saved_id[0] != "storage":
        raise Unreadable(
            "refers to something other than numbers; save the weights alone: torch.save(model.state_dict(), PATH)"
        )
    _, kind, key, _, size = saved_id
    return _storage(kind, key, size)


def _view_of(root: Storage, _: Any, start: Any, size: Any) -> Storage:
    if whole(start) + whole(size) > root.size:
        raise ValueError("a view beyond its storage")
    return Storage(root.key, root.dtype, size, root.start + start)


def _storage_content(data: bytes, stream: io.BytesIO, storage: Storage) -> memoryview:
    """Returns the bytes of a storage, which follow their number (of values) where the stream
    stands.
    """
    if len(count := stream.read(8)) != 8 or struct.unpack("<q", count)[0] != storage.size:
        raise ValueError(f"storage {shown(storage.key)} has another size than its tensors say")
    length = storage.size * _item_size(storage.dtype)
    content = memoryview(data)[stream.tell() : stream.tell() + length]
    stream.seek(length, io.SEEK_CUR)
    return content


def _state_dict(found: Any) -> dict[str, Tensor]:
    """Returns the tensors by name of a state dict, which may lie within a checkpoint.

    Raises Unreadable if there are none.
    """
    for _ in range(3):
        if not isinstance(found, dict):
            break
        for key in WRAPPERS:
            if isinstance(found.get(key), dict):
                found = found[key]
                break
        else:
            break
    tensors = {}
    for name, value in found.items() if isinstance(found, dict) else ():
        value = value.data if isinstance(value, Parameter) else value
        if isinstance(value, Tensor) and isinstance(name, str):
            tensors[name] = value
    if not tensors:
        raise Unreadable(
            "holds no weights by name; save the weights alone: torch.save(model.state_dict(), PATH)"
        )
    return tensors


def _arrays(
    tensors: Mapping[str, Tensor], content: Any, length: int, order: str = "<"
) -> dict[str, np.ndarray]:
    """Returns the values of tensors. `content(storage)` gives the bytes of a storage; `length` is
    that of the file.
    """
    arrays = {}
    values = 0
    for name, tensor in tensors.items():
        try:
            array = _array(tensor, content, order)
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{shown(name)}: {error}") from None
        values += array.size
        if values > length:  # a value takes two bytes or more; converted, four
            raise Unreadable(
                "its tensors declare more values than it holds, get it from another place"
            )
        arrays[name] = array
    return arrays


def _array(tensor: Tensor, content: Any, order: str) -> np.ndarray:
    storage = tensor.storage
    shape = tensor.shape
    strides = tensor.strides
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without storage")
    if not isinstance(shape, tuple) or not isinstance(strides, tuple) or len(shape) != len(strides):
        raise ValueError("shape and strides differ in length")
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"a tensor of {len(shape)} dimensions")
    last = whole(tensor.offset) + sum(
        (whole(n) - 1) * whole(stride) for n, stride in zip(shape, strides, strict=True)
    )
    size = math.prod(shape)
    if not 0 < size <= storage.size or last >= storage.size:
        raise ValueError("a tensor beyond its storage")
    item = _item_size(storage.dtype)
    flat = content(storage)
    if len(flat) < (storage.start + storage.size) * item:
        raise ValueError("cut off")
    dtype = np.dtype(order + ("u2" if storage.dtype == "bf16" else storage.dtype))
    flat = np.frombuffer(flat, dtype, storage.size, storage.start * item)[tensor.offset :]
    array = np.lib.stride_tricks.as_strided(
        flat, shape, [stride * item for stride in strides], writeable=False
    )
    return from_bfloat16(array) if storage.dtype == "bf16" else array


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Returns the float32 values whose upper halves are `bits` uint16."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _item_size(dtype: str) -> int:
    return 2 if dtype == "bf16" else int(dtype[1:])
