"""The lungs of a single slice by classical means, under any window, and the box to crop a slice to.

Volumes in HU have their own estimate (covjax.data.lungs.thorax), which knows what lies above
and
below a slice.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from covjax.data.label_map import infected
from covjax.data.lungs.regions import distance, filled, regions

LEAST = 0.01  # share of the slice that lungs take at least; less, and there are none to crop to
LEAST_PART = 0.002  # share of the slice that is kept as a part of the lungs
GAS = 0.06  # of the way from air to tissue: what is darker is gas in airway or bowel, no lung
BORDER = 0.65  # share of the border that is air at least, unless the picture is cropped to the body
LARGE = 0.08  # share of the slice
# a region whose widest circle has a radius below this times the root of its area is a strip
STRIP = 0.25
BODY = 0.2  # share of the slice that a body takes at least; less, and it was not found
BLACK = 8  # of 255: air that is darker may have been cut off by the window
MARGIN = 0.05  # of the slice's sides around the box
CLOSING = 0.012  # of the shorter side: vessels and small lesions within the lung belong to it
HALF = 0.25  # share of the lungs that either half of the body holds at least
NOTHING = "no lungs found"
ONE = (
    "one half of the body holds less than a quarter of the lungs found: one is missing or "
    "consolidated"
)

Box = tuple[slice, slice]


class Crop(NamedTuple):
    """What of a slice a network sees: rows and columns that hold the lungs, or the whole body."""

    box: Box
    kept: str  # "" where both lungs were found


def lungs_and_chest(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lungs of a slice uint8 [H, W], and where infection belongs to them, bool [H, W].

    Lungs are the regions darker than Otsu's threshold ("A Threshold Selection Method from
    Gray-Level Histograms", 1979), under any window, that do not lie outside the body
    (`outside_body`), so they may touch the border of a picture that is cropped to the body. Small
    regions and gas as dark as the air outside (airways, bowels) are dropped, gaps closed, holes
    filled. Turning or mirroring the picture turns or mirrors the result. Dense consolidation at the
    chest wall is missed. Infection belongs to all but the air around the body: a slice alone does
    not show how far a consolidated lung goes. Both are empty where no lungs are found.
    """
    dark = image <= otsu(image)
    outside = outside_body(dark)
    lungs = _field(image, dark, outside)
    if not lungs.any():
        return lungs, lungs
    return lungs, ~outside if _surrounded(outside) else np.ones(image.shape, bool)


def outside_body(dark: np.ndarray) -> np.ndarray:
    """Returns which of the dark pixels bool [H, W] lie outside the body.

    Those connected to a corner of the picture, and strips, as between the lines of a table, that
    touch two sides of it. In a picture that is cropped to the body, a large region in a corner is a
    lung.
    """
    parts, sizes = regions(dark)
    numbers = np.arange(len(sizes))
    large = sizes >= LARGE * dark.size
    sides = _border(parts)
    touched = np.sum([np.isin(numbers, side) for side in sides], 0)
    corners = np.isin(numbers, parts[[0, 0, -1, -1], [0, -1, 0, -1]])
    touched[0] = 0
    corners[0] = False
    cropped = corners[np.concatenate(sides)].mean() < BORDER
    unsure = np.where(corners, large & cropped, (touched > 1) & ~large)
    outside = corners & ~unsure
    for k in np.flatnonzero(unsure):
        outside[k] = _is_strip(parts == k)
    return outside[parts]


def _surrounded(outside: np.ndarray) -> bool:
    """Returns whether air surrounds the body, so that the picture is not cropped to it."""
    return bool(np.concatenate(_border(outside)).mean() >= BORDER)


def _border(plane: np.ndarray) -> list[np.ndarray]:
    return [plane[0], plane[-1], plane[:, 0], plane[:, -1]]


def _is_strip(region: np.ndarray) -> bool:
    whole = filled(np.pad(region, 1))
    return bool(distance(whole).max() < STRIP * np.sqrt(whole.sum()))


def _field(image: np.ndarray, dark: np.ndarray, outside: np.ndarray) -> np.ndarray:
    parts, sizes = regions(dark & ~outside)
    kept = sizes >= max(1, LEAST_PART * image.size)
    kept &= ~_gas(image, dark, outside, parts, kept)
    lungs = kept[parts]
    if lungs.sum() < LEAST * image.size:
        return np.zeros(image.shape, bool)
    steps = _steps(image.shape)
    closed = ndimage.binary_closing(np.pad(lungs, steps), iterations=steps)[
        steps:-steps, steps:-steps
    ]
    return filled(closed & ~outside)


