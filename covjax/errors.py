"""Errors that a user can act on: one line saying what, why and what to do."""

import difflib
import re
import shlex
import signal
import sys
from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """Input that covjax cannot use: one line names it, the reason and the remedy."""

    def __init__(self, message: str):
        """Escapes in the message what would break its line: files may have any name."""
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


def unknown(what: str, name: object, valid: Iterable[str]) -> InputError:
    """Returns the error for a name that is not in a table, with the valid and the nearest ones."""
    names = sorted(valid)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return InputError(f"{what}: '{name}' is unknown, use one of {', '.join(names)}{hint}")


def install_command(extra: str = "") -> str:
    """Returns the command that adds an extra to this installation, or what it requires itself."""
    checkout = Path(__file__).parents[1]
    asked = f"[{extra}]" if extra else ""
    editable = (checkout / "configs" / "quickstart.py").is_file()  # not so in a wheel
    words = ["-e", f"{checkout}{asked}"] if editable else [f"covjax{asked}"]
    return shlex.join([sys.executable, "-m", "pip", "install", *words])


def check_new_name(what: str, name: object, taken: Iterable[str], override: bool = False) -> None:
    """Raises InputError for a name that a plug-in cannot use or, unless overridden, is taken."""
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name == "none":
        raise InputError(f"{what}: {name!r} is no name, use small letters, digits and _")
    if name in taken and not override:
        raise InputError(f"{what}: is there already, use another name or override=True")


class RunError(RuntimeError):
    """A run that cannot continue, as when its loss is not finite: one line, as InputError."""


TIME_UP = 75  # exit status where --max_minutes are over: "try again" in sysexits.h
# What asks a command to stop besides SIGINT; SIGALRM comes when --max_minutes are over.
STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM)


class Interrupted(BaseException):
    """The user or the system asked the run to stop; everything needed to resume has been saved."""

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number

    @property
    def status(self) -> int:
        """With which a command ends."""
        return TIME_UP if self.signal_number == signal.SIGALRM else 128 + self.signal_number
