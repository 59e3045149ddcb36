"""Weight files of any form, read into arrays by name.

Nothing in one is executed; none gets more memory than it fills. Of Keras files (HDF5) the parsing
is the C library's: it runs no code of the file either, but has not the same proof.
"""

import hashlib
import json
import math
import re
import zipfile
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

import numpy as np

from covjax.errors import InputError, install_command
from covjax.files import DAMAGE
from covjax.pretrained.content import Content
from covjax.pretrained.torch_files import read_legacy, read_tar, read_zip
from covjax.pretrained.unpickle import Unreadable, shown, whole

BEGINNING = 512  # bytes in which the form shows
MOST_VALUES = 150_000_000  # the largest network here, VGG-19, has 144 million
VALUE = 16  # bytes of a file per value of a network: itself, its mean and the moments of Adam
SPARE = 1 << 28  # bytes of a file for what a network is built without, as heads of more classes
SPARE_VALUES = SPARE // 4
MAX_HEADER = 1 << 22  # bytes of names, types and shapes in a .safetensors file; most take 0.1 MB
EXPLAINING = (ValueError, zipfile.BadZipFile)  # their texts say why
NOT_WEIGHTS = {
    (b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--"): (
        "is a web page, not weights; download it again, and look at it in a browser if that fails"
    ),
    (b"version https://git-lfs",): (
        "is a Git LFS pointer, not the weights; fetch them with git lfs pull, or download the file"
    ),
}
# Two unsigned bytes stand for a bfloat16, as in `covjax.pretrained.unpickle`.
SAFETENSORS_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "U8": "u1",
}
State = dict[str, np.ndarray]


class WeightFile(NamedTuple):
    """Arrays by name, in names and layouts of the file; of Keras files, PyTorch's.

    Floating-point numbers are float32, integers as they are; num_batches_tracked is left out.
    """

    state: State
    form: str  # safetensors, torch or keras
    sha256: str


def read_weights(path: Path, values: int = MOST_VALUES) -> WeightFile:
    """Reads a weight file for a network of so many values, which bound how large it may be.

    Forms, recognised by content: .safetensors; what torch.save wrote (zip, pickles, tar), whole
    checkpoints included; Keras .h5 (needs h5py).

    Raises InputError, naming the file, for any file that is none of these, is damaged, holds
    something else than weights, or has a name that ends in other digits than its sha256 starts
    with.
    """
    try:
        with _opened(path, VALUE * values + SPARE) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            form, read = _reader(file, size)
            _check_name(path, digest)
            data = Content(file, size)
            state = read(data)
            _check_values(state, size, values)
            if form != "keras":
                for array in state.values():
                    data.fill(array)
        return WeightFile(_floats(state), form, digest)
    except Unreadable as error:
        raise InputError(f"{path}: {error}") from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}), check the path"
        ) from None
    except DAMAGE as error:
        said = ascii(str(error))[1:-1].split() if isinstance(error, EXPLAINING) else []
        reason = " ".join(said)[:200] or "it breaks off or makes no sense"
        raise InputError(f"{path}: damaged or truncated ({reason}), download it again") from None


def _opened(path: Path, most: int) -> BufferedReader:
    if not path.is_file():
        raise InputError(f"{path}: is not a file, name a weight file (.safetensors, .pth, .h5)")
    if (size := path.stat().st_size) > most:
        raise InputError(
            f"{path}: {size / 1e9:.1f} GB, of which the network needs a fraction (at most "
            f"{most / 1e9:.1f} GB are read), save the weights alone"
        )
    return path.open("rb")


def _check_values(state: State, size: int, values: int) -> None:
    """Raises Unreadable, before they are read, for more values than the file or network has."""
    declared = sum(array.size for array in state.values())
    if declared > size:  # a value takes a byte or more
        raise Unreadable("its tensors declare more values than it holds, get it from another place")
    if declared > values + SPARE_VALUES:
        raise Unreadable(
            f"holds {declared:,} values, of which the network needs {values:,}, save the weights "
            "alone"
        )


