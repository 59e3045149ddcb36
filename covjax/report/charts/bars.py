"""Scores and differences of several runs or variants, one below the other."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from covjax.report.charts.axes import (
    BLUE,
    DARK,
    GREY,
    ORANGE,
    SKY,
    VERMILLION,
    add_legend,
    name_rows,
    new_axes,
    short,
    to_png,
)

Floats = NDArray[np.floating]


def score_bars(
    names: Sequence[str],
    values: Floats,
    low: Floats,
    high: Floats,
    xlabel: str,
    dots: Sequence[Floats] = (),
) -> bytes:
    """Draws a bar per name ([B], NaN for none) with a whisker from low to high.

    `dots` are values on each bar.
    """
    figure, axes = _row_axes(names, textwrap.fill(xlabel, 26), (3.4, 0.8))
    places = np.arange(len(names))
    axes.barh(places, np.nan_to_num(values), height=0.62, color=SKY)
    span = _span(values, low, high)
    some = span.sum(0) > 0  # a single run has no whisker
    axes.errorbar(
        values[some], places[some], xerr=span[:, some], fmt="none", ecolor=DARK, capsize=3
    )
    _draw_dots(axes, dots, size=5)
    # The number stands clear of whisker and dots.
    ends = np.fmax(high, values)
    if len(dots):
        ends = np.fmax(ends, [max(ones, default=np.nan) for ones in dots])
    for place, value, end in zip(places, values, ends, strict=True):
        axes.annotate(
            "undefined" if np.isnan(value) else f"{value:.3f}",
            (float(np.nan_to_num(max(end, 0))), place),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=DARK,
        )
    left = float(np.nanmin([*low, *values, 0.0]))
    right = float(np.nanmax([*ends, 1e-6]))
    axes.set_xlim(left * 1.05, right * 1.22)
    return to_png(figure)


def differences(
    names: Sequence[str],
    values: Floats,
    low: Floats,
    high: Floats,
    xlabel: str,
    dots: Sequence[Floats] = (),
) -> bytes:
    """Draws a point per name ([B], NaN for none) with a whisker, and a line at no difference.

    `dots` are the values of each name that its point is the mean of.
    """
    figure, axes = _row_axes(names, textwrap.fill(xlabel, 34), (3.8, 0.9))
    axes.axvline(0, color=GREY, linewidth=1.2)
    axes.errorbar(
        values,
        np.arange(len(names)),
        xerr=np.nan_to_num(_span(values, low, high)),
        fmt="o",
        color=BLUE,
        ecolor=DARK,
        capsize=3,
        markersize=6,
    )
    _draw_dots(axes, dots, size=4)
    drawn = np.concatenate([low, high, values, *dots])
    reach = 1.15 * max(1e-3, float(np.abs(np.nan_to_num(drawn)).max()))
    axes.set_xlim(-reach, reach)
    return to_png(figure)


def grouped_bars(names: Sequence[str], values: Mapping[str, Floats]) -> bytes:
    """Draws for each name ([B]) a bar per kind of value ([B], 0 to 1, or NaN), with its number."""
    figure, axes = new_axes("", "", (6.4, 0.75 * len(names) + 0.9))
    for k, ((title, lengths), colour) in enumerate(
        zip(values.items(), (BLUE, ORANGE), strict=False)
    ):
        bars = axes.barh(
            np.arange(len(names)) + 0.36 * (k - 0.5),
            np.nan_to_num(lengths),
            0.34,
            color=colour,
            label=title,
        )
        texts = ["undefined" if np.isnan(v) else f"{v:.3f}" for v in lengths]
        axes.bar_label(bars, texts, padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), [textwrap.fill(name, 24) for name in names])
    axes.set(xlim=(0, 1.12), ylim=(len(names) - 0.4, -0.6))
    axes.grid(axis="y", visible=False)
    add_legend(axes, "lower right")
    return to_png(figure)


def _row_axes(names: Sequence[str], xlabel: str, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Returns axes with a row per name, wider for long names, so that bars keep their length."""
    names = [short(name) for name in names]
    longest = max(map(len, names), default=0)
    width, height = size
    size = (width + 0.05 * max(longest - 12, 0), height + 0.36 * len(names))
    figure, axes = new_axes(xlabel, "", size)
    name_rows(axes, names)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    return figure, axes


def _span(values: Floats, low: Floats, high: Floats) -> Floats:
    return np.maximum(np.stack([values - low, high - values]), 0)


def _draw_dots(axes: Axes, dots: Sequence[Floats], size: int) -> None:
    for place, ones in enumerate(dots):
        axes.plot(
            ones,
            np.full(len(ones), place),
            "o",
            color=VERMILLION,
            markersize=size,
            mec="white",
            mew=0.6,
        )
