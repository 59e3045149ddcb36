"""The lung field of a slice by classical means: dark regions inside the body; and the box to crop to."""

import numpy as np
from scipy import ndimage

LEAST = 0.01  # share of the slice that lungs take at least; less, and there are none to crop to
BORDER = 0.65  # share of a slice's border that is air at least
LEAST_PART = 0.002  # share of a region that is kept
MARGIN = 0.05  # of the slice's sides around the box
CLOSING = 5  # pixels: vessels and small lesions within the lung belong to it

Box = tuple[slice, slice]


def lung_field(image: np.ndarray) -> np.ndarray:
    """Finds the lungs in a slice uint8 [H, W] under any window: bool [H, W], all False where there are none.

    Pixels darker than Otsu's threshold ("A Threshold Selection Method from Gray-Level Histograms", 1979) that are not
    connected to the border; small regions are dropped, gaps closed, holes filled. Dense consolidation at the chest
    wall is missed, and gas in bowels is taken for lung. In a picture whose border is not mostly dark, cropped to the
    chest before, lungs may touch it, so none are found.
    """
    dark = image <= otsu(image)
    border = np.concatenate([dark[0], dark[-1], dark[:, 0], dark[:, -1]])
    if border.mean() < BORDER:
        return np.zeros(image.shape, bool)
    regions, count = ndimage.label(dark)
    sizes = np.bincount(regions.ravel(), minlength=count + 1)
    edge = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    kept = sizes >= LEAST_PART * image.size
    kept[0] = False
    kept[edge] = False
    lungs = kept[regions]
    if lungs.sum() < LEAST * image.size:
        return np.zeros(image.shape, bool)
    padded = ndimage.binary_closing(np.pad(lungs, CLOSING), iterations=CLOSING)
    return ndimage.binary_fill_holes(padded[CLOSING:-CLOSING, CLOSING:-CLOSING])


def otsu(image: np.ndarray) -> int:
    """Returns the grey level of uint8 [H, W] that divides it best: the variance between the halves is largest."""
    counts = np.bincount(image.ravel(), minlength=256).astype(np.float64)
    below, levels = np.cumsum(counts), np.arange(256)
    sums = np.cumsum(counts * levels)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return int(np.argmax(np.nan_to_num(between)))


def lung_box(image: np.ndarray, lungs: np.ndarray | None = None) -> Box:
    """Returns rows and columns that hold the lungs of a slice and a margin; the whole slice where there are none.

    `lungs` bool [H, W] are used instead of looking for them.
    """
    lungs = lung_field(image) if lungs is None else lungs
    if lungs.sum() < LEAST * image.size:
        return slice(0, image.shape[0]), slice(0, image.shape[1])
    box = []
    for axis, side in enumerate(image.shape):
        inside = np.flatnonzero(lungs.any(1 - axis))
        margin = round(MARGIN * side)
        box.append(slice(max(0, int(inside[0]) - margin), min(side, int(inside[-1]) + 1 + margin)))
    return tuple(box)
