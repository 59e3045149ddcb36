"""The pictures of slices in a report: outlines, errors, and what a classifier looks at, each as a PNG."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covjax.report.plots import ORANGE, SKY, to_png

TRUTH, PREDICTED = SKY, ORANGE  # missed pixels have the colour of the truth, invented ones that of the prediction
BOTH = "#f0f0f0"
HEAT = "viridis"  # its lightness grows evenly, for every eye
IGNORE = 255
GAP = 0.02  # between the panels of a picture, in widths of a panel


def example_slice(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> bytes:
    """Draws a slice ([H, W] uint8) three times: as it is, with the outlines of the infection, and the errors.

    The true outline is solid and the predicted one dashed; pixels that are infected in the truth only, in the
    prediction only and in both have a colour each. Ignored pixels (255) have neither.
    """
    figure, panels = _panels(image, 3)
    # The dashes are thinner than the solid line under them, so that both show where they agree.
    for mask, colour, line, thickness in ((truth, TRUTH, "solid", 2.4), (predicted, PREDICTED, "dashed", 1.3)):
        _outline(panels[1], infected(mask), colour, line, thickness)
    panels[2].imshow(errors(truth, predicted))
    return to_png(figure)


def heat_slice(image: np.ndarray, heat: np.ndarray) -> bytes:
    """Draws a slice ([H, W] uint8) as it is, and under its heat ([H, W], 0 to 1): the hotter, the denser."""
    figure, panels = _panels(image, 2)
    panels[1].imshow(heat, cmap=HEAT, vmin=0, vmax=1, alpha=0.15 + 0.6 * np.clip(heat, 0, 1))
    return to_png(figure)


def infected(mask: np.ndarray) -> np.ndarray:
    """Returns where a mask (0, 1, 255 = ignored) says infected."""
    return (mask > 0) & (mask != IGNORE)


def error_counts(truth: np.ndarray, predicted: np.ndarray) -> dict[str, int]:
    """Returns how many pixels are right and wrong, without the ignored ones."""
    true, called, counted = infected(truth), infected(predicted), truth != IGNORE
    return {
        "true_positive": int((true & called).sum()),
        "false_positive": int((~true & called & counted).sum()),
        "false_negative": int((true & ~called).sum()),
        "true_negative": int((~true & ~called & counted).sum()),
    }


def errors(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns the error map as RGBA [H, W, 4], 0 to 1: clear where truth and prediction say background."""
    true, called, counted = infected(truth), infected(predicted), truth != IGNORE
    picture = np.zeros((*truth.shape, 4))
    for chosen, colour, alpha in (
        (true & called, BOTH, 0.55), (~true & called & counted, PREDICTED, 0.85), (true & ~called, TRUTH, 0.85),
    ):  # fmt: skip
        picture[chosen] = (*(int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)), alpha)
    return picture


def _panels(image: np.ndarray, count: int) -> tuple[Figure, list[Axes]]:
    """Returns a figure of `count` equal panels side by side, each with the slice in it."""
    height, width = image.shape
    total = count + (count - 1) * GAP
    figure = Figure(figsize=(2.4 * total, 2.4 * height / width), dpi=150, facecolor="white")
    panels = [figure.add_axes((k * (1 + GAP) / total, 0, 1 / total, 1)) for k in range(count)]
    for axes in panels:
        axes.set_axis_off()
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    return figure, panels


def _outline(axes: Axes, inside: np.ndarray, colour: str, line: str, thickness: float) -> None:
    height, width = inside.shape
    # A margin of background closes outlines that touch the border of the slice.
    padded = np.pad(inside, 1).astype(float)
    if padded.any():
        columns, rows = np.arange(-1, width + 1), np.arange(-1, height + 1)
        axes.contour(columns, rows, padded, [0.5], colors=colour, linestyles=line, linewidths=thickness)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
