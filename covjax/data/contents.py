"""Digests of what files hold; those of unchanged files are remembered with the prepared data."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from covjax.data.formats.damage import reading
from covjax.data.settings import DataSettings
from covjax.errors import InputError
from covjax.files import user_cache, write_whole
from covjax.records import read_record_or_empty

THREADS = 4
PRIVATE = 0o600  # names of files may be names of patients

Contents = list[tuple[str, str]]  # (path below the root, digest) of every file


def prepared_dir(config: DataSettings) -> Path:
    """Where prepared data live: `data.prepared_dir`, or the user's cache."""
    if config.prepared_dir:
        return Path(config.prepared_dir)
    return user_cache() / "prepared"


def digests(root: Path, files: Sequence[Path], memory: Path) -> dict[Path, str]:
    """Returns a digest of the bytes of each file below `root`.

    A file whose size and times are as `memory` (a folder) remembers is not read again. What cannot
    be remembered is read the next time. Raises InputError naming a file that cannot be read.
    """
    name = str(root.resolve()).encode(errors="surrogateescape")
    place = memory / f"digests-{hashlib.sha256(name).hexdigest()[:16]}"
    # size, two times and digest of each
    known = read_record_or_empty(place, dict[str, tuple[int, int, int, str]])
    states = {}
    found = {}
    for path in dict.fromkeys(files):
        with reading(path):
            state = path.stat()
        states[path] = [state.st_size, state.st_mtime_ns, state.st_ctime_ns]
        *before, digest = known.get(path.relative_to(root).as_posix()) or [None]
        if before == states[path]:
            found[path] = digest
    unread = [path for path in states if path not in found]
    with ThreadPoolExecutor(THREADS) as pool:
        found |= zip(unread, pool.map(_digest, unread), strict=True)
    if unread:
        known |= {
            path.relative_to(root).as_posix(): [*states[path], found[path]] for path in unread
        }
        with contextlib.suppress(InputError):
            write_whole(place, json.dumps(known).encode(), PRIVATE)
    return found


def contents(root: Path, found: dict[Path, str]) -> Contents:
    """Returns what files below `root` hold, whatever the root is called."""
    return sorted((path.relative_to(root).as_posix(), digest) for path, digest in found.items())


def origin(*parts: Any) -> str:
    """Returns from which file contents a slice was read: the same for the same bytes anywhere."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _digest(path: Path) -> str:
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
