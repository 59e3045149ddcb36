"""The lungs of a whole CT volume by classical means: lung tissue told from bowel gas, airways and
the air outside.

A slice alone (covjax.data.lungs.fields) cannot tell a lung base from a bowel. A volume can: lung tissue is
a large, connected region denser than air, while gas in airways, stomach and bowels is as dark as
the air outside, and stool is small. The estimate works on a coarse grid, so its memory does not
grow with the resolution of the scan.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from covjax.data.lungs.fields import otsu
from covjax.data.lungs.hull import hull

ACROSS = 140  # voxels of the coarse grid along the wider side of a slice: 2.5 mm of a whole chest
# mm: lengths and volumes below are those of a chest that wide, and shrink with a narrower picture
WIDTH = 350.0
MOST = 2**23  # voxels of the coarse grid
SMALLEST = 32  # rows and columns of a slice that shows a chest
LOWEST = -1024.0
HIGHEST = 1024.0  # HU: padding and metal say nothing beyond
AIR = -400.0  # HU: air, lung and gas lie below, fat (-100) and the edge of tissue do not
GAS = -930.0  # HU: gas lies below, lung above (emphysema apart)
LEAST = 100.0
LEAST_CUT = 25.0  # ml of the lungs at least: within the scan, or cut off by its first or last slice
MOSTLY = 0.95  # share of a scan: more that is as dense as lung is no body
PART = 0.05  # of the larger lung's volume: what a region has at least that is one
CORE = 0.21  # share of the lungs that lies deeper than a voxel at least
# mm: smaller regions of air this near the lungs belong to them; gaps this wide are closed
NEAR = 8.0
HOLE = 400.0  # mm2: vessels and nodules that the lung surrounds
OPEN = 0.25  # share of a region's surface that lies on gas: more, and it is foam, cloth or bowel
# share of the lungs in the lesser half of the body: below, one is missing or consolidated
SIDE = 0.15
FAR = 40.0  # mm from air in the lungs: infection lies nearer
BOWEL = 8.0  # mm of wall around gas that is no lung
WALL = 10.0  # mm of chest wall below the skin
MUCH_GAS = 0.2  # share of the lungs' volume that gas elsewhere in the body has to be said of

NONE = "no lungs were found: infected_ml is all that is marked, lung_ml and the share of the lung are unknown"
ONE = "one half of the chest holds hardly any air: a lung is missing or consolidated, lung_ml may be too small"
CUT = "the lungs are cut off by the edge of the scan: lung_ml is of the part within it"


@dataclass(frozen=True)
class Thorax:
    """Where the lungs of a volume are, on a coarse grid, and what could not be decided."""

    shape: tuple[int, int, int]  # of the volume: slices, rows, columns
    factors: tuple[int, int, int]  # voxels of the volume in one of the grid
    lungs: np.ndarray  # bool [slices, rows, columns] of the grid: air, vessels and small lesions
    chest: np.ndarray  # the same: lungs and what may be lung without air; infection in it is lung
    notes: tuple[str, ...]

    @property
    def found(self) -> bool:
        return bool(self.lungs.any())

    def slice(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns lungs and chest of a slice in the volume's own size, each bool [H, W]."""
        plane = index // self.factors[0]
        return tuple(self._enlarged(grid[plane]) for grid in (self.lungs, self.chest))

    def _enlarged(self, plane: np.ndarray) -> np.ndarray:
        rows, columns = (
            _weights(size, factor, count)
            for size, factor, count in zip(
                self.shape[1:], self.factors[1:], plane.shape, strict=True
            )
        )
        return rows @ plane.astype(np.float32) @ columns.T > 0.5


