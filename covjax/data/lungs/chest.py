"""The body around the lungs of a volume, and where in it infection may lie without air."""

import numpy as np
from scipy import ndimage

from covjax.data.lungs.hull import hull
from covjax.data.lungs.regions import distance, filled, regions

AIR = -400.0  # HU: air, lung and gas lie below, fat (-100) and the edge of tissue do not
# share of the lungs in the lesser half of the body: below, one is missing or consolidated
SIDE = 0.15
FAR = 40.0  # mm from air in the lungs: infection lies nearer
WALL = 10.0  # mm of chest wall below the skin


def find_bodies(hu: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """Returns the body, bool of the grid, in slices that hold lungs: the largest region, filled."""
    bodies = np.zeros_like(lungs)
    for k in np.flatnonzero(lungs.any((1, 2))):
        solid = np.pad((hu[k] >= AIR) | lungs[k], 2, mode="edge")  # a body that is cut off goes on
        parts, sizes = regions(ndimage.binary_opening(solid, iterations=2)[2:-2, 2:-2])
        bodies[k] = filled((parts == sizes.argmax()) & (parts > 0)) | lungs[k]
    return bodies


def body_middle(bodies: np.ndarray) -> float | None:
    """Returns the column of the body's middle; None where most slices are cut off at a side."""
    middles = []
    used = np.flatnonzero(bodies.any((1, 2)))
    for k in used:
        columns = np.flatnonzero(bodies[k].any(0))
        if columns[0] > 0 and columns[-1] < bodies.shape[2] - 1:
            middles.append((columns[0] + columns[-1]) / 2)
    return float(np.median(middles)) if len(middles) > len(used) / 2 else None


def half_missing(lungs: np.ndarray, middle: float | None) -> bool:
    """Returns whether one half of the body holds hardly any lung; False if that is unknown."""
    if middle is None:
        return False
    half = lungs[:, :, : int(middle + 0.5)].sum() / lungs.sum()
    return min(half, 1 - half) < SIDE


def chest_of(
    bodies: np.ndarray, lungs: np.ndarray, grid: tuple[float, ...], scale: float
) -> np.ndarray:
    """Returns where infection may lie: deep in the body, not far from lung."""
    chest = np.zeros_like(lungs)
    far = distance(~lungs, grid) > FAR * scale
    for k in np.flatnonzero(lungs.any((1, 2))):
        around = np.pad(bodies[k], 1, mode="edge")
        deep = bodies[k]
        if not around.all():
            deep = distance(around, grid[1:])[1:-1, 1:-1] > WALL * scale
        chest[k] = deep & ~far[k]
    return chest


def mirrored_hulls(lungs: np.ndarray, middle: float) -> np.ndarray:
    """Returns hulls of lungs and their mirror image, slice by slice: a missing lung lies within."""
    hulls = np.zeros_like(lungs)
    for k in np.flatnonzero(lungs.any((1, 2))):
        points = np.argwhere(lungs[k])
        points = np.concatenate([points, np.stack([points[:, 0], 2 * middle - points[:, 1]], 1)])
        hulls[k] = hull(points, lungs.shape[1:])
    return hulls
