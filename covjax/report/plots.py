"""The charts of a report: each function takes plain arrays and returns a PNG, with no global plot
state.
"""

import io
import textwrap
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's palette, which stays distinct under every common colour vision deficiency.
BLUE = "#0072B2"
ORANGE = "#E69F00"
VERMILLION = "#D55E00"
SKY = "#56B4E9"
GREY = "#8a8f98"


def new_axes(
    xlabel: str, ylabel: str, size: tuple[float, float] = (4.6, 3.5)
) -> tuple[Figure, Axes]:
    """Returns a figure of `size` inches with one pair of axes, in the style of all charts."""
    figure = Figure(figsize=size, dpi=150, layout="constrained", facecolor="white")
    axes = figure.add_subplot(facecolor="white", xlabel=xlabel, ylabel=ylabel)
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, color=GREY)


def to_png(figure: Figure) -> bytes:
    """Returns a figure as a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Names in a script that the font lacks are drawn as boxes; the page and the tables have
        # them in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def add_legend(axes: Axes, where: str = "best") -> None:
    """Names what was drawn, in the corner `where`."""
    axes.legend(loc=where, fontsize=9, frameon=True, framealpha=0.9, edgecolor="none")


def _legend_above(axes: Axes) -> None:
    """Puts the legend where it covers nothing."""
    axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=3,
        fontsize=8,
        frameon=False,
        columnspacing=1.2,
    )


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


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> bytes:
    """Draws a [K, K] table of counts (row = truth), shaded by the share of each row."""
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    side = max(3.5, 0.9 * len(classes) + 1.4)
    figure, axes = new_axes("predicted", "true", (side + 0.6, side))
    axes.grid(False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.5 else "#1c1f24"
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
    false_positive_rate: np.ndarray, true_positive_rate: np.ndarray, area: float, point: tuple
) -> bytes:
    """Draws a ROC curve; `point` is the (false, true) positive rate in use, NaN where undefined."""
    figure, axes = new_axes(
        "false positive rate (1 - specificity)", "true positive rate (sensitivity)", (4.2, 4.0)
    )
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
    add_legend(axes, "lower right")
    return to_png(figure)


def precision_recall(
    recall: np.ndarray, precision: np.ndarray, area: float, prevalence: float, point: tuple
) -> bytes:
    """Draws a precision-recall curve in steps, recall ascending; `point` is (recall, precision) in
    use.
    """
    figure, axes = new_axes("recall (sensitivity)", "precision", (4.2, 4.0))
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
    add_legend(axes, "lower left")
    return to_png(figure)


def _square(axes: Axes) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")


def dice_histogram(dice: np.ndarray, edges: np.ndarray) -> bytes:
    """Draws how the Dice scores of single slices ([N], 0 to 1) spread over bins, with their
    median.
    """
    figure, axes = new_axes("Dice of one slice", "slices")
    axes.hist(dice, bins=edges, color=SKY, edgecolor="white", linewidth=0.8)
    median = float(np.median(dice))
    axes.axvline(
        median, color=VERMILLION, linestyle="--", linewidth=2, label=f"median {median:.3f}"
    )
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_above(axes)
    return to_png(figure)


def share_scatter(true: np.ndarray, predicted: np.ndarray, called: np.ndarray | None) -> bytes:
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
    _legend_above(axes)
    return to_png(figure)


def bland_altman(
    mean: np.ndarray, difference: np.ndarray, bias: float, limits: tuple[float, float]
) -> bytes:
    """Draws predicted minus true infected share over their mean ([N], 0 to 1), with bias and limits
    of agreement.
    """
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
    _legend_above(axes)
    return to_png(figure)


def reliability(
    predicted: np.ndarray, observed: np.ndarray, counts: np.ndarray, edges: np.ndarray
) -> bytes:
    """Draws the observed share of infected slices over the mean probability of each bin ([B], NaN
    where empty).

    Under it the number of slices of every bin; `edges` [B + 1] are probabilities.
    """
    figure = Figure(figsize=(4.2, 4.6), dpi=150, layout="constrained", facecolor="white")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for one in (axes, below):
        _plain(one)
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
        bars, [f"{count:,}" if count else "" for count in counts], fontsize=7, color="#1c1f24"
    )
    below.set(
        xlabel="probability of infection", ylabel="slices", ylim=(0, 1.3 * max(counts.max(), 1))
    )
    below.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=9, frameon=False
    )  # clear of the points
    return to_png(figure)


def feature_map(points: np.ndarray, label: np.ndarray, explained: Sequence[float]) -> bytes:
    """Draws slices by the first two principal components of their features ([N, 2]), healthy and
    infected apart.
    """
    names = [
        f"component {k + 1} ({share:.0%} of the variance)" for k, share in enumerate(explained)
    ]
    figure, axes = new_axes(*names, (4.2, 4.6))
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


def score_bars(
    names: Sequence[str],
    values: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    xlabel: str,
    dots: Sequence = (),
) -> bytes:
    """Draws a bar per name ([B], NaN for none) with a whisker from low to high; `dots` are values
    on each bar.
    """
    names = [short(name) for name in names]
    # for the names, so that bars keep their length beside long ones
    room = max(map(len, names), default=0)
    figure, axes = new_axes(
        textwrap.fill(xlabel, 26), "", (3.4 + 0.05 * max(room - 12, 0), 0.8 + 0.36 * len(names))
    )
    places = np.arange(len(names))
    axes.barh(places, np.nan_to_num(values), height=0.62, color=SKY)
    span = np.maximum(np.stack([values - low, high - values]), 0)
    some = span.sum(0) > 0  # nor has a lone run a whisker
    axes.errorbar(
        values[some], places[some], xerr=span[:, some], fmt="none", ecolor="#1c1f24", capsize=3
    )
    for place, ones in zip(places, dots, strict=False):
        axes.plot(
            ones,
            np.full(len(ones), place),
            "o",
            color=VERMILLION,
            markersize=5,
            mec="white",
            mew=0.6,
        )
    ends = np.fmax(high, values)
    if len(dots):
        # the number stands clear of them
        ends = np.fmax(ends, [max(ones, default=np.nan) for ones in dots])
    right = float(np.nanmax([*ends, *np.zeros(1)]))
    left = min(0.0, float(np.nanmin([*low, *values, *np.zeros(1)])))
    for place, value, end in zip(places, values, ends, strict=True):
        text = "undefined" if np.isnan(value) else f"{value:.3f}"
        axes.annotate(text, (np.nan_to_num(max(end, 0)), place), (5, 0), textcoords="offset points", va="center",
                      fontsize=8, color="#1c1f24")  # fmt: skip
    axes.set_xlim(left * 1.05, max(right, 1e-6) * 1.22)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.set_yticks(places, names, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    return to_png(figure)


def differences(
    names: Sequence[str],
    values: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    xlabel: str,
    dots: Sequence = (),
) -> bytes:
    """Draws a point per name ([B], NaN for none) with a whisker from low to high, and a line at no
    difference.

    `dots` are the values of each name that its point is the mean of.
    """
    names = [short(name) for name in names]
    room = max(map(len, names), default=0)
    figure, axes = new_axes(
        textwrap.fill(xlabel, 34), "", (3.8 + 0.05 * max(room - 12, 0), 0.9 + 0.36 * len(names))
    )
    places = np.arange(len(names))
    axes.axvline(0, color=GREY, linewidth=1.2)
    span = np.nan_to_num(np.maximum(np.stack([values - low, high - values]), 0))
    axes.errorbar(
        values, places, xerr=span, fmt="o", color=BLUE, ecolor="#1c1f24", capsize=3, markersize=6
    )
    for place, ones in zip(places, dots, strict=False):
        axes.plot(
            ones,
            np.full(len(ones), place),
            "o",
            color=VERMILLION,
            markersize=4,
            mec="white",
            mew=0.6,
        )
    reach = 1.15 * max(
        1e-3, *np.abs(np.nan_to_num([*low, *high, *values, *np.concatenate([[0.0], *dots])]))
    )
    axes.set_xlim(-reach, reach)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.set_yticks(places, names, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    return to_png(figure)


def short(name: str, length: int = 24) -> str:
    """Returns a name in one line and short enough for an axis; its middle goes first."""
    line = " ".join(name.split())
    return line if len(line) <= length else f"{line[: length // 2]}…{line[-(length // 2 - 1) :]}"
