"""Connected regions and distances of bool arrays, as scipy.ndimage finds them, with plain types."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def regions(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the number of each pixel's region, 0 where there is none, and the sizes of regions.

    The size of region k is that of [k]; [0] is 0.
    """
    numbers = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, output=numbers)
    sizes = np.bincount(numbers.ravel())
    sizes[0] = 0
    return numbers, sizes


def distance(mask: np.ndarray, sampling: Sequence[float] | None = None) -> np.ndarray:
    """Returns each pixel's distance to the nearest that is False, in units of `sampling`."""
    return np.asarray(ndimage.distance_transform_edt(mask, sampling))


def filled(mask: np.ndarray) -> np.ndarray:
    """Returns a mask with what it surrounds."""
    return np.asarray(ndimage.binary_fill_holes(mask))
