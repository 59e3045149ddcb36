"""Writing files whole or not at all."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from covjax.errors import InputError


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file, and the folders above it, atomically: readers see the old file or the new one.

    Raises InputError if it cannot be written.
    """
    write_together({path: content})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Writes files that belong together: each beside its place first; at the end all are moved there, in order.

    If one cannot be written, all former files stay as they were. Raises InputError naming the file.
    """
    beside = {path: path.with_name(path.name + ".partial") for path in files}
    path = None
    try:
        for path, partial in beside.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as out:
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
