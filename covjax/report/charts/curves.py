"""The charts of a run: how it was trained, and what its two networks get right."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from covjax.report.charts.axes import (
    BLUE,
    DARK,
    GREY,
    SKY,
    VERMILLION,
    add_legend,
    add_legend_above,
    new_axes,
    short,
    style,
    to_png,
)

Floats = NDArray[np.floating]
Point = tuple[float, float]


def learning_curves(
    epochs: Sequence[int],
    curves: Mapping[str, Sequence[float]],
    ylabel: str,
    best_epoch: int | None,
) -> bytes:
    """Draws one line per named curve over the epochs ([E] values each, NaN leaves a gap)."""
    figure, axes = new_axes("epoch", ylabel)
    style = {"validation": (VERMILLION, "--", "s"), "training": (BLUE, "-", "o")}
    for name, values in curves.items():
        colour, line, marker = style[name]
        size = 4 if len(epochs) <= 30 else 0
        axes.plot(epochs, values, line, color=colour, marker=marker, markersize=size, label=name)
    if best_epoch is not None:
        axes.axvline(best_epoch, color=GREY, linestyle=":", label=f"kept: epoch {best_epoch}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(axes)
    return to_png(figure)


def confusion(matrix: Floats, classes: Sequence[str]) -> bytes:
    """Draws a [K, K] table of counts (row = truth), shaded by the share of each row."""
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    side = max(3.5, 0.9 * len(classes) + 1.4)
    figure, axes = new_axes("predicted", "true", (side + 0.6, side))
    axes.grid(False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.5 else DARK
        percent = f"{share:.1%}" if totals[row, 0] else "no such case"
        axes.text(column, row - 0.06, percent, ha="center", va="bottom", color=colour, fontsize=12)
        axes.text(
            column,
            row + 0.06,
            f"{matrix[row, column]:,.0f}",
            ha="center",
            va="top",
            color=colour,
            fontsize=9,
        )
    classes = [short(name, 16) for name in classes]
    axes.set_xticks(range(len(classes)), classes, parse_math=False)
    axes.set_yticks(range(len(classes)), classes, rotation=90, va="center", parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return to_png(figure)


def roc(
    false_positive_rate: Floats, true_positive_rate: Floats, area: float, point: Point
) -> bytes:
    """Draws a ROC curve; `point` is the (false, true) positive rate in use, NaN where undefined."""
    figure, axes = new_axes(
        "false positive rate (1 - specificity)", "true positive rate (sensitivity)", (4.2, 4.0)
    )
    axes.plot([0, 1], [0, 1], ":", color=GREY, label="chance (area 0.500)")
    _draw_curve(axes, false_positive_rate, true_positive_rate, area, point)
    add_legend(axes, "lower right")
    return to_png(figure)


def precision_recall(
    recall: Floats, precision: Floats, area: float, prevalence: float, point: Point
) -> bytes:
    """Draws a precision-recall curve in steps, recall ascending; `point` is the pair in use."""
    figure, axes = new_axes("recall (sensitivity)", "precision", (4.2, 4.0))
    axes.axhline(prevalence, linestyle=":", color=GREY, label=f"chance (area {prevalence:.3f})")
    _draw_curve(axes, recall, precision, area, point, drawstyle="steps-pre")
    add_legend(axes, "lower left")
    return to_png(figure)


def _draw_curve(
    axes: Axes, x: Floats, y: Floats, area: float, point: Point, drawstyle: str = "default"
) -> None:
    label = f"classifier (area {area:.3f})"
    axes.plot(x, y, color=BLUE, linewidth=2, drawstyle=drawstyle, label=label)
    axes.plot(*point, "o", color=VERMILLION, label="threshold in use")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")


def dice_histogram(dice: Floats, edges: Floats) -> bytes:
    """Draws how the Dice scores of slices ([N], 0 to 1) spread over bins, with their median."""
    figure, axes = new_axes("Dice of one slice", "slices")
    axes.hist(dice, bins=edges.tolist(), color=SKY, edgecolor="white", linewidth=0.8)
    median = float(np.median(dice))
    axes.axvline(
        median, color=VERMILLION, linestyle="--", linewidth=2, label=f"median {median:.3f}"
    )
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend_above(axes)
    return to_png(figure)


def share_scatter(true: Floats, predicted: Floats, called: NDArray[np.bool_] | None) -> bytes:
    """Draws predicted over true infected share of each slice ([N], 0 to 1), with the identity line.

    `called` [N] tells which slices the classifier passed on; None where there was no classifier.
    """
    figure, axes = new_axes("true infected share [%]", "predicted infected share [%]", (4.2, 4.0))
    top = 105 * max(float(true.max()), float(predicted.max()), 0.01)
    axes.plot([0, top], [0, top], color=GREY, linewidth=1, label="perfect agreement")
    passed = np.ones(len(true), bool) if called is None else called
    label = "slice" if called is None else "called infected"
    axes.plot(
        100 * true[passed],
        100 * predicted[passed],
        "o",
        color=BLUE,
        alpha=0.5,
        markersize=4,
        label=label,
    )
    if not passed.all():
        axes.plot(
            100 * true[~passed],
            100 * predicted[~passed],
            "x",
            color=VERMILLION,
            markersize=5,
            label="called healthy",
        )
    axes.set(xlim=(-0.02 * top, top), ylim=(-0.02 * top, top), aspect="equal")
    add_legend_above(axes)
    return to_png(figure)


def bland_altman(mean: Floats, difference: Floats, bias: float, limits: Point) -> bytes:
    """Draws predicted minus true infected share over their mean ([N], 0 to 1), bias and limits."""
    figure, axes = new_axes(
        "mean of true and predicted share [%]", "predicted - true share [%]", (4.2, 4.0)
    )
    axes.axhline(0, color=GREY, linewidth=1)
    axes.plot(100 * mean, 100 * difference, "o", color=BLUE, alpha=0.5, markersize=4)
    axes.axhline(100 * bias, color=VERMILLION, linewidth=2, label=f"bias {100 * bias:+.2f}")
    label = f"limits {100 * limits[0]:+.2f} to {100 * limits[1]:+.2f}"
    for limit in limits:
        axes.axhline(100 * limit, color=VERMILLION, linewidth=1.5, linestyle="--", label=label)
        label = "_"
    low = 100 * min(limits[0], difference.min(), 0)
    high = 100 * max(limits[1], difference.max(), 0)
    room = max(high - low, 0.01)
    axes.set_ylim(low - 0.05 * room, high + 0.05 * room)
    add_legend_above(axes)
    return to_png(figure)


def reliability(
    predicted: Floats, observed: Floats, counts: NDArray[np.integer], edges: Floats
) -> bytes:
    """Draws the share of infected slices over the mean probability of each bin ([B], or NaN).

    Under it the number of slices of every bin; `edges` [B + 1] are probabilities.
    """
    figure = Figure(figsize=(4.2, 4.6), dpi=150, layout="constrained", facecolor="white")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for one in (axes, below):
        style(one)
    axes.plot([0, 1], [0, 1], ":", color=GREY, label="perfect calibration")
    axes.plot(predicted, observed, "o-", color=BLUE, linewidth=2, markersize=5, label="classifier")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="share infected")
    bars = below.bar(
        edges[:-1],
        counts,
        np.diff(edges),
        align="edge",
        color=SKY,
        edgecolor="white",
        linewidth=0.8,
    )
    below.bar_label(
        bars, [f"{count:,}" if count else "" for count in counts], fontsize=7, color=DARK
    )
    below.set(
        xlabel="probability of infection", ylabel="slices", ylim=(0, 1.3 * max(counts.max(), 1))
    )
    below.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    add_legend_above(axes, columns=2, fontsize=9)
    return to_png(figure)


def feature_map(points: Floats, label: NDArray[Any], explained: Sequence[float]) -> bytes:
    """Draws slices by the first two principal components of their features, [N, 2]."""
    first, second = explained
    figure, axes = new_axes(
        f"component 1 ({first:.0%} of the variance)",
        f"component 2 ({second:.0%} of the variance)",
        (4.2, 4.6),
    )
    for value, name, marker, colour in (
        (0, "healthy", "o", BLUE),
        (1, "infected", "^", VERMILLION),
    ):
        chosen = label == value
        if chosen.any():
            axes.plot(
                *points[chosen].T, marker, color=colour, alpha=0.65, markersize=6, mew=0, label=name
            )
    add_legend(axes)
    return to_png(figure)
