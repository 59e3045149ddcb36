"""Ends a process at every change that it makes to the file system, one after the other.

    python -m tests.attacks.kills

runs each of JOBS so often that it was killed before every change, and checks what is left.
"""

import itertools
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from covjax.files import current_folder, new_folder, replaced_folder, write_together, write_whole

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
KILLED = 9
NAMES = ("a.csv", "b.npz", "c/d.png", "summary.json")


def kill_before(change: int) -> None:
    """Ends this process without any clean-up before its change number `change`, from 0."""
    changes = itertools.count()

    def watch(event: str, arguments: tuple) -> None:
        opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
        if (opens or event in CHANGES) and next(changes) == change:
            os._exit(KILLED)

    sys.addaudithook(watch)


def kills(job: Callable[[], None]) -> int:
    """Runs a job in a forked process that is killed before one change; returns the exit status."""
    child = os.fork()
    if child == 0:
        try:
            job()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _fill(folder: Path, content: bytes) -> None:
    for name in NAMES:
        write_whole(folder / name, content)


def _content(folder: Path) -> set[bytes | None]:
    """Returns the contents of the files of a folder, None among them if one is not there."""
    paths = [folder / name for name in NAMES]
    return {path.read_bytes() if path.is_file() else None for path in paths}


def replace(folder: Path) -> None:
    with replaced_folder(folder) as place:
        _fill(place, b"new")


def is_replaced(folder: Path) -> bool:
    return _content(current_folder(folder)) in ({b"old"}, {b"new"})


def make(folder: Path) -> None:
    made = folder.with_name("made")
    if not made.exists():
        with new_folder(made) as place:
            _fill(place, b"new")


def is_made(folder: Path) -> bool:
    made = folder.with_name("made")
    return not made.exists() or _content(made) == {b"new"}


def write(folder: Path) -> None:
    write_together({folder / name: b"new" for name in NAMES})


def is_written(folder: Path) -> bool:
    """Whether all is old or new, or the record that readers look for is away."""
    return not (folder / NAMES[-1]).exists() or _content(folder) in ({b"old"}, {b"new"})


JOBS = {
    "replaced_folder": (replace, is_replaced),
    "new_folder": (make, is_made),
    "write_together": (write, is_written),
}


def _killed(run: Callable[[Path], None], folder: Path, change: int) -> None:
    kill_before(change)
    run(folder)


def attack(name: str, root: Path) -> int:
    """Kills a job before each of its changes, and then lets it end; returns how many there are.

    Raises AssertionError if a mixture is left, or if the same call does not succeed afterwards.
    """
    run, is_whole = JOBS[name]
    for change in itertools.count():
        folder = root / name / str(change) / "folder"
        _fill(folder, b"old")

        status = kills(partial(_killed, run, folder, change))
        assert status in (0, KILLED), f"{name} failed at change {change}"
        assert is_whole(folder), f"{name}: a mixture is left by a kill before change {change}"
        if status == 0:
            return change
        assert kills(partial(run, folder)) == 0, f"{name} fails after a kill before change {change}"
        assert is_whole(folder) and not list(folder.parent.glob("*.partial"))
    raise AssertionError


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        for job in JOBS:
            print(f"{job}: {attack(job, Path(scratch))} kills, nothing lost, nothing mixed")
