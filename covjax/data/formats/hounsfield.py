"""What the values of a CT are: HU, HU with an offset, or 0..255; and what among them is padding."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from covjax.errors import InputError

INTENSITIES = {
    "auto": "detected by the range of the values; what looks like HU with an offset is refused",
    "hu": "Hounsfield units: water 0, air -1000",
    "8bit": "0 to 255, windowed by whoever made the file",
    "hu_plus_1024": "Hounsfield units plus 1024: water 1024, air 24",
    "hu_plus_32768": "Hounsfield units plus 32768: water 32768, air 31768",
    "hu_signed": (
        "signed Hounsfield units in a file that says unsigned: below 0 they read 65536 too high"
    ),
}
OFFSETS = {"hu": 0, "hu_plus_1024": 1024, "hu_plus_32768": 32768, "hu_signed": 0}
NAMES = {
    "hu": "HU",
    "hu_plus_1024": "HU + 1024",
    "hu_plus_32768": "HU + 32768",
    "hu_signed": "signed HU in a file that says unsigned",
}
AIR = -1000.0  # HU
HOLDS_AIR = -200.0  # HU: every CT of a chest holds lower values, no 8-bit picture does
EMPTY = -1200.0
DENSE = 850.0  # HU: hardly a value of a body and the air around it lies outside
# share of values that may lie outside: noise and edges of padding below, metal and thick bone above
RARE = 0.05
LOWEST = -1500.0
# HU: what lies outside was not measured. 31743 + 1024 is what signed 16 bits hold
HIGHEST = 31743.0
ALONE_BELOW = 300.0
ALONE_ABOVE = 2.0**14  # from an extreme value to the next, if it is padding
BEYOND = 0.01  # share of the other values that may lie beyond those declared as padding
OVERSHOOT = 26.0  # grey levels by which interpolation leaves 0..255

Ranges = Sequence[tuple[float, float]]  # lowest and highest value, both included


class Reading(NamedTuple):
    """How the values of a file become HU or 0..255."""

    kind: str  # of INTENSITIES, but auto
    # ranges of values that stand for "nothing was measured here"
    padding: tuple[tuple[float, float], ...] = ()
    assumed: tuple[tuple[float, float], ...] = ()  # of those, the ones that the file does not say
    declared: bool = False  # by the user

    @property
    def intensity(self) -> str:
        """Returns what `convert` makes: hu or 8bit."""
        return "8bit" if self.kind == "8bit" else "hu"

    def convert(self, values: np.ndarray, inverted: bool = False) -> np.ndarray:
        """Returns values as HU or 0..255, float32. Padding becomes air, or 0 of 0..255.

        With `inverted`, values of 0..255 are stored white on black: 255 is 0.

        Air, not the lowest value of a window: what a scanner writes where it measured nothing says
        nothing of the patient, and most scans have air there. In HU all that no CT measures
        (LOWEST, HIGHEST) counts as padding.
        """
        values = _unwrapped(values, self.kind)
        empty = _inside(values, self.padding)
        if self.kind == "8bit":
            return np.where(empty, np.float32(0), 255 - values if inverted else values)
        hu = values - np.float32(OFFSETS[self.kind])
        return np.where(empty | (hu < LOWEST) | (hu > HIGHEST), np.float32(AIR), hu)

    @property
    def notes(self) -> tuple[str, ...]:
        """Returns what a reader of results should know of it."""
        found = []
        if self.kind == "hu_signed":
            found.append("values of 32768 and more taken as negative, as declared")
        elif self.declared and OFFSETS.get(self.kind):
            found.append(f"values taken as {NAMES[self.kind]}, as declared")
        shown = "0" if self.kind == "8bit" else "air"
        for low, high in self.assumed:
            found.append(
                f"{_span(low, high)}, alone far from the rest, taken for padding, shown as {shown}"
            )
        return tuple(found)


def decide(
    path: Path,
    values: np.ndarray,
    declared: str = "auto",
    stated: str = "auto",
    padding: Ranges = (),
) -> Reading:
    """Returns what the values of a file are.

    Args:
      path: what errors name.
      values: of the file, or a sample of them; any shape.
      declared: what the user says, of INTENSITIES.
      stated: hu or 8bit where the file says so. HU are believed where the values do not contradict.
      padding: ranges that the file says are padding.

    Raises:
      InputError: the values fit nothing, more than one, not what was declared, or look like HU
        with an offset, which
        is never assumed.
    """
    values = np.asarray(values).ravel()
    if declared != "auto":
        found = _as_declared(values, declared, stated, padding)
        if found is None:
            reason = f"{described(values, padding)} cannot be what --intensity={declared} says"
            raise InputError(f"{path}: {reason}; they {_advice(values, stated, padding)}")
        return found
    rest, empty = set_aside(values, padding)
    windowed = _windowed(rest)
    assumed = tuple(bounds for bounds in empty if bounds not in padding)
    if _is_hu(values, rest) and not windowed:
        return Reading("hu", empty, assumed)
    if windowed and stated != "hu" and not _lone_air(values, rest):
        return Reading("8bit", empty, assumed)
    if stated == "hu" and not windowed and _fits(rest, 0):
        return Reading("hu", empty, assumed)
    raise InputError(f"{path}: {described(values, padding)} {_advice(values, stated, padding)}")


def looks_like(values: np.ndarray, padding: Ranges = ()) -> tuple[str, ...]:
    """Returns which kinds of HU (OFFSETS) the values of a file may be by their range."""
    return tuple(kind for kind in OFFSETS if _looks(np.asarray(values).ravel(), kind, padding))


def kinds_accepted(
    values: np.ndarray, stated: str = "auto", padding: Ranges = ()
) -> tuple[str, ...]:
    """Returns which of INTENSITIES a user may declare of these values."""
    values = np.asarray(values).ravel()
    return tuple(
        kind
        for kind in INTENSITIES
        if kind != "auto" and _as_declared(values, kind, stated, padding)
    )


def set_aside(
    values: np.ndarray, padding: Ranges = ()
) -> tuple[np.ndarray, tuple[tuple[float, float], ...]]:
    """Returns the values [..] that are no padding, and the ranges that are.

    Padding is what the file declares so and lies at an end of the other values, and one lowest or
    highest value that lies alone, far from the rest; of lowest ones, two.
    """
    rest = values
    found = []
    for low, high in padding:
        inside = _inside(rest, [(low, high)])
        others = rest[~inside]
        if others.size and ((others < low).mean() <= BEYOND or (others > high).mean() <= BEYOND):
            rest = others
            found.append((low, high))
    for _ in range(2):  # what a scanner did not measure, and what a later program filled in
        lowest = rest.min()
        others = rest[rest > lowest]
        if others.size and others.min() - lowest >= ALONE_BELOW:
            rest = others
            found.append((float(lowest), float(lowest)))
    highest = rest.max()
    others = rest[rest < highest]
    if others.size and highest - others.max() >= ALONE_ABOVE:
        rest = others
        found.append((float(highest), float(highest)))
    return rest, tuple(found)


def remedy(kind: str, field: str = "intensity") -> str:
    """Returns the flag that declares it, as eval.py and train.py spell it."""
    return f"--{field}={kind} (in training --config.data.{field}={kind})"


def described(values: np.ndarray, padding: Ranges = ()) -> str:
    """Returns the range of values in words, padding apart."""
    rest, empty = set_aside(values.ravel(), padding)
    spans = ", ".join(_span(*bounds) for bounds in empty if _inside(values, [bounds]).any())
    return f"values {rest.min():g}..{rest.max():g}" + (
        f" (and padding of {spans})" if spans else ""
    )


def _as_declared(values: np.ndarray, declared: str, stated: str, padding: Ranges) -> Reading | None:
    """Follows the user; None if the values look like something else, or lie where no CT does."""
    padded = _unwrapped_ranges(padding, declared)
    rest, empty = set_aside(_unwrapped(values, declared), padded)
    found = Reading(
        declared, empty, tuple(bounds for bounds in empty if bounds not in padded), declared=True
    )
    if declared == "8bit":
        beyond = rest.min() < -OVERSHOOT or rest.max() > 255 + OVERSHOOT
        return None if beyond or _unit(rest) else found
    if rest.min() == rest.max():  # nothing but padding, or nothing but air
        return found
    if stated == "8bit" or (declared != "hu" and _windowed(rest)):
        return None
    if not _fits(rest, OFFSETS[declared]):
        others = set(looks_like(values, padding)) - {declared}
        hu = rest - OFFSETS[declared]
        if others or not EMPTY <= np.median(hu) <= DENSE or (hu < LOWEST).mean() > RARE:
            return None
    return found


def _advice(values: np.ndarray, stated: str, padding: Ranges) -> str:
    """Returns what values may be and how to say so; only what `decide` accepts."""
    rest, _ = set_aside(values, padding)
    if _windowed(rest) and rest.max() > 1:
        which = "" if stated == "8bit" else "HU or 8-bit, declare which with --intensity=hu or "
        return f"may be {which or '8-bit, use '}{remedy('8bit')}"
    found = looks_like(values, padding)
    if found:
        names = " or ".join(NAMES[kind] for kind in found)
        return (
            f"look like {names}, which is not assumed: declare it with "
            f"{' or '.join(map(remedy, found))}"
        )
    neither = "are neither HU (air is -1000) nor 8-bit (0..255), export it again as one of them"
    kinds = kinds_accepted(values, stated, padding)
    return (
        f"{neither}, or declare it if you know better: {' or '.join(map(remedy, kinds))}"
        if kinds
        else neither
    )


def _is_hu(values: np.ndarray, rest: np.ndarray) -> bool:
    air = rest.min() <= HOLDS_AIR or (rest.min() < 0 and _lone_air(values, rest))
    return bool(air and rest.max() <= HIGHEST and _fits(rest, 0))


def _lone_air(values: np.ndarray, rest: np.ndarray) -> bool:
    """Returns whether what was set aside below the rest may be air in HU, as around a cut-out."""
    lowest = values.min()
    return bool(lowest < rest.min() and EMPTY <= lowest <= HOLDS_AIR)


def _windowed(rest: np.ndarray) -> bool:
    return bool(rest.min() >= 0 and rest.max() <= 255 and not _unit(rest))


def _unit(rest: np.ndarray) -> bool:
    return bool(rest.min() >= 0 and rest.max() <= 1 and (rest % 1).any())


def _looks(values: np.ndarray, kind: str, padding: Ranges) -> bool:
    unwrapped = _unwrapped(values, kind)
    if kind == "hu_signed" and (values.min() < 0 or not (unwrapped != values).any()):
        return False
    rest, _ = set_aside(unwrapped, _unwrapped_ranges(padding, kind))
    hu = rest - OFFSETS[kind]
    return bool(
        hu.min() <= HOLDS_AIR and hu.max() > HOLDS_AIR and hu.max() <= HIGHEST and _fits(hu, 0)
    )


def _fits(rest: np.ndarray, offset: float) -> bool:
    below = rest < EMPTY + offset
    above = rest > DENSE + offset
    return bool(below.mean() <= RARE and above.mean() <= RARE)


def _unwrapped(values: np.ndarray, kind: str) -> np.ndarray:
    values = np.asarray(values, np.float32)
    if kind != "hu_signed":
        return values
    return np.where(values > HIGHEST, values - np.float32(65536), values)


def _unwrapped_ranges(ranges: Ranges, kind: str) -> Ranges:
    found = [_unwrapped(np.array(bounds), kind) for bounds in ranges]
    return [(float(low), float(high)) for low, high in found]


def _inside(values: np.ndarray, ranges: Ranges) -> np.ndarray:
    found = np.zeros(values.shape, bool)
    for low, high in ranges:
        found |= (values >= low) & (values <= high)
    return found


def _span(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g}..{high:g}"