def find_thorax(
    read: Callable[[int], np.ndarray],
    shape: tuple[int, int, int],
    spacing: tuple[float, ...] | None,
    intensity: str,
) -> Thorax:
    """Estimates the lungs of a volume, reading every slice once.

    Args:
      read: returns the values [H, W] of a slice, from feet to head or the other way.
      shape: slices, rows, columns.
      spacing: mm between slices, rows and columns; None where unknown: 400 mm from left to right and 5 between slices.
      intensity: hu, or 8bit (0..255 under any window).
    """
    spacing = tuple(spacing) if spacing else (5.0, 400 / shape[2], 400 / shape[2])
    factors = _factors(shape, spacing)
    values = _coarse(read, shape, factors)
    grid = tuple(side * factor for side, factor in zip(spacing, factors, strict=True))
    scale = min(1.0, max(shape[1] * spacing[1], shape[2] * spacing[2]) / WIDTH)
    hu = values if intensity == "hu" else _as_hu(values)
    lungs, gas = _lungs(hu, grid, scale)
    if min(hu.shape[1:]) < SMALLEST:
        lungs = np.zeros(hu.shape, bool)
    if not lungs.any():
        return Thorax(shape, factors, lungs, lungs, (NONE,))
    bodies = _bodies(hu, lungs)
    middle = _middle(bodies)
    missing = _missing(lungs, middle)
    walls = (
        ndimage.distance_transform_edt(~gas, sampling=grid) <= BOWEL * scale if gas.any() else gas
    )
    chest = _chest(bodies, lungs, grid, scale) & ~walls
    if missing:
        chest |= _mirrored_hulls(lungs, middle)
    return Thorax(
        shape,
        factors,
        lungs,
        chest | lungs,
        _notes(lungs, gas, missing, float(np.prod(grid)) / 1000),
    )


