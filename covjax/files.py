"""Writing files whole or not at all, tables among them."""

import contextlib
import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covjax.errors import InputError


def write_whole(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Writes a file, and the folders above it, atomically: readers see the old file or the new one.

    `mode` holds who may read it, less what the process's umask takes away. Raises InputError if it
    cannot be written.
    """
    write_together({path: content}, mode)


def write_together(files: Mapping[Path, bytes], mode: int = 0o666) -> None:
    """Writes files that belong together: each beside its place first; at the end all are moved
    there, in order.

    If one cannot be written, all former files stay as they were. Raises InputError naming the file.
    """

    def create(path: str, flags: int) -> int:
        return os.open(path, flags, mode)

    beside = {path: path.with_name(path.name + ".partial") for path in files}
    path = None
    try:
        for path, partial in beside.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(partial, "wb", opener=create) as out:
                out.write(files[path])
                out.flush()
                os.fsync(out.fileno())
        for path, partial in beside.items():
            partial.replace(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}), make room or use another folder"
        ) from error
    finally:
        for partial in beside.values():
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def encode_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """Returns a CSV; a NaN is an empty field, and a float32 reads back as it was."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([[_field(v) for v in row] for row in rows])
    return text.getvalue().encode(errors="backslashreplace")


def _field(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return "" if not np.isfinite(value) else f"{value:.9g}"
    return value