def _check_name(path: Path, digest: str) -> None:
    """Raises Unreadable if digits at the end of a file's name are not those of its sha256."""
    named = re.search(r"-([0-9a-f]{8,64})\.[a-z0-9]+$", path.name)
    if named and not digest.startswith(named[1]):
        raise Unreadable(
            f"its name says that its sha256 starts with {named[1]}, "
            f"but it starts with {digest[: len(named[1])]}: damaged or another file; "
            "download it again, or rename it if those digits mean something else"
        )


def _reader(file: BufferedReader, size: int) -> tuple[str, Callable[[Content], State]]:
    """Returns the form of a file of this content and what reads it.

    Raises Unreadable if nothing does.
    """
    if not size:
        raise Unreadable("the file is empty, download it again")
    file.seek(0)
    start = file.read(BEGINNING)
    for beginnings, reason in NOT_WEIGHTS.items():
        if start.lstrip().lower().startswith(beginnings):
            raise Unreadable(reason)
    for place, mark, form, read in FORMS:
        if start.startswith(mark, place):
            return form, read
    raise Unreadable(
        "is no weight file (.safetensors, .pth of torch.save, Keras .h5), or a damaged one; "
        "download it"
    )


def _read_keras(data: Content) -> State:
    try:
        from covjax.pretrained.keras_files import read_keras
    except ImportError:
        raise Unreadable(
            f"is a Keras file, and reading it needs h5py: {install_command('h5')}"
        ) from None
    return read_keras(data)


def _read_safetensors(data: Content) -> State:
    """Finds the arrays of a file of a length, a header in JSON of that length, and numbers."""
    start = 8 + int.from_bytes(data.read(0, 8), "little")
    if MAX_HEADER < start - 8 < data.size:
        raise Unreadable("declares more arrays than any network has, get it from another place")
    header = json.loads(bytes(data.read(8, start)))
    header.pop("__metadata__", None)
    state: State = {}
    end = start
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if entry["dtype"] not in SAFETENSORS_TYPES:
            raise Unreadable(
                f"{shown(name)} in it is of type {shown(entry['dtype'])}, "
                "save the weights as float32"
            )
        dtype = np.dtype(SAFETENSORS_TYPES[entry["dtype"]])
        shape = [whole(side) for side in entry["shape"]]
        count = math.prod(shape)
        if entry["data_offsets"] != [end - start, end - start + count * dtype.itemsize]:
            raise ValueError(f"{shown(name)} is not where it should be")
        state[name] = np.frombuffer(data.view, dtype, count, end).reshape(shape)
        end += count * dtype.itemsize
    if end != data.size:
        raise ValueError("there is more than the header says")
    return state


# where in a file which bytes say that it is of a form, and what reads it
FORMS = (
    (0, b"PK", "torch", read_zip),
    (0, b"\x89HDF\r\n\x1a\n", "keras", _read_keras),
    (257, b"ustar", "torch", read_tar),
    (0, b"\x80", "torch", read_legacy),
    (8, b"{", "safetensors", _read_safetensors),
)


def _floats(state: State) -> State:
    """Returns the state in float32, without counts of batches.

    Raises Unreadable for a value that is not finite, or if nothing is left.
    """
    floats = {}
    for name, array in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        if array.dtype.kind == "u" and array.dtype.itemsize == 2:
            array = (array.astype(np.uint32) << 16).view(np.float32)
        if array.dtype.kind == "f":
            with np.errstate(over="ignore"):
                array = np.asarray(array, np.float32)
            if not np.isfinite(array).all():
                raise Unreadable(
                    f"{shown(name)} in it holds values that are not finite, use another file"
                )
        floats[name] = array
    if not floats:
        raise Unreadable("holds no weights")
    return floats