def _factors(shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[int, int, int]:
    target = max(shape[1] * spacing[1], shape[2] * spacing[2]) / ACROSS
    while True:
        factors = tuple(max(1, int(target / side + 0.5)) for side in spacing)
        if np.prod([-(-n // f) for n, f in zip(shape, factors, strict=True)], dtype=float) <= MOST:
            return factors
        target *= 1.25


def _coarse(
    read: Callable[[int], np.ndarray], shape: tuple[int, int, int], factors: tuple[int, ...]
) -> np.ndarray:
    """Returns means over blocks of voxels, float32; blocks at the end repeat the last row and
    column.
    """
    counts = [-(-n // f) for n, f in zip(shape, factors, strict=True)]
    out = np.zeros(counts, np.float32)
    pads = [
        (0, n * f - side) for n, f, side in zip(counts[1:], factors[1:], shape[1:], strict=True)
    ]
    for k in range(shape[0]):
        plane = np.pad(np.clip(read(k), LOWEST, HIGHEST).astype(np.float32), pads, mode="edge")
        blocks = plane.reshape(counts[1], factors[1], counts[2], factors[2]).mean((1, 3))
        of = min(factors[0], shape[0] - k // factors[0] * factors[0])
        out[k // factors[0]] += blocks / of
    return out


def _weights(size: int, factor: int, count: int) -> np.ndarray:
    """Returns [size, count] of linear interpolation from the middles of blocks."""
    at = np.clip((np.arange(size) + 0.5) / factor - 0.5, 0, count - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(count))).astype(np.float32)


def _as_hu(values: np.ndarray) -> np.ndarray:
    """Brings 0..255 under an unknown window to about HU: the air around the body is -1000, the
    tissue within 0.
    """
    grey = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    level = otsu(grey)
    edge = np.concatenate([grey[:, [0, -1]].ravel(), grey[:, :, [0, -1]].ravel()])
    dark = edge[(edge <= level) & (edge > 0)]  # 0 is what lies out of the scanner's circle
    air = float(np.median(dark)) if dark.size > edge.size / 4 else float(np.percentile(grey, 1))
    tissue = float(np.median(grey[grey > level])) if (grey > level).any() else 255.0
    return (values - air) * (1000 / max(1.0, tissue - air)) - 1000


def _lungs(hu: np.ndarray, grid: tuple[float, ...], scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lungs, bool of the grid, and the gas within the body that is not of them."""
    ml = float(np.prod(grid)) / 1000
    cross = _cross(grid)
    air = hu < AIR
    gas = ndimage.median_filter(hu, footprint=cross) < GAS
    outside = _touching(gas, sides=True)
    core = ndimage.binary_erosion(air & ~gas, cross, border_value=1)
    tissue = ndimage.binary_dilation(core, cross, iterations=2, mask=air & ~gas)
    regions, count = ndimage.label(tissue)
    sizes = np.bincount(regions.ravel(), minlength=count + 1) * ml / scale**3
    sizes[0] = 0
    for k in np.argsort(-sizes)[:20]:
        if sizes[k] and _open(regions, k, gas, outside, sizes[k], cross) > OPEN:
            sizes[k] = 0
    sizes[sizes < PART * sizes.max()] = 0
    ends = (sizes[regions[[0, -1]]] > 0).any()
    if sizes.sum() < (LEAST_CUT if ends else LEAST) or tissue.mean() > MOSTLY:
        return np.zeros(hu.shape, bool), gas
    lungs = (sizes > 0)[regions]
    if (core & lungs).sum() < CORE * lungs.sum():  # speckle, as of noise
        return np.zeros(hu.shape, bool), gas
    lungs = _with_near(lungs, tissue, grid, scale)
    lungs = _closed(lungs, gas, grid, scale)
    return lungs, gas & ~outside & ~lungs


def _cross(grid: tuple[float, ...]) -> np.ndarray:
    """Returns the neighbours of a voxel; none above and below where slices are thick, as they
    hardly overlap.
    """
    cross = ndimage.generate_binary_structure(3, 1)
    if grid[0] > 2.5 * grid[1]:
        cross[[0, 2], 1, 1] = False
    return cross


def _touching(region: np.ndarray, sides: bool) -> np.ndarray:
    """Returns the connected parts of a region that touch the sides of the slices."""
    parts, count = ndimage.label(region)
    edge = np.unique(np.concatenate([parts[:, [0, -1]].ravel(), parts[:, :, [0, -1]].ravel()]))
    kept = np.zeros(count + 1, bool)
    kept[edge] = True
    kept[0] = False
    return kept[parts]


def _open(
    regions: np.ndarray,
    k: int,
    gas: np.ndarray,
    outside: np.ndarray,
    size: float,
    cross: np.ndarray,
) -> float:
    """Returns the share of a region's surface that lies on gas; of a large one, on the air
    outside.
    """
    box = tuple(
        slice(max(0, s.start - 3), s.stop + 3)
        for s in ndimage.find_objects((regions == k).astype(np.uint8))[0]
    )
    region = regions[box] == k
    shell = ndimage.binary_dilation(region, cross, iterations=2) & ~ndimage.binary_fill_holes(
        region
    )
    facing = (outside if size > LEAST else gas)[box]
    return float((shell & facing).sum() / max(1, shell.sum()))


def _with_near(
    lungs: np.ndarray, tissue: np.ndarray, grid: tuple[float, ...], scale: float
) -> np.ndarray:
    """Adds regions of lung tissue near the lungs, as consolidation cuts them off."""
    near = ndimage.distance_transform_edt(~lungs, sampling=grid) <= NEAR * scale
    parts, count = ndimage.label(tissue & ~lungs)
    inside = np.bincount(parts.ravel(), near.ravel(), minlength=count + 1)
    kept = inside > 0.5 * np.bincount(parts.ravel(), minlength=count + 1)
    kept[0] = False
    return lungs | kept[parts]


def _closed(
    lungs: np.ndarray, gas: np.ndarray, grid: tuple[float, ...], scale: float
) -> np.ndarray:
    """Closes gaps between parts of the lungs slice by slice (vessels, lesions) and fills what they
    surround.
    """
    steps = max(1, round(NEAR / 2 * scale / grid[1]))
    out = np.zeros_like(lungs)
    for k, plane in enumerate(lungs):
        if not plane.any():
            continue
        # lungs that touch the border go on beyond it
        padded = np.pad(plane, steps + 1, mode="edge")
        closed = ndimage.binary_closing(padded, iterations=steps)[
            steps + 1 : -steps - 1, steps + 1 : -steps - 1
        ]
        closed &= ~gas[k] | plane
        holes, count = ndimage.label(ndimage.binary_fill_holes(closed) & ~closed)
        small = (
            np.bincount(holes.ravel(), minlength=count + 1) * grid[1] * grid[2] <= HOLE * scale**2
        )
        small[0] = False
        out[k] = closed | small[holes]
    return out


def _bodies(hu: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """Returns the body, bool of the grid, in slices that hold lungs: the largest region with what
    it surrounds.
    """
    bodies = np.zeros_like(lungs)
    for k in np.flatnonzero(lungs.any((1, 2))):
        solid = np.pad((hu[k] >= AIR) | lungs[k], 2, mode="edge")  # a body that is cut off goes on
        parts, _ = ndimage.label(ndimage.binary_opening(solid, iterations=2)[2:-2, 2:-2])
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        bodies[k] = ndimage.binary_fill_holes((parts == sizes.argmax()) & (parts > 0)) | lungs[k]
    return bodies


def _middle(bodies: np.ndarray) -> float | None:
    """Returns the column of the body's middle, median of the slices; None where most are cut off at
    a side.
    """
    middles = []
    used = np.flatnonzero(bodies.any((1, 2)))
    for k in used:
        columns = np.flatnonzero(bodies[k].any(0))
        if columns[0] > 0 and columns[-1] < bodies.shape[2] - 1:
            middles.append((columns[0] + columns[-1]) / 2)
    return float(np.median(middles)) if len(middles) > len(used) / 2 else None


def _missing(lungs: np.ndarray, middle: float | None) -> bool:
    """Returns whether one half of the body holds hardly any lung; False where its middle is not
    known.
    """
    if middle is None:
        return False
    half = lungs[:, :, : int(middle + 0.5)].sum() / lungs.sum()
    return min(half, 1 - half) < SIDE


def _chest(
    bodies: np.ndarray, lungs: np.ndarray, grid: tuple[float, ...], scale: float
) -> np.ndarray:
    """Returns where infection may lie in slices that hold lungs: deep in the body and not far from
    lung.
    """
    chest = np.zeros_like(lungs)
    far = ndimage.distance_transform_edt(~lungs, sampling=grid) > FAR * scale
    for k in np.flatnonzero(lungs.any((1, 2))):
        around = np.pad(bodies[k], 1, mode="edge")
        if around.all():
            deep = bodies[k]
        else:
            deep = (
                ndimage.distance_transform_edt(around, sampling=grid[1:])[1:-1, 1:-1] > WALL * scale
            )
        chest[k] = deep & ~far[k]
    return chest


def _mirrored_hulls(lungs: np.ndarray, middle: float) -> np.ndarray:
    """Returns the convex hulls, slice by slice, of the lungs and their mirror image: a missing lung
    lies within.
    """
    hulls = np.zeros_like(lungs)
    for k in np.flatnonzero(lungs.any((1, 2))):
        points = np.argwhere(lungs[k])
        points = np.concatenate([points, np.stack([points[:, 0], 2 * middle - points[:, 1]], 1)])
        hulls[k] = hull(points, lungs.shape[1:])
    return hulls


def _notes(lungs: np.ndarray, gas: np.ndarray, missing: bool, ml: float) -> tuple[str, ...]:
    notes = [ONE] if missing else []
    if lungs[[0, -1]].any() or lungs[:, [0, -1]].any() or lungs[:, :, [0, -1]].any():
        notes.append(CUT)
    if gas.sum() > MUCH_GAS * lungs.sum():
        notes.append(
            f"{gas.sum() * ml:.0f} ml of gas in the body (bowel, stomach or airways) are not counted as lung"
        )
    return tuple(notes)
