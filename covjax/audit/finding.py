"""What an audit looks for, and what it finds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from covjax.audit.measure import Measured

EXAMPLES = 3  # pictures shown per finding

Severity = Literal["serious", "note", "ok"]
Example = tuple[int, int]  # positions of a slice and of the one it is compared with, -1 if none
# Where something is the matter, and what: the position of a slice, or the name of something else.
Rows = Iterable[tuple[int | str, str]]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for; `severity` is "ok" when nothing was found."""

    name: str
    title: str
    severity: Severity
    count: int
    of: int
    text: str
    # id of a slice, or a patient or file, and what is the matter with it, worst first
    rows: Sequence[tuple[str, str]] = ()
    examples: Sequence[Example] = ()


@dataclass(frozen=True)
class Check:
    """One thing to look for in what was measured, whatever the split."""

    name: str
    title: str
    severity: Severity
    text: str  # what it means
    rows: Callable[[Measured], Rows]  # worst first
    of: Callable[[Measured], int] = len  # how many there could be

    def __call__(self, m: Measured, split: np.ndarray) -> Finding:
        """Looks for it."""
        return finding(m, self.name, self.title, self.severity, self.of(m), self.text, self.rows(m))


def finding(
    m: Measured,
    name: str,
    title: str,
    severity: Severity,
    of: int,
    text: str,
    rows: Rows,
    examples: Sequence[Example] | None = None,
) -> Finding:
    """A finding about `rows`; one of nothing where there are none. Slices are its examples."""
    found = list(rows)
    if not found:
        return Finding(name, title, "ok", 0, of, "")
    if examples is None:
        examples = [(what, -1) for what, _ in found if isinstance(what, int)]
    named = [(m.ids[what] if isinstance(what, int) else what, why) for what, why in found]
    return Finding(name, title, severity, len(named), of, text, named, examples[:EXAMPLES])