def _gas(
    image: np.ndarray, dark: np.ndarray, outside: np.ndarray, parts: np.ndarray, kept: np.ndarray
) -> np.ndarray:
    """Returns which of the regions that are kept are as dark as the air outside, if that is there.

    Where all are, under a window that shows air as black and perhaps lung as well, nothing can be
    said: none is gas.
    """
    gas = np.zeros(len(kept), bool)
    # 0 is what lies out of the picture's circle, or what the window cut off
    air = image[outside & (image > 0)]
    if not kept.any() or air.size < LEAST * image.size:
        return gas
    level = float(np.median(air))
    chosen = np.flatnonzero(kept)
    gas[chosen] = ndimage.median(image, parts, chosen) <= level + GAS * (
        np.median(image[~dark]) - level
    )
    return gas if level > BLACK or gas.sum() < len(chosen) else np.zeros(len(kept), bool)


def _steps(shape: tuple[int, ...]) -> int:
    return max(1, round(CLOSING * min(shape)))


def otsu(image: np.ndarray) -> int:
    """Returns the grey level of uint8 [H, W] with the largest variance between its halves."""
    counts = np.bincount(image.ravel(), minlength=256).astype(np.float64)
    below = np.cumsum(counts)
    levels = np.arange(256)
    sums = np.cumsum(counts * levels)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return int(np.argmax(np.nan_to_num(between)))


def body_of(outside: np.ndarray) -> np.ndarray:
    """Returns the body bool [H, W]: the largest region inside, without the lines of a table.

    The whole slice where that is too small for a body, as where fat is as dark as air and lung.
    """
    steps = _steps(outside.shape)
    inside = np.pad(~outside, steps, mode="edge")  # a body that is cut off is no thinner for it
    opened = ndimage.binary_opening(inside, iterations=steps)[steps:-steps, steps:-steps]
    parts, sizes = regions(opened)
    if sizes.max() < BODY * outside.size:
        return np.ones(outside.shape, bool)
    return (sizes == sizes.max())[parts]


def find_crop(image: np.ndarray) -> Crop:
    """Returns what of a slice uint8 [H, W] is shown with data.lung_crop, and why.

    Rows and columns of the lungs found, as far to one side of the body's middle as to the other,
    and a margin: what is consolidated on one side is kept. Where one half of the body (left or
    right, front or back) holds hardly any of the lungs found, a lung is missing, and the box holds
    the whole body; so it does where there are none. The same function serves training, test and
    use; lung masks that come with a data set do not change the box.
    """
    dark = image <= otsu(image)
    outside = outside_body(dark)
    body = body_of(outside) if _surrounded(outside) else np.ones(image.shape, bool)
    whole = _limits(body)
    lungs = _field(image, dark, outside) & body
    if not lungs.any():
        return Crop(_widened(whole, image.shape), NOTHING)
    if min(_lesser_half(lungs, axis, whole[axis]) for axis in (0, 1)) < HALF:
        return Crop(_widened(whole, image.shape), ONE)
    box = [_mirrored(ours, body) for ours, body in zip(_limits(lungs), whole, strict=True)]
    return Crop(_widened(box, image.shape), "")


def truth_outside(mask: np.ndarray, box: Box) -> int:
    """Returns how many infected pixels of a mask uint8 [H, W] a box cuts off."""
    marked = infected(mask)
    return int(marked.sum() - marked[box].sum())


def _limits(region: np.ndarray) -> list[tuple[int, int]]:
    """Returns (first, last + 1) of a region along each axis."""
    found = [np.flatnonzero(region.any(1 - axis)) for axis in (0, 1)]
    return [(int(inside[0]), int(inside[-1]) + 1) for inside in found]


def _lesser_half(lungs: np.ndarray, axis: int, body: tuple[int, int]) -> float:
    """Returns the share of the lungs in the half of the body that holds less of them."""
    along = lungs.sum(1 - axis)[slice(*body)]
    half = len(along) // 2
    return min(along[:half].sum(), along[len(along) - half :].sum()) / along.sum()


def _mirrored(lungs: tuple[int, int], body: tuple[int, int]) -> tuple[int, int]:
    """Returns the lungs' limits, moved to be as far from either end of the body."""
    gap = min(lungs[0] - body[0], body[1] - lungs[1])
    return body[0] + gap, body[1] - gap


def _widened(limits: list[tuple[int, int]], shape: tuple[int, ...]) -> Box:
    margins = [round(MARGIN * side) for side in shape]
    rows, columns = (
        slice(max(0, low - margin), min(side, high + margin))
        for (low, high), margin, side in zip(limits, margins, shape, strict=True)
    )
    return rows, columns
