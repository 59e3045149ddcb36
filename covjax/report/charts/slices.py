"""Pictures of slices: outlines, errors, what a classifier looks at, augmentation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covjax.colours import COLOURS, rgb
from covjax.report.charts.axes import ORANGE, SKY, to_png

TRUTH = SKY
# missed pixels have the colour of the truth, invented ones that of the prediction
PREDICTED = ORANGE
BOTH = "#f0f0f0"
HEAT = "viridis"  # its lightness grows evenly, for every eye
IGNORE = 255
GAP = 0.02  # between the panels of a picture, in widths of a panel
TITLE = 0.2  # height of a block's title, likewise


def example_slice(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> bytes:
    """Draws a slice ([H, W] uint8) as it is, with the outlines of the infection, and its errors.

    The true outline is solid and the predicted one dashed; pixels that are infected in the truth
    only, in the prediction only and in both have a colour each. Ignored pixels (255) have neither.
    """
    figure, panels = _panels(image, 3)
    # The dashes are thinner than the solid line under them, so that both show where they agree.
    for mask, colour, line, thickness in (
        (truth, TRUTH, "solid", 2.4),
        (predicted, PREDICTED, "dashed", 1.3),
    ):
        _outline(panels[1], infected(mask), colour, line, thickness)
    panels[2].imshow(errors(truth, predicted))
    return to_png(figure)


def class_slice(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> bytes:
    """Draws a slice ([H, W] uint8) as it is, its classes as marked and as predicted, its errors.

    Errors as of `example_slice`: of infected or not, whatever the class.
    """
    figure, panels = _panels(image, 4)
    for axes, mask in zip(panels[1:3], (truth, predicted), strict=True):
        axes.imshow(class_colours(mask))
    panels[3].imshow(errors(truth, predicted))
    return to_png(figure)


def class_colours(mask: np.ndarray) -> np.ndarray:
    """Returns a mask of classes as RGBA [H, W, 4], 0 to 1, clear where it has none."""
    picture = np.zeros((*mask.shape, 4))
    for k, colour in enumerate(COLOURS, start=1):
        picture[mask == k] = (*(value / 255 for value in rgb(colour)), 0.75)
    return picture


def heat_slice(image: np.ndarray, heat: np.ndarray) -> bytes:
    """Draws a slice ([H, W] uint8) as it is, and under its heat ([H, W], 0 to 1)."""
    figure, panels = _panels(image, 2)
    panels[1].imshow(heat, cmap=HEAT, vmin=0, vmax=1, alpha=0.15 + 0.6 * np.clip(heat, 0, 1))
    return to_png(figure)


def augmentation_grid(previews: Mapping[str, Any]) -> bytes:
    """Draws slices in rows, as they are and as they are augmented in columns, one block per stage.

    Each block has ids [N], images [M, N, H, W] (0 to 255), masks [M, N, h, w] and infected [M, N]
    (0 to 1). Infection is outlined; where labels are mixed, the infected share is written into the
    picture.
    """
    blocks = [
        (title, block, block.images.shape[2] / block.images.shape[3])
        for title, block in previews.items()
    ]
    columns = max(len(block.images) for _, block, _ in blocks)
    height = sum(TITLE + len(block.ids) * (aspect + GAP) for _, block, aspect in blocks)
    width = columns * (1 + GAP)
    figure = Figure(figsize=(1.5 * width, 1.5 * height), dpi=130, facecolor="white")
    top = height
    for title, block, aspect in blocks:
        figure.text(
            0.005,
            (top - TITLE / 2) / height,
            f"{title}: as it is, and augmented",
            va="center",
            fontsize=10,
        )
        top -= TITLE
        for row, name in enumerate(block.ids):
            top -= aspect + GAP
            for column in range(len(block.images)):
                axes = figure.add_axes(
                    (column * (1 + GAP) / width, top / height, 1 / width, aspect / height)
                )
                mixed = 0 < block.infected[column, row] < 1
                note = f"{block.infected[column, row]:.0%} infected" if mixed else ""
                _augmented(
                    axes,
                    block.images[column, row],
                    block.masks[column, row],
                    note if column else name,
                )
    return to_png(figure)


def _augmented(axes: Axes, image: np.ndarray, mask: np.ndarray, note: str) -> None:
    height, width = mask.shape
    axes.set_axis_off()
    # Spread over the mask, which may differ in size.
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent, aspect="auto")
    _outline(axes, infected(mask), TRUTH, "solid", 1.0)
    axes.text(
        0.03,
        0.97,
        note,
        transform=axes.transAxes,
        va="top",
        fontsize=6,
        color="white",
        backgroundcolor="#0008",
    )


def infected(mask: np.ndarray) -> np.ndarray:
    """Returns where a mask (0, 1, 255 = ignored) says infected."""
    return (mask > 0) & (mask != IGNORE)


def error_counts(truth: np.ndarray, predicted: np.ndarray) -> dict[str, int]:
    """Returns how many pixels are right and wrong, without the ignored ones."""
    true = infected(truth)
    called = infected(predicted)
    counted = truth != IGNORE
    return {
        "true_positive": int((true & called).sum()),
        "false_positive": int((~true & called & counted).sum()),
        "false_negative": int((true & ~called).sum()),
        "true_negative": int((~true & ~called & counted).sum()),
    }


def errors(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns the error map as RGBA [H, W, 4], 0 to 1, clear where both say background."""
    true = infected(truth)
    called = infected(predicted)
    counted = truth != IGNORE
    picture = np.zeros((*truth.shape, 4))
    for chosen, colour, alpha in (
        (true & called, BOTH, 0.55),
        (~true & called & counted, PREDICTED, 0.85),
        (true & ~called, TRUTH, 0.85),
    ):
        picture[chosen] = (*(value / 255 for value in rgb(colour)), alpha)
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
        columns = np.arange(-1, width + 1)
        rows = np.arange(-1, height + 1)
        axes.contour(
            columns, rows, padded, [0.5], colors=colour, linestyles=line, linewidths=thickness
        )
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
