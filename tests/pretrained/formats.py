"""The forms of torch.save, written by hand: independent of PyTorch, and free to write what it never
would.
"""

import io
import struct
import tarfile
import zipfile
from typing import Any, NamedTuple

import numpy as np

KINDS = {
    "f4": "FloatStorage",
    "f8": "DoubleStorage",
    "f2": "HalfStorage",
    "i8": "LongStorage",
    "bf16": "BFloat16Storage",
}
MAGIC = 0x1950A86A20F9469CFC6C


class Global(NamedTuple):
    module: str
    name: str


class Call(NamedTuple):
    function: Any
    arguments: Any = ()
    state: Any = None
    opcode: bytes = b"R"


class Reference(NamedTuple):
    """To something outside the pickle."""

    value: Any


class Raw(NamedTuple):
    """Instructions as they are."""

    content: bytes


ORDERED = Call(Global("collections", "OrderedDict"))


def pickled(value):
    return b"\x80\x02" + _encoded(value) + b"."


def _encoded(value):
    match value:
        case Raw(content):
            return content
        case Global(module, name):
            return f"c{module}\n{name}\n".encode()
        case Call(function, arguments, state, opcode):
            build = b"" if state is None else _encoded(state) + b"b"
            return _encoded(function) + _encoded(arguments) + opcode + build
        case Reference(inner):
            return _encoded(inner) + b"Q"
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(content)]) + content
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(_encoded, value)) + b"t"
        case list():
            return b"](" + b"".join(map(_encoded, value)) + b"e"
        case dict():
            return b"}(" + b"".join(_encoded(k) + _encoded(v) for k, v in value.items()) + b"u"
    raise TypeError(value)


def strides_of(shape):
    return tuple(int(np.prod(shape[k + 1 :], dtype=int)) for k in range(len(shape)))


def stored(array, kind):
    """The bytes of an array's values as a storage of this kind keeps them."""
    if kind == "bf16":
        return (
            (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
        )
    return np.ascontiguousarray(array, f"<{kind}").tobytes()


def tensor(key, kind, shape, *, size=None, offset=0, strides=None, view=()):
    """`view` is the element that pickles before PyTorch 1.6 have more: (None,) or ((key, offset,
    size),).
    """
    size = int(np.prod(shape, dtype=int)) if size is None else size
    storage = Reference(
        ("storage", Global("torch", KINDS.get(kind, kind)), key, "cpu", size, *view)
    )
    strides = strides_of(shape) if strides is None else strides
    return Call(
        Global("torch._utils", "_rebuild_tensor_v2"),
        (storage, offset, tuple(shape), strides, False, ORDERED),
    )


def kind_of(array, kind):
    return "i8" if array.dtype.kind == "i" else kind


def zip_file(
    state, kind="f4", *, wrap=lambda s: s, contents=None, folder="archive", more=(), compression=0
):
    """`contents` replaces the bytes of the storages."""
    names = {
        name: tensor(str(k), kind_of(a, kind), a.shape) for k, (name, a) in enumerate(state.items())
    }
    if contents is None:
        contents = {str(k): stored(a, kind_of(a, kind)) for k, a in enumerate(state.values())}
    return zip_of(pickled(wrap(names)), contents, folder=folder, more=more, compression=compression)


def zip_of(pickle, contents=None, *, folder="archive", more=(), compression=0):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr(f"{folder}/data.pkl", pickle)
        archive.writestr(f"{folder}/byteorder", "little")
        for key, content in (contents or {}).items():
            archive.writestr(f"{folder}/data/{key}", content)
        for name, content in more:
            archive.writestr(name, content)
        archive.writestr(f"{folder}/version", "3\n")
    return out.getvalue()


def legacy_file(state, kind="f4", *, wrap=lambda s: s):
    names = {}
    storages = {}
    for k, (name, array) in enumerate(state.items()):
        names[name] = tensor(str(k), kind_of(array, kind), array.shape, view=(None,))
        storages[str(k)] = struct.pack("<q", array.size) + stored(array, kind_of(array, kind))
    return legacy_of(wrap(names), storages)


def legacy_of(value, storages=None, *, little=True):
    storages = storages or {}
    system = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"int": 4}}
    pickles = [pickled(part) for part in (MAGIC, 1001, system, value, list(storages))]
    return b"".join([*pickles, *storages.values()])


def tar_file(state, kind="f4", *, wrap=lambda s: s, parameters=False):
    storages = pickled(len(state))
    tensors = pickled(len(state))
    names = {}
    for k, (name, array) in enumerate(state.items()):
        numbered = 1000 + k
        typed = KINDS[kind_of(array, kind)]
        storages += pickled((numbered, "cpu", Global("torch", typed)))
        storages += struct.pack("<q", array.size) + stored(array, kind_of(array, kind))
        tensors += pickled(
            (2000 + k, numbered, Global("torch", typed.replace("Storage", "Tensor")))
        )
        tensors += struct.pack(
            f"<i4x{2 * array.ndim + 1}q", array.ndim, *array.shape, *strides_of(array.shape), 0
        )
        names[name] = Reference(str(2000 + k))
        if parameters:
            state_of_parameter = (names[name], None, ORDERED, True, False)
            names[name] = Call(
                Global("torch.nn.parameter", "Parameter"), (), state_of_parameter, b"\x81"
            )
    return tar_of(
        {"storages": storages + pickled([]), "tensors": tensors, "pickle": pickled(wrap(names))}
    )


def tar_of(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in ({"sys_info": pickled({"little_endian": True})} | members).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mtime = 1.5  # a time that needs a header of its own
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


FORMS = {"zip": zip_file, "legacy": legacy_file, "tar": tar_file}
