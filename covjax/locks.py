"""Folders held by one process at a time."""

import contextlib
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from covjax.errors import InputError

LOCK = ".lock"  # in the folder; its text says who holds it
TRIES = 1000  # another process may remove the file, or its folder, again and again
_held: set[Path] = set()  # by this process


@contextlib.contextmanager
def held(
    folder: Path, *, wait: bool = False, remedy: str = "name another folder"
) -> Iterator[None]:
    """Holds a folder, which is made if need be, against every other process that would write to it.

    The kernel lets go of it however the process ends. A process that holds a folder already may
    hold it again within, unless it waits. A folder that is empty in the end is removed.

    Raises InputError if another process holds the folder, saying which and since when, but with
    `wait` waits until that ends; and if the folder cannot be made. `remedy` ends both errors.
    """
    place = folder.resolve()
    if place in _held and not wait:
        yield
        return
    lock = _take(folder, wait, remedy)
    _held.add(place)
    try:
        yield
    finally:
        _held.discard(place)
        with contextlib.suppress(OSError):
            (place / LOCK).unlink(missing_ok=True)
        os.close(lock)
        with contextlib.suppress(OSError):
            place.rmdir()


def _take(folder: Path, wait: bool, remedy: str) -> int:
    """Returns the descriptor of the locked file."""
    path = folder / LOCK
    for _ in range(TRIES):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = _open(path)
        except OSError as error:
            raise InputError(
                f"{folder}: cannot be made or written ({error.strerror}), {remedy}"
            ) from error
        if lock is None:
            continue
        _lock(lock, folder, wait, remedy)
        if _is_at(lock, path):
            with contextlib.suppress(OSError):  # on a full disk the lock holds without the text
                os.ftruncate(lock, 0)
                os.write(lock, _who().encode())
            return lock
        os.close(lock)  # of a process that has just ended and removed the file
    raise InputError(f"{folder}: cannot be made or written (it keeps no file), {remedy}")


def _open(path: Path) -> int | None:
    """Opens the file; None if a process that ends has just removed its folder."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except FileNotFoundError:
        return None


def _lock(lock: int, folder: Path, wait: bool, remedy: str) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        holder = os.read(lock, 500).decode(errors="replace") or "another process"
        os.close(lock)
        raise InputError(f"{folder}: in use by {holder}, wait until it ends or {remedy}") from None
    except OSError as error:
        message = "%s: this file system locks no files (%s), let one command at a time use it"
        logging.warning(message, folder, error.strerror)


def _is_at(lock: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), os.stat(path))
    except FileNotFoundError:
        return False


def _who() -> str:
    command = Path(sys.argv[0]).name or "python"
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"process {os.getpid()} on {socket.gethostname()} ({command}) since {since}"
