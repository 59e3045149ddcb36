"""Writing a file whole or not at all."""

import contextlib
import os
from pathlib import Path

from covjax.errors import InputError


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file, and the folders above it, atomically: readers see the old file or the new one.

    Raises InputError if it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror}), make room or use another folder") from error
