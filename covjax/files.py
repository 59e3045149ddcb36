"""Files written whole or not at all, and files read that may be damaged."""

import contextlib
import csv
import errno
import json
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from covjax.errors import InputError
from covjax.locks import LOCK, held

PARTIAL = ".partial"
FORMER = ".former"
SHORTEN = "shorten the longest name in it"
# What reading a damaged file raises.
DAMAGE = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError,
    SyntaxError, TypeError, ValueError, csv.Error, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
# bytes that an .npz may always unpack to, and how many times smaller larger ones are at most
LEAST_ARRAYS = 2**28
PACKED = 32


@contextlib.contextmanager
def open_whole(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Yields a file to write; at the end it takes the place of the one at `path`, all at once.

    The folders above it are made. `mode` is who may read it, less what the process's umask takes
    away. If anything fails, what was at `path` stays. Raises InputError if it cannot be written.
    """
    partial = _partial(path)
    try:
        with _write_errors(path):
            with _create(partial, mode) as out:
                yield out
                _flush(out)
            partial.replace(path)
    finally:
        _remove(partial)


def write_whole(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Writes a file as `open_whole` does: readers see the old file or the new one."""
    with open_whole(path, mode) as out:
        out.write(content)


def write_together(files: Mapping[Path, bytes]) -> None:
    """Writes files that belong together: all are written first, then moved to their places.

    If one cannot be written, all former files stay. The last one is what readers look for first:
    it is away while the others are moved, so that a process that is killed leaves no mixture with
    former files. Raises InputError naming the file.
    """
    try:
        for path, content in files.items():
            with _write_errors(path), _create(_partial(path)) as out:
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                out.write(content)
                _flush(out)
        _move_together(files)
    finally:
        for path in files:
            _remove(_partial(path))


def _move_together(files: Iterable[Path]) -> None:
    *others, record = files
    former = _former(record)
    with _write_errors(record):
        if record.exists():
            record.replace(former)
    moved: list[Path] = []
    try:
        for path in (*others, record):
            with _write_errors(path):
                _partial(path).replace(path)
            moved.append(path)
    finally:
        if not moved and former.exists():
            former.replace(record)
        _remove(former)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + PARTIAL)


def _create(path: Path, mode: int = 0o666) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, "wb", opener=lambda name, flags: os.open(name, flags, mode))


def _flush(out: BinaryIO) -> None:
    out.flush()
    os.fsync(out.fileno())


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = f"{'make room or ' if is_full(error) else ''}use another folder"
        if error.errno == errno.ENAMETOOLONG:
            remedy = SHORTEN
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}), {remedy}"
        ) from error


def is_full(error: BaseException) -> bool:
    """Whether an error, of whatever library, says that the disk or the quota is full."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in full or any(
        os.strerror(number) in str(error) for number in full
    )


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yields a folder to fill, which becomes `folder` at the end; if anything fails, it is removed.

    Raises InputError if `folder` is not empty, or if another process is filling it.
    """
    partial = _partial(folder)
    with held(partial):
        check_new_folder(folder)
        clear_folder(partial)
        try:
            yield partial
            move_folder(partial, folder)
        finally:
            clear_folder(partial)


def clear_folder(folder: Path) -> None:
    """Removes what is in a folder that this process holds, if it is still there."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                _remove(path)


def move_folder(partial: Path, folder: Path) -> None:
    """Moves a folder that this process holds to a place that is empty or not there."""
    if folder.exists():
        folder.rmdir()
    partial.rename(folder)
    _remove(folder / LOCK)


@contextlib.contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Yields a folder to fill, which takes the place of `folder` as a whole at the end.

    If anything fails, `folder` stays. If the process ends between the two renames, the former
    content is next to it, where `current_folder` finds it. Raises InputError if it cannot be moved.
    """
    partial = _partial(folder)
    former = _former(folder)
    shutil.rmtree(partial, ignore_errors=True)
    if former.is_dir() and not folder.exists():
        former.rename(folder)
    shutil.rmtree(former, ignore_errors=True)
    try:
        yield partial
        with _write_errors(folder):
            if folder.exists():
                folder.rename(former)
            partial.rename(folder)
        shutil.rmtree(former, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def current_folder(folder: Path) -> Path:
    """Returns where the content of a folder is that `replaced_folder` writes."""
    former = _former(folder)
    return former if former.is_dir() and not folder.exists() else folder


def folder_names(parent: Path) -> set[str]:
    """Returns the names under which `current_folder` finds the folders in `parent`."""
    found = [path.name for path in parent.glob("*/")]
    return {name.removesuffix(FORMER) for name in found if not name.endswith(PARTIAL)}


def _former(path: Path) -> Path:
    return path.with_name(path.name + FORMER)


def check_new_folder(folder: Path) -> None:
    """Raises InputError, naming the flag --output, if a folder exists and is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--output: {folder} exists and is not an empty folder, name another one")


def encode_json(value: Any) -> bytes:
    """Returns the content of a JSON file. Raises ValueError for a NaN, which JSON does not know."""
    return json.dumps(value, indent=1, allow_nan=False).encode()


def write_json(path: Path, value: Any) -> None:
    """Writes JSON as `write_whole` does."""
    write_whole(path, encode_json(value))


@contextlib.contextmanager
def damage_named(path: Path, remedy: str, missing: str = "") -> Iterator[None]:
    """Turns what reading a damaged file raises inside the block into an InputError that names it.

    The error says what to do: `remedy`, or `missing` if the file is not there.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: missing, {missing or remedy}") from None
    except DAMAGE as error:
        reason = str(error)[:200]  # which may quote the file at length
        raise InputError(f"{path}: damaged ({reason}), {remedy}") from error


def read_json(path: Path, remedy: str, missing: str = "") -> dict[str, Any]:
    """Returns the object in a JSON file. Raises InputError as `damage_named`."""
    with damage_named(path, remedy, missing):
        return _json_object(path.read_text(encoding="utf-8-sig"))


def read_json_lines(path: Path, remedy: str) -> list[dict[str, Any]]:
    """Returns the objects in a file of one per line, without a last line that is cut short.

    Raises InputError as `damage_named`.
    """
    found: list[dict[str, Any]] = []
    with damage_named(path, remedy):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                found.append(_json_object(line))
            except ValueError as error:
                if number == len(lines):
                    break  # its writer was stopped, or is still at it
                raise ValueError(f"line {number}: {error}") from error
    return found


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return cast(dict[str, Any], value)


def user_cache() -> Path:
    """Where the user's cache of covjax lies."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "covjax"


def read_arrays(path: Path, remedy: str, missing: str = "") -> dict[str, NDArray[Any]]:
    """Returns the arrays of an .npz file. Raises InputError as `damage_named`."""
    with damage_named(path, remedy, missing):
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if not 0 < size <= max(LEAST_ARRAYS, PACKED * path.stat().st_size):
            raise ValueError(f"unpacks to {size:,} bytes")
        with np.load(path, allow_pickle=False) as content:
            return dict(content)
