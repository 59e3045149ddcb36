"""Shapes, smooth fields and edges on a square grid of pixels, of which the phantom is composed."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

Spline = tuple[np.ndarray, np.ndarray]  # first node [n] and weights [4, n] of n points


class Grid(NamedTuple):
    """The pixels of a square slice whose sides go from -1 to 1."""

    size: int
    pixel: float  # pitch
    line: np.ndarray  # centres float64 [size]
    x: np.ndarray  # the same, float32 [1, size]
    y: np.ndarray  # float32 [size, 1]
    splines: dict[int, Spline]  # of the smooth fields, by their nodes
    circle: np.ndarray  # bool [size, size], outside of the scanner's circle


def smooth(v: np.ndarray | float) -> np.ndarray:
    """Cubic step from 0 at v <= 0 to 1 at v >= 1."""
    v = np.clip(v, 0.0, 1.0)
    return v * v * (3.0 - 2.0 * v)


def _spline(points: np.ndarray, nodes: int) -> Spline:
    """First node [n] and weights [4, n] of a uniform cubic B-spline at points [n] in [0, 1]."""
    u = np.clip(np.asarray(points, np.float64), 0.0, 1.0) * (nodes - 3)
    first = np.minimum(u.astype(int), nodes - 4)
    f = u - first
    weights = (
        np.stack([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3])
        / 6
    )
    return first, weights.astype(np.float32)


def _interpolate(lattice: np.ndarray, spline: Spline) -> np.ndarray:
    """Spline along axis 0 of lattice [nodes, m] at n points: [n, m].

    Four products of whole rows, not a matrix product: as fast at this size, free of BLAS threads,
    and its rounding is the same on every machine.
    """
    first, weights = spline
    out = lattice[first] * weights[0, :, None]
    for tap in (1, 2, 3):
        out += lattice[first + tap] * weights[tap, :, None]
    return out


@lru_cache(maxsize=8)
def make_grid(size: int) -> Grid:
    """Pixel centres and pitch of a slice, and the splines of its smooth fields."""
    line = (np.arange(size) + 0.5) / size
    axis = line * 2 - 1
    return Grid(
        size=size,
        pixel=2.0 / size,
        line=axis,
        x=axis[None].astype(np.float32),
        y=axis[:, None].astype(np.float32),
        splines={nodes: _spline(line, nodes) for nodes in (9, 26, 36, 52)},
        circle=axis[None] ** 2 + axis[:, None] ** 2 > 0.998,
    )


def field(grid: Grid, lattice: np.ndarray, t: float | None = None) -> np.ndarray:
    """Smooth field [size, size] from nodes [n, n], or from the section at t of nodes [z, n, n]."""
    nodes = lattice.shape[-1]
    if t is not None:
        lattice = _interpolate(
            lattice.reshape(len(lattice), -1), _spline(np.array([t]), len(lattice))
        ).reshape(nodes, nodes)
    columns = _interpolate(np.ascontiguousarray(lattice.T, np.float32), grid.splines[nodes])
    return _interpolate(np.ascontiguousarray(columns.T), grid.splines[nodes])


def ellipse(x, y, cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    """About the distance to an upright ellipse, positive inside."""
    s = np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2)
    return (1.0 - s) * min(rx, ry)


def oval(grid: Grid, cy: float, rx: float, front: float, back: float, power: float) -> np.ndarray:
    """Distance, about, to a superellipse with its own depth before and behind cy."""
    y = grid.line - cy
    fx = (np.abs(grid.line / rx) ** power).astype(np.float32)[None]
    fy = (np.abs(y / np.where(y < 0, front, back)) ** (power + 0.2 * (y > 0))).astype(np.float32)[
        :, None
    ]
    total = fx + fy
    depth = 0.5 * (front + back)
    return (1.0 - np.sqrt(total)) * (depth + (rx - depth) * (fx / total)) * (2.0 / power)


def join(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Union of two distances with a fillet of the given radius."""
    h = np.maximum(radius - np.abs(a - b), 0)
    return np.maximum(a, b) + h * h * (0.25 / radius)


def cover(distance: np.ndarray, width: float) -> np.ndarray:
    """Share of each pixel inside, for an edge that many units wide."""
    return np.clip(distance * (1.0 / width) + 0.5, 0.0, 1.0)


def section(centre: float, half: float, t: float) -> float:
    """Scale of the section at t of an ellipsoid that spans centre - half .. centre + half."""
    return float(np.sqrt(max(0.0, 1.0 - ((t - centre) / half) ** 2)))


def splat(grid: Grid, spheres: np.ndarray, z: float, thickness: float) -> np.ndarray:
    """Coverage [size, size] of a slab at z by spheres [n, 4] (x, y, z, radius) sorted by z."""
    image = np.zeros(grid.size * grid.size, np.float32)
    reach = 0.06 + thickness
    near = spheres[slice(*np.searchsorted(spheres[:, 2], (z - reach, z + reach)))]
    cut = near[:, 3] ** 2 - np.maximum(np.abs(near[:, 2] - z) - thickness / 2, 0) ** 2
    centres = (near[cut > 0, :2] + 1) / grid.pixel - 0.5
    radii = np.sqrt(cut[cut > 0]) / grid.pixel
    # similar radii share a stamp size, or the few large ones would make all stamps large
    for low, high in ((0.0, 1.4), (1.4, 4.4), (4.4, np.inf)):
        pick = (radii > low) & (radii <= high)
        if not pick.any():
            continue
        centre = centres[pick]
        radius = radii[pick, None, None]
        steps = np.arange(-int(radius.max() + 1), int(radius.max() + 2))
        column, row = (np.rint(centre).astype(int)[:, None] + steps[:, None]).transpose(2, 0, 1)
        gap = ((column - centre[:, :1]) ** 2)[:, None] + ((row - centre[:, 1:]) ** 2)[..., None]
        value = np.clip(radius + 0.5 - np.sqrt(gap), 0, 1) * np.minimum(1, 1.4 * radius + 0.15)
        pixels = (
            np.clip(row, 0, grid.size - 1)[..., None] * grid.size
            + np.clip(column, 0, grid.size - 1)[:, None]
        )
        np.maximum.at(image, pixels.ravel(), value.astype(np.float32).ravel())
    return image.reshape(grid.size, grid.size)


def paint(hu: np.ndarray, grid: Grid, centre, radii, value: float, turn: float = 0.0) -> None:
    """Paints an ellipse, turned by `turn` radians, of HU value into hu in place."""
    reach = max(radii) + grid.pixel
    lo = [max(0, int((c - reach + 1) / grid.pixel)) for c in centre]
    hi = [max(0, int((c + reach + 1) / grid.pixel) + 1) for c in centre]
    box = np.s_[lo[1] : hi[1], lo[0] : hi[0]]
    dx = grid.x[:, box[1]] - centre[0]
    dy = grid.y[box[0]] - centre[1]
    c = float(np.cos(turn))
    s = float(np.sin(turn))
    share = cover(ellipse(c * dx + s * dy, c * dy - s * dx, 0, 0, *radii), grid.pixel)
    hu[box] += share * (value - hu[box])


def blur(image: np.ndarray, amount: float) -> np.ndarray:
    """3-tap smoothing of both axes with edges repeated; amount 1 gives 1/4 1/2 1/4."""
    side = amount / 4
    out = image.copy()
    out[1:-1] += side * (image[2:] + image[:-2] - 2 * image[1:-1])
    done = out.copy()
    done[:, 1:-1] += side * (out[:, 2:] + out[:, :-2] - 2 * out[:, 1:-1])
    return done
