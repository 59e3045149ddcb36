"""The figures of a report: each function takes plain arrays and returns a PNG, with no global plot state."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's palette, which stays distinct under every common colour vision deficiency.
BLUE, ORANGE, VERMILLION, SKY, GREY = "#0072B2", "#E69F00", "#D55E00", "#56B4E9", "#8a8f98"
TRUTH, PREDICTED = SKY, ORANGE
IGNORE = 255


def _axes(xlabel: str, ylabel: str, size: tuple[float, float] = (4.6, 3.5)) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, dpi=150, layout="constrained", facecolor="white")
    axes = figure.add_subplot(facecolor="white", xlabel=xlabel, ylabel=ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, color=GREY)
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _legend(axes: Axes, where: str = "best") -> None:
    axes.legend(loc=where, fontsize=9, frameon=True, framealpha=0.9, edgecolor="none")


def learning_curves(
    epochs: Sequence[int], curves: Mapping[str, Sequence[float]], ylabel: str, best_epoch: int | None
) -> bytes:
    """Draws one line per named curve over the epochs ([E] values each, NaN leaves a gap)."""
    figure, axes = _axes("epoch", ylabel)
    style = {"validation": (VERMILLION, "--", "s"), "training": (BLUE, "-", "o")}
    for name, values in curves.items():
        colour, line, marker = style[name]
        size = 4 if len(epochs) <= 30 else 0
        axes.plot(epochs, values, line, color=colour, marker=marker, markersize=size, label=name)
    if best_epoch is not None:
        axes.axvline(best_epoch, color=GREY, linestyle=":", label=f"kept: epoch {best_epoch}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes)
    return _png(figure)


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> bytes:
    """Draws a [K, K] table of counts (row = truth), shaded by the share of each row."""
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    side = max(3.5, 0.9 * len(classes) + 1.4)
    figure, axes = _axes("predicted", "true", (side + 0.6, side))
    axes.grid(False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.5 else "#1c1f24"
        percent = f"{share:.1%}" if totals[row, 0] else "no such case"
        axes.text(column, row - 0.06, percent, ha="center", va="bottom", color=colour, fontsize=12)
        axes.text(column, row + 0.06, f"{matrix[row, column]:,.0f}", ha="center", va="top", color=colour, fontsize=9)
    axes.set_xticks(range(len(classes)), classes, parse_math=False)
    axes.set_yticks(range(len(classes)), classes, rotation=90, va="center", parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return _png(figure)


def roc(false_positive_rate: np.ndarray, true_positive_rate: np.ndarray, area: float, point: tuple) -> bytes:
    """Draws a ROC curve; `point` is the (false, true) positive rate in use, NaN where undefined."""
    figure, axes = _axes("false positive rate (1 - specificity)", "true positive rate (sensitivity)", (4.2, 4.0))
    axes.plot([0, 1], [0, 1], ":", color=GREY, label="chance (area 0.500)")
    axes.plot(
        false_positive_rate,
        true_positive_rate,
        color=BLUE,
        linewidth=2,
        label=f"classifier (area {area:.3f})",
    )
    axes.plot(*point, "o", color=VERMILLION, label="threshold in use")
    _square(axes)
    _legend(axes, "lower right")
    return _png(figure)


def precision_recall(recall: np.ndarray, precision: np.ndarray, area: float, prevalence: float, point: tuple) -> bytes:
    """Draws a precision-recall curve in steps, recall ascending; `point` is (recall, precision) in use."""
    figure, axes = _axes("recall (sensitivity)", "precision", (4.2, 4.0))
    axes.axhline(prevalence, linestyle=":", color=GREY, label=f"chance (area {prevalence:.3f})")
    axes.plot(
        recall,
        precision,
        color=BLUE,
        linewidth=2,
        drawstyle="steps-pre",
        label=f"classifier (area {area:.3f})",
    )
    axes.plot(*point, "o", color=VERMILLION, label="threshold in use")
    _square(axes)
    _legend(axes, "lower left")
    return _png(figure)


def _square(axes: Axes) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")


def dice_histogram(dice: np.ndarray) -> bytes:
    """Draws how the Dice scores of single slices ([N], 0 to 1) spread, with their median."""
    figure, axes = _axes("Dice of one slice", "slices")
    axes.hist(dice, bins=np.linspace(0, 1, 21), color=SKY, edgecolor="white", linewidth=0.8)
    median = float(np.median(dice))
    axes.axvline(median, color=VERMILLION, linestyle="--", linewidth=2, label=f"median {median:.3f}")
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes, "upper left")
    return _png(figure)


def share_scatter(true: np.ndarray, predicted: np.ndarray, called: np.ndarray | None) -> bytes:
    """Draws predicted over true infected share of each slice ([N], 0 to 1), with the identity line.

    `called` [N] tells which slices the classifier passed on; None where there was no classifier.
    """
    figure, axes = _axes("true infected share [%]", "predicted infected share [%]", (4.2, 4.0))
    top = 105 * max(float(true.max()), float(predicted.max()), 0.01)
    axes.plot([0, top], [0, top], color=GREY, linewidth=1, label="perfect agreement")
    passed = np.ones(len(true), bool) if called is None else called
    label = "slice" if called is None else "called infected"
    axes.plot(100 * true[passed], 100 * predicted[passed], "o", color=BLUE, alpha=0.5, markersize=4, label=label)
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
    _legend(axes, "upper left")
    return _png(figure)


def example_slice(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> bytes:
    """Draws a slice ([H, W] uint8) with the true (solid) and predicted (dashed) outline of the infection."""
    height, width = image.shape
    figure = Figure(figsize=(3.2, 3.2 * height / width), dpi=150, facecolor="black")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    # The dashes are thinner than the solid line under them, so that both show where they agree.
    for mask, colour, line, thickness in (
        (truth, TRUTH, "solid", 2.8),
        (predicted, PREDICTED, "dashed", 1.6),
    ):
        # A margin of background closes outlines that touch the border of the slice.
        inside = np.pad((mask > 0) & (mask != IGNORE), 1).astype(float)
        if inside.any():
            columns, rows = np.arange(-1, width + 1), np.arange(-1, height + 1)
            axes.contour(columns, rows, inside, [0.5], colors=colour, linestyles=line, linewidths=thickness)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return _png(figure)
