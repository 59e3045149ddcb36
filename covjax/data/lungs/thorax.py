"""The lungs of a whole CT volume by classical means: apart from bowel gas, airways and outside.

A slice alone (covjax.data.lungs.fields) cannot tell a lung base from a bowel. A volume can: lung
tissue is
a large, connected region denser than air, while gas in airways, stomach and bowels is as dark as
the air outside, and stool is small. The estimate works on a coarse grid, so its memory does not
grow with the resolution of the scan.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from covjax.data.lungs.chest import (
    AIR,
    body_middle,
    chest_of,
    find_bodies,
    half_missing,
    mirrored_hulls,
)
from covjax.data.lungs.fields import otsu
from covjax.data.lungs.regions import distance, filled, regions

ACROSS = 140  # voxels of the coarse grid along the wider side of a slice: 2.5 mm of a whole chest
# mm: lengths and volumes below are those of a chest that wide, and shrink with a narrower picture
WIDTH = 350.0
MOST = 2**23  # voxels of the coarse grid
SMALLEST = 32  # rows and columns of a slice that shows a chest
LOWEST = -1024.0
HIGHEST = 1024.0  # HU: padding and metal say nothing beyond
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
BOWEL = 8.0  # mm of wall around gas that is no lung
MUCH_GAS = 0.2  # share of the lungs' volume that gas elsewhere in the body has to be said of

NONE = (
    "no lungs were found: infected_ml is all that is marked, lung_ml and the share of the lung "
    "are unknown"
)
ONE = (
    "one half of the chest holds hardly any air: a lung is missing or consolidated, lung_ml may "
    "be too small"
)
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
        return self._enlarged(self.lungs[plane]), self._enlarged(self.chest[plane])

    def _enlarged(self, plane: np.ndarray) -> np.ndarray:
        sides = zip(self.shape[1:], self.factors[1:], plane.shape, strict=True)
        rows, columns = (_weights(*side) for side in sides)
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
      spacing: mm between slices, rows and columns; None where unknown: 400 mm from left to right
        and 5 between slices.
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
    bodies = find_bodies(hu, lungs)
    middle = body_middle(bodies)
    missing = half_missing(lungs, middle)
    walls = distance(~gas, grid) <= BOWEL * scale if gas.any() else gas
    chest = chest_of(bodies, lungs, grid, scale) & ~walls
    if missing and middle is not None:
        chest |= mirrored_hulls(lungs, middle)
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
        factors = [max(1, int(target / side + 0.5)) for side in spacing]
        if np.prod([-(-n // f) for n, f in zip(shape, factors, strict=True)], dtype=float) <= MOST:
            return factors[0], factors[1], factors[2]
        target *= 1.25


def _coarse(
    read: Callable[[int], np.ndarray], shape: tuple[int, int, int], factors: tuple[int, ...]
) -> np.ndarray:
    """Returns means over blocks of voxels, float32; the last row and column are repeated."""
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
    """Brings 0..255 under any window to about HU: air around the body -1000, tissue 0."""
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
    outside = _touching(gas)
    core = np.asarray(ndimage.binary_erosion(air & ~gas, cross, border_value=1))
    tissue = ndimage.binary_dilation(core, cross, iterations=2, mask=air & ~gas)
    parts, voxels = regions(tissue)
    sizes = voxels * ml / scale**3
    for k in np.argsort(-sizes)[:20]:
        if sizes[k] and _open(parts, k, gas, outside, float(sizes[k]), cross) > OPEN:
            sizes[k] = 0
    sizes[sizes < PART * sizes.max()] = 0
    ends = (sizes[parts[[0, -1]]] > 0).any()
    if sizes.sum() < (LEAST_CUT if ends else LEAST) or tissue.mean() > MOSTLY:
        return np.zeros(hu.shape, bool), gas
    lungs: np.ndarray = (sizes > 0)[parts]
    if (core & lungs).sum() < CORE * lungs.sum():  # speckle, as of noise
        return np.zeros(hu.shape, bool), gas
    lungs = _with_near(lungs, tissue, grid, scale)
    lungs = _closed(lungs, gas, grid, scale)
    return lungs, gas & ~outside & ~lungs


def _cross(grid: tuple[float, ...]) -> np.ndarray:
    """Returns the neighbours of a voxel; none above and below where slices are thick."""
    cross = ndimage.generate_binary_structure(3, 1)
    if grid[0] > 2.5 * grid[1]:
        cross[[0, 2], 1, 1] = False
    return cross


def _touching(region: np.ndarray) -> np.ndarray:
    """Returns the connected parts of a region that touch the sides of the slices."""
    parts, sizes = regions(region)
    kept = np.zeros(len(sizes), bool)
    kept[parts[:, [0, -1]]] = True
    kept[parts[:, :, [0, -1]]] = True
    kept[0] = False
    return kept[parts]


def _open(
    parts: np.ndarray,
    k: int,
    gas: np.ndarray,
    outside: np.ndarray,
    size: float,
    cross: np.ndarray,
) -> float:
    """Returns the share of a region's surface on gas; of a large one, on the air outside."""
    found = ndimage.find_objects((parts == k).astype(np.uint8))[0]
    box = tuple(slice(max(0, side.start - 3), side.stop + 3) for side in found)
    region = parts[box] == k
    shell = ndimage.binary_dilation(region, cross, iterations=2) & ~filled(region)
    facing = (outside if size > LEAST else gas)[box]
    return float((shell & facing).sum() / max(1, shell.sum()))


def _with_near(
    lungs: np.ndarray, tissue: np.ndarray, grid: tuple[float, ...], scale: float
) -> np.ndarray:
    """Adds regions of lung tissue near the lungs, as consolidation cuts them off."""
    near = distance(~lungs, grid) <= NEAR * scale
    parts, sizes = regions(tissue & ~lungs)
    kept = np.bincount(parts.ravel(), near.ravel()) > 0.5 * sizes
    kept[0] = False
    return lungs | kept[parts]


def _closed(
    lungs: np.ndarray, gas: np.ndarray, grid: tuple[float, ...], scale: float
) -> np.ndarray:
    """Closes gaps in the lungs slice by slice (vessels, lesions) and fills what they surround."""
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
        holes, sizes = regions(filled(closed) & ~closed)
        small = sizes * grid[1] * grid[2] <= HOLE * scale**2
        small[0] = False
        out[k] = closed | small[holes]
    return out


def _notes(lungs: np.ndarray, gas: np.ndarray, missing: bool, ml: float) -> tuple[str, ...]:
    notes = [ONE] if missing else []
    if lungs[[0, -1]].any() or lungs[:, [0, -1]].any() or lungs[:, :, [0, -1]].any():
        notes.append(CUT)
    if gas.sum() > MUCH_GAS * lungs.sum():
        notes.append(
            f"{gas.sum() * ml:.0f} ml of gas in the body (bowel, stomach or airways) are not "
            "counted as lung"
        )
    return tuple(notes)
