"""The figures of an audit: each function takes plain arrays and returns a PNG."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from covjax.report.charts.axes import (
    BLUE,
    GREY,
    ORANGE,
    SKY,
    VERMILLION,
    add_legend,
    new_axes,
    short,
    to_png,
)
from covjax.report.charts.slices import IGNORE

Pixels = NDArray[np.uint8]
SPLITS = {
    "train": ("training", BLUE),
    "val": ("validation", SKY),
    "test": ("test", ORANGE),
    "": ("not divided", GREY),
}
MOST = 24  # patients shown


def patient_bars(patients: NDArray[Any], splits: NDArray[Any]) -> bytes:
    """Draws the slices of each patient ([M] names) stacked by split ([M]), the largest first."""
    names = [name for name, _ in Counter(p for p in patients if p).most_common(MOST)]
    place = {name: k for k, name in enumerate(names)}
    figure, axes = new_axes("slices", "", (4.6, max(2.2, 0.27 * len(names) + 1.2)))
    left = np.zeros(len(names))
    for split, (title, colour) in SPLITS.items():
        counts = Counter(p for p in patients[splits == split] if p in place)
        widths = np.array([counts[name] for name in names], float)
        if widths.any():
            axes.barh(
                range(len(names)), widths, left=left, color=colour, label=title, edgecolor="white"
            )
            left += widths
    shown = [short("".join(c if c.isprintable() else "?" for c in name)) for name in names]
    axes.set_yticks(range(len(names)), shown, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(axes)
    return to_png(figure)


def label_bars(labels: NDArray[Any], splits: NDArray[Any]) -> bytes:
    """Draws how many slices of each split ([M]) are healthy (0) and infected (1)."""
    names = [split for split in SPLITS if (splits == split).any()]
    figure, axes = new_axes("", "slices", (4.6, 3.0))
    for k, (title, colour) in enumerate((("healthy", SKY), ("infected", VERMILLION))):
        counts = [int(((splits == split) & (labels == k)).sum()) for split in names]
        bars = axes.bar(
            np.arange(len(names)) + (k - 0.5) * 0.38, counts, 0.36, color=colour, label=title
        )
        axes.bar_label(bars, fontsize=8)
    axes.set_xticks(range(len(names)), [SPLITS[split][0] for split in names])
    axes.margins(y=0.25)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(axes, "upper right")
    return to_png(figure)


def scatter(
    x: NDArray[Any], y: NDArray[Any], marked: NDArray[np.bool_], xlabel: str, ylabel: str
) -> bytes:
    """Draws one point per slice, those `marked` (bool [M]) as crosses."""
    figure, axes = new_axes(xlabel, ylabel)
    axes.plot(x[~marked], y[~marked], "o", color=BLUE, alpha=0.35, markersize=4, label="slice")
    axes.plot(x[marked], y[marked], "x", color=VERMILLION, markersize=6, label="unusual")
    add_legend(axes)
    return to_png(figure)


def example(sides: Sequence[tuple[Pixels, Pixels]], inner: NDArray[Any] | None) -> bytes:
    """Draws one or two pictures, each (image, mask) [H, W], with what is labelled infected tinted.

    `inner` (top, left, bottom, right) is drawn as a frame.
    """
    height = max(image.shape[0] / image.shape[1] for image, _ in sides)
    figure = Figure(figsize=(3.2 * len(sides), 3.2 * min(height, 2)), dpi=150, facecolor="white")
    for k, (image, mask) in enumerate(sides):
        axes = figure.add_axes((k / len(sides), 0, 1 / len(sides) - 0.01 * (len(sides) - 1), 1))
        axes.set_axis_off()
        axes.imshow(_tinted(image, mask), interpolation="nearest")
        if inner is not None:
            top, left, bottom, right = inner
            frame = Rectangle(
                (left - 0.5, top - 0.5),
                right - left,
                bottom - top,
                fill=False,
                edgecolor=BLUE,
                linewidth=2,
                linestyle="--",
            )
            axes.add_patch(frame)
    return to_png(figure)


def _tinted(image: Pixels, mask: Pixels) -> Pixels:
    colour = np.repeat(image[..., None].astype(float), 3, -1)
    for value, tint in ((1, (0xD5, 0x5E, 0x00)), (IGNORE, (0x8A, 0x8F, 0x98))):
        where = mask == value
        colour[where] = 0.55 * colour[where] + 0.45 * np.array(tint)
    return colour.astype(np.uint8)
