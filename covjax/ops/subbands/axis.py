"""How one axis of a signal is split into sub-bands."""

from typing import NamedTuple

# How a signal goes on beyond its ends: PyWavelets' names.
MODES = {
    "zero": "0 0 | a b c d | 0 0",
    "constant": "a a | a b c d | d d",
    "symmetric": "b a | a b c d | d c",
    "reflect": "c b | a b c d | c b",
    "periodic": "c d | a b c d | a b",
    "periodization": "as periodic, after an odd length repeats its last value; "
    "as few coefficients as values",
    "antisymmetric": "-b -a | a b c d | -d -c",
    "antireflect": "2a-c 2a-b | a b c d | 2d-c 2d-b",
    "smooth": "2a-b continued | a b c d | 2d-c continued",
}


class Filters(NamedTuple):
    """As many taps, an even number, of a low-pass and a high-pass filter, in samples' order."""

    low: tuple[float, ...]
    high: tuple[float, ...]


class Axis(NamedTuple):
    """How one axis is split; static and hashable."""

    axis: int  # counted from the end: -1 is the last one
    size: int  # of the unsplit signal
    filters: Filters
    mode: str

    @property
    def margins(self) -> tuple[int, int]:
        """Values put before the signal and after it, to an even length."""
        taps = len(self.filters.low)
        margin = taps // 2 - 1 if self.mode == "periodization" else taps - 2
        return margin, margin + self.size % 2
