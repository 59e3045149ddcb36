"""What lies in a folder: the files that may be read, and why each other thing is not."""

import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from covjax.errors import InputError
from covjax.tables import encode_table

# takes the error of a file that cannot be used; raises it, or returns to go on
Skip = Callable[[InputError], None]
Leave = Callable[[Path, str], None]  # takes a file that is left out, and why
KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)
LEFT_OUT = "left_out.csv"
COLUMNS = ("file", "reason")


# Files by which folders that covjax wrote are known. Other tools write a splits.json too.
WRITTEN = {
    ("screening.json",): "the results of a screening",
    ("config.json", "splits.json"): "the folder of a run",
}


class LeftOut(NamedTuple):
    """Something that was found and is not read."""

    file: str  # relative to the folder that was looked at
    reason: str


class LeftOuts:
    """Collects what is left out of a folder: the `leave` of functions that look for slices."""

    def __init__(self, root: Path):
        self.root = root
        self._found: dict[str, str] = {}

    def __call__(self, path: Path, reason: str) -> None:
        name = path.relative_to(self.root) if path.is_relative_to(self.root) else path
        self._found.setdefault(name.as_posix(), reason)

    def listed(self) -> tuple[LeftOut, ...]:
        """Returns all that was left out so far, sorted by name."""
        return tuple(LeftOut(file, reason) for file, reason in sorted(self._found.items()))


def of_error(error: InputError, root: Path) -> LeftOut:
    """Returns the file below `root` that an error names, and what is wrong with it."""
    text = str(error)
    for colon in re.finditer(": ", text):
        path = Path(text[: colon.start()])
        if path.is_relative_to(root) and os.path.lexists(path):
            return LeftOut(path.relative_to(root).as_posix(), text[colon.end() :])
    return LeftOut("", text)


def left_out_table(left_out: Sequence[LeftOut]) -> bytes:
    """Returns left_out.csv: a line for everything that was left out."""
    return encode_table(COLUMNS, left_out)


def stop(error: InputError) -> None:
    """Is a `Skip` that passes over nothing."""
    raise error


def unsaid(path: Path, reason: str) -> None:
    """Is a `Leave` for callers that do not ask what was left out."""


def list_files(folder: Path, skip: Skip = stop, leave: Leave = unsaid) -> list[Path]:
    """Returns the regular files below a folder, sorted.

    Hidden files and folders, what covjax itself wrote, links that lead out of the folder, links to
    folders, pipes, sockets and devices go to `leave`. A link to nothing and a folder that cannot be
    read are errors, which go to `skip`.
    """
    home = folder.resolve()
    found = []

    def unreadable(error: OSError) -> None:
        skip(
            InputError(
                f"{error.filename}: cannot be read ({error.strerror}), allow reading it or remove "
                "it"
            )
        )

    for place, folders, files in os.walk(folder, onerror=unreadable):
        inside = []
        for path in (Path(place, name) for name in sorted(folders)):
            reason = _not_entered(path, home)
            if reason:
                leave(path, reason)
            else:
                inside.append(path.name)
        folders[:] = inside
        for path in (Path(place, name) for name in files):
            if reason := _not_read(path, home, skip):
                leave(path, reason)
            elif reason is not None:
                found.append(path)
    return sorted(found)


def _not_entered(folder: Path, home: Path) -> str:
    """Returns why a folder is not entered; "" if it is."""
    if folder.name.startswith("."):
        return "a hidden folder"
    # Their pictures are slices of this very data, drawn over.
    for files, written in WRITTEN.items():
        if all((folder / file).is_file() for file in files):
            return f"{written} (it holds {' and '.join(files)})"
    if not folder.is_symlink():
        return ""
    if folder.resolve().is_relative_to(home):
        return "a link to a folder that is read where it lies"
    return "a link to a folder elsewhere, put the folder itself here"


def _not_read(path: Path, home: Path, skip: Skip) -> str | None:
    """Returns why a file is not read; "" if it is, None for a link to nothing."""
    if path.name.startswith("."):
        return "a hidden file"
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        if not path.exists():
            skip(InputError(f"{path}: a link to nothing, restore what it points to or remove it"))
            return None
        if not path.resolve().is_relative_to(home):
            return "a link out of the folder, put the file itself here"
        mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return ""
    return next((what for check, what in KINDS if check(mode)), "no regular file")
