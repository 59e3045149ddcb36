"""Sizes of slices: stretched to what a network takes, or at one physical scale, centred in it."""

import math

import numpy as np
from PIL import Image

from covjax.data.formats.images import MAX_PIXELS, MIN_SIDE
from covjax.errors import InputError

SPACINGS = (0.1, 10.0)  # mm, least and most

Shape = tuple[int, int]  # rows, columns


def resize(pixels: np.ndarray, size: Shape, how: Image.Resampling) -> np.ndarray:
    """Resizes uint8 [H, W] to `size` (height, width); bilinear is antialiased when it reduces."""
    if pixels.shape == tuple(size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), how))


def scaled_shape(
    name: object, shape: Shape, spacing: tuple[float, ...] | None, wanted: float
) -> Shape:
    """Returns rows and columns of a slice at `wanted` mm per pixel, to half a pixel a side.

    Args:
      name: of the slice or scan, for errors.
      shape: rows and columns as stored.
      spacing: mm between slices, rows and columns, or between the last two; None when unknown.
      wanted: mm per pixel.

    Raises:
      InputError: the spacing is not known, or makes a slice that is none.
    """
    if spacing is None:
        raise InputError(
            f"{name}: holds no spacing (mm per pixel), which data.spacing={wanted:g} needs; export "
            "it with its spacing (DICOM PixelSpacing, NIfTI pixdim), or train with data.spacing=0"
        )
    rows, columns = box_at(shape, spacing, wanted)
    if min(rows, columns) < MIN_SIDE or rows * columns > MAX_PIXELS:
        sides = "x".join(f"{step:g}" for step in spacing[-2:])
        raise InputError(
            f"{name}: {shape[0]}x{shape[1]} pixels of {sides} mm are no CT slice ({rows}x{columns} "
            f"at data.spacing={wanted:g}), correct its spacing or train with another data.spacing"
        )
    return rows, columns


def box_at(shape: Shape, spacing: tuple[float, ...], wanted: float) -> Shape:
    """Returns rows and columns of a box of a slice at `wanted` mm per pixel, 1 at least."""
    # Rounded first, so that a spacing stored in single precision gives the same size as in
    # decimals.
    rows, columns = (
        max(1, math.floor(round(side * step / wanted, 3) + 0.5))
        for side, step in zip(shape, spacing[-2:], strict=True)
    )
    return rows, columns


def check_fits(name: object, shape: Shape, size: Shape, spacing: float, field: str) -> None:
    """Raises InputError if a slice is larger than `size`, the value of a configuration's `field`.

    Because whatever were cut off, lesions too, would not be seen. `name` and `spacing` (mm) are
    for the
    error.
    """
    if shape[0] <= size[0] and shape[1] <= size[1]:
        return
    least = math.ceil(100 * spacing * max(shape[0] / size[0], shape[1] / size[1])) / 100
    raise InputError(
        f"{name}: {shape[0]}x{shape[1]} pixels at data.spacing={spacing:g}, more than "
        f"{field}={tuple(size)} takes; train with a larger {field}, or data.spacing={least:g} or "
        "more, so that nothing is cut off"
    )


def padded(pixels: np.ndarray, size: Shape, value: int) -> np.ndarray:
    """Centres pixels [H, W] in an array [*size] of `value`. Raises ValueError for larger ones."""
    gaps = [whole - side for whole, side in zip(size, pixels.shape, strict=True)]
    if min(gaps) < 0:
        raise ValueError(f"{pixels.shape} do not fit into {size}")
    return np.pad(pixels, [(gap // 2, gap - gap // 2) for gap in gaps], constant_values=value)
