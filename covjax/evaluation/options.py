"""Options of an evaluation: off by default, recorded in summary.json where they are on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from covjax.errors import InputError, unknown

TTA = {
    "flips": "the slice and its three mirror images",
    "scales": "the network's input at 0.75, 1 and 1.25 times its size",
}


@dataclass(frozen=True)
class Options:
    """What an evaluation does beyond running the networks once."""

    tta: tuple[str, ...] = ()  # names in TTA; both together: every mirror image at every size
    min_size: int = 0  # pixels of the slice: smaller components of a predicted mask are dropped

    def in_force(self) -> dict[str, Any]:
        """Returns the options that are on, as JSON; {} for none."""
        on = {"tta": list(self.tta), "min_size": self.min_size}
        return {name: value for name, value in on.items() if value}


PLAIN = Options()


def make_options(tta: Sequence[str] = (), min_size: int = 0) -> Options:
    """Checks options as the flags give them. Raises InputError for those that do not exist."""
    for name in tta:
        if name not in TTA:
            raise unknown("--tta", name, TTA)
    if min_size < 0:
        raise InputError(f"--min_size: {min_size} must be 0 or more pixels")
    return Options(tuple(name for name in TTA if name in tta), min_size)
