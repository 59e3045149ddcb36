"""The style of all charts: colours, axes, legends, and the PNG; no global plot state."""

import io
import warnings
from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, which stays distinct under every common colour vision deficiency.
BLUE = "#0072B2"
ORANGE = "#E69F00"
VERMILLION = "#D55E00"
SKY = "#56B4E9"
GREY = "#8a8f98"
DARK = "#1c1f24"


def new_axes(
    xlabel: str, ylabel: str, size: tuple[float, float] = (4.6, 3.5)
) -> tuple[Figure, Axes]:
    """Returns a figure of `size` inches with one pair of axes."""
    figure = Figure(figsize=size, dpi=150, layout="constrained", facecolor="white")
    axes = figure.add_subplot(facecolor="white", xlabel=xlabel, ylabel=ylabel)
    style(axes)
    return figure, axes


def style(axes: Axes) -> None:
    """Gives axes the style of all charts."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, color=GREY)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Names the rows of a chart of horizontal bars, the first on top."""
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def to_png(figure: Figure) -> bytes:
    """Returns a figure as a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Names in a script that the font lacks are drawn as boxes; the page and the tables have
        # them in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def add_legend(
    axes: Axes, where: Literal["best", "upper right", "lower right", "lower left"] = "best"
) -> None:
    """Names what was drawn, in the corner `where`."""
    axes.legend(loc=where, fontsize=9, frameon=True, framealpha=0.9, edgecolor="none")


def add_legend_above(axes: Axes, columns: int = 3, fontsize: int = 8) -> None:
    """Puts the legend where it covers nothing."""
    axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=columns,
        fontsize=fontsize,
        frameon=False,
        columnspacing=1.2,
    )


def short(name: str, length: int = 24) -> str:
    """Returns a name in one line and short enough for an axis; its middle goes first."""
    line = " ".join(name.split())
    return line if len(line) <= length else f"{line[: length // 2]}…{line[-(length // 2 - 1) :]}"
