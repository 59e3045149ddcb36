"""Synthetic axial chest CT: slices with lesions and exact masks, so that everything runs without a
download.

A patient is a set of smooth shapes in a box of x in [-1, 1] (image left to right, so the patient's
right to left), y in [-1, 1] (front to back, the patient lies on the back) and t in [0, 1] (apex to
base of the lungs). One unit of x or y is half the field of view, about 190 mm. Tissue is composed
in Hounsfield units (float32; scalars are Python floats, which do not promote it) and leaves through
a lung window as 8 bit. Shapes live in continuous coordinates, so every slice of every size comes
from the same anatomy. Shapes are signed distances, about true and positive inside, that unions,
fillets and antialiased edges are made from.
"""

from functools import lru_cache
from types import SimpleNamespace

import numpy as np

from covjax.errors import InputError

# Part of the fingerprint of prepared data: raise it whenever any pixel changes.
PHANTOM_VERSION = 1

LABEL_FRACTION = 0.0005  # smallest lesion, as a share of the image, that counts as infected
HEIGHT = 1.45  # length of the lungs along z in units of x
AIR = -1000.0
FAT = -105.0
MUSCLE = 45.0
BLOOD = 40.0
BONE = 420.0  # HU

# Uniform ranges of what makes patients differ; lengths in half fields of view, densities in HU.
_RANGES = {
    "body_width": (0.78, 0.93), "body_depth": (0.56, 0.68), "body_y": (-0.08, -0.02), "wall": (0.14, 0.20),
    "fat": (0.0, 1.0), "breast": (-0.12, 0.14), "heart": (0.85, 1.15), "heart_x": (0.06, 0.13),
    "spine_x": (-0.02, 0.02), "spine": (0.9, 1.1), "trachea": (0.9, 1.15), "carina": (0.34, 0.42),
    "dome": (0.74, 0.84), "dome_gap": (0.02, 0.07), "rib_phase": (0.0, 1.0), "table_gap": (0.0, 0.04),
    "table_curve": (0.05, 0.22), "lung": (-900.0, -680.0), "dependent": (20.0, 190.0), "mottle": (8.0, 18.0),
    "mosaic": (0.0, 25.0), "fissure": (0.02, 0.16),
    "noise": (14.0, 48.0), "grain": (0.0, 1.0), "blur": (0.1, 0.9), "low": (-1400.0, -1120.0),
    "high": (110.0, 330.0), "atelectasis": (-100.0, 330.0), "circle": (0.0, 1.0), "gas": (-0.16, 0.18),
}  # fmt: skip


def _smooth(v):
    """Cubic step from 0 at v <= 0 to 1 at v >= 1."""
    v = np.clip(v, 0.0, 1.0)
    return v * v * (3.0 - 2.0 * v)


def _spline(points: np.ndarray, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """First node [n] and the four weights [4, n] of a uniform cubic B-spline at points [n] in [0,
    1].
    """
    u = np.clip(np.asarray(points, np.float64), 0.0, 1.0) * (nodes - 3)
    first = np.minimum(u.astype(int), nodes - 4)
    f = u - first
    weights = (
        np.stack([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3])
        / 6
    )
    return first, weights.astype(np.float32)


def _interpolate(lattice: np.ndarray, spline: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
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
def _grid(size: int) -> SimpleNamespace:
    """Pixel centres x [1, size] and y [size, 1], pixel pitch and the splines of the smooth
    fields.
    """
    line = (np.arange(size) + 0.5) / size
    axis = line * 2 - 1
    return SimpleNamespace(
        size=size,
        pixel=2.0 / size,
        line=axis,
        x=axis[None].astype(np.float32),
        y=axis[:, None].astype(np.float32),
        splines={nodes: _spline(line, nodes) for nodes in (9, 26, 36, 52)},
        circle=axis[None] ** 2 + axis[:, None] ** 2 > 0.998,
    )


def _field(grid: SimpleNamespace, lattice: np.ndarray, t: float | None = None) -> np.ndarray:
    """Smooth field [size, size] from spline nodes [n, n], or from the section at t of nodes [nz, n,
    n].
    """
    nodes = lattice.shape[-1]
    if t is not None:
        lattice = _interpolate(
            lattice.reshape(len(lattice), -1), _spline([t], len(lattice))
        ).reshape(nodes, nodes)
    columns = _interpolate(np.ascontiguousarray(lattice.T, np.float32), grid.splines[nodes])
    return _interpolate(np.ascontiguousarray(columns.T), grid.splines[nodes])


def _volume(rng: np.random.Generator, nodes: int, depth: int) -> np.ndarray:
    # 0.33: std left by the spline
    return rng.standard_normal((depth, nodes, nodes), np.float32) / 0.33


def _cavity_axes(p: SimpleNamespace, t) -> tuple:
    """Half width and half depth of the chest cavity at t: an apex dome that widens to the rib
    cage.
    """
    rise = np.sqrt(np.clip(1.0 - (1.0 - np.minimum((t + 0.06) / 0.62, 1.0)) ** 2, 0.0, 1.0))
    return (p.body_width - p.wall) * (0.36 + 0.64 * rise), (p.body_depth - 0.125) * (
        0.25 + 0.75 * rise
    )


def _vessel_tree(rng: np.random.Generator, root: np.ndarray, tips: np.ndarray) -> np.ndarray:
    """Spheres [n, 4] (x, y, z, radius) along a branching tree from root to the tips [m, 3]."""
    tips = tips[np.argsort(((tips - root) ** 2).sum(1))]
    nodes = root[None]
    parents = np.array([-1])
    path = np.zeros(1)
    start = 0
    count = 8
    while start < len(tips):
        new = tips[start : start + count]
        gap = np.sqrt(sum((new[:, None, k] - nodes[None, :, k]) ** 2 for k in range(3)))
        # weighing the way back to the root makes branches run outwards instead of meandering
        parent = (gap + 0.28 * path).argmin(1)
        path = np.append(path, path[parent] + gap[np.arange(len(new)), parent])
        nodes = np.concatenate([nodes, new])
        parents = np.append(parents, parent)
        start = start + count
        count = count * 2
    flow = np.ones(len(nodes))
    for child in range(len(nodes) - 1, 0, -1):
        flow[parents[child]] += flow[child]
    ends = nodes[1:]
    begins = nodes[parents[1:]]
    length = np.sqrt(((ends - begins) ** 2).sum(1))
    samples = np.ceil(length / 0.006).astype(int) + 1
    edge = np.repeat(np.arange(len(ends)), samples)
    u = (np.arange(samples.sum()) - np.repeat(np.cumsum(samples) - samples, samples)) / samples[
        edge
    ]
    bend = rng.normal(0, 0.08, ends.shape) * length[:, None]
    points = (
        begins[edge] + (ends - begins)[edge] * u[:, None] + bend[edge] * (4 * u * (1 - u))[:, None]
    )
    radius = 0.0030 * flow[1:] ** 0.37
    return np.concatenate([points, radius[edge][:, None]], 1)


def _vessels(rng: np.random.Generator, p: SimpleNamespace, tips_per_lung: int = 900) -> np.ndarray:
    """Pulmonary vessels of both lungs as spheres [n, 4], sorted by z."""
    trees = []
    for side in (-1, 1):
        t = rng.uniform(0.0, 1.0, 4 * tips_per_lung)
        width, depth = _cavity_axes(p, t)
        angle = rng.uniform(-np.pi, np.pi, t.shape)
        reach = np.sqrt(rng.uniform(0, 0.84, t.shape))
        x = np.abs(width * reach * np.cos(angle))
        y = p.cavity_y + depth * reach * np.sin(angle)
        keep = (x > 0.2 * width + 0.06) & (
            rng.random(t.shape) * 0.45 < width * depth * (1.1 - 0.6 * t)
        )
        tips = np.stack([side * x, y, t * HEIGHT], 1)[keep][:tips_per_lung]
        hilum = np.array([side * 0.15, p.cavity_y + 0.04, (p.carina + 0.08) * HEIGHT])
        trees.append(_vessel_tree(rng, hilum, tips))
    spheres = np.concatenate(trees)
    return spheres[np.argsort(spheres[:, 2])]


def _bronchi(vessels: np.ndarray) -> np.ndarray:
    """Airways [n, 4] that run beside the larger vessels, outer radius, in the order of the
    vessels.
    """
    large = vessels[(vessels[:, 3] > 0.0085) & (vessels[:, 3] < 0.03)]
    side = np.sign(large[:, :1]) * large[:, 3:]
    return np.concatenate(
        [large[:, :1] + 1.1 * side, large[:, 1:2] + 1.3 * large[:, 3:], large[:, 2:]], 1
    )


def _lesions(rng: np.random.Generator, p: SimpleNamespace, rank: int) -> SimpleNamespace:
    """Lesion sites of one infected patient; rank 0..3 goes from mild to severe."""
    span = (0.40, 0.54, 0.68, 0.82)[rank] + rng.uniform(-0.05, 0.05)
    low = rng.uniform(0.08, 0.96 - span) if span < 0.8 else rng.uniform(0.04, 0.1)
    count = (4, 7, 11, 17)[rank] + int(rng.integers(0, 3))
    t = low + span * (np.arange(count) + rng.uniform(0.2, 0.8, count)) / count
    radius = rng.uniform(0.08, (0.15, 0.19, 0.23, 0.27)[rank], count)
    side = np.where(rng.random(count) < rng.uniform(0.3, 0.7), -1, 1)
    angle = rng.triangular(-0.9, 0.75, 1.25, count)  # -pi/2 front, 0 lateral, pi/2 back
    width, depth = _cavity_axes(p, t)
    reach = rng.uniform(0.7, 0.98, count)
    return SimpleNamespace(
        x=side * width * reach * np.cos(angle),
        y=p.cavity_y + depth * reach * np.sin(angle),
        t=t,
        radius=radius,
        half=np.maximum(radius / HEIGHT, 0.75 * span / count),
        low=low,
        high=low + span,
        density=rng.uniform(100, 200),
        reticular=max(0.0, rng.uniform(-120, 240)),
        solid=rng.uniform(0.7, 1.6),
        effusion=rng.uniform(0.03, 0.10, 2) * (rng.random(2) < (0.0, 0.1, 0.2, 0.3)[rank]),
    )


@lru_cache(maxsize=32)
def _anatomy(patient: int, seed: int) -> SimpleNamespace:
    """All that the slices of one patient share."""
    rng = np.random.default_rng([seed, patient])
    p = SimpleNamespace(**{name: rng.uniform(*bounds) for name, bounds in _RANGES.items()})
    p.cavity_y = p.body_y - 0.01
    p.spine_y = p.body_y + 0.42 * p.body_depth
    p.shape = _volume(rng, 9, 9)
    p.mottles = _volume(rng, 26, 20)
    p.texture = _volume(rng, 52, 38)
    p.vessels = _vessels(rng, p)
    p.bronchi = _bronchi(p.vessels)
    # One wholly healthy patient and one of each severity in every five, in an order of chance.
    order = np.random.default_rng([seed, patient // 5, 1]).permutation(5)
    rank = int(order[patient % 5])
    p.lesions = _lesions(rng, p, rank) if rank < 4 else None
    return p


def _ellipse(x, y, cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    """About the distance to an upright ellipse, positive inside."""
    s = np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2)
    return (1.0 - s) * min(rx, ry)


def _oval(
    grid: SimpleNamespace, cy: float, rx: float, front: float, back: float, power: float
) -> np.ndarray:
    """About the distance to a superellipse with its own depth before and behind cy, positive
    inside.
    """
    y = grid.line - cy
    fx = (np.abs(grid.line / rx) ** power).astype(np.float32)[None]
    fy = (np.abs(y / np.where(y < 0, front, back)) ** (power + 0.2 * (y > 0))).astype(np.float32)[
        :, None
    ]
    total = fx + fy
    depth = 0.5 * (front + back)
    return (1.0 - np.sqrt(total)) * (depth + (rx - depth) * (fx / total)) * (2.0 / power)


def _join(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Union of two distances with a fillet of the given radius."""
    radius = radius
    h = np.maximum(radius - np.abs(a - b), 0)
    return np.maximum(a, b) + h * h * (0.25 / radius)


def _cover(distance: np.ndarray, width: float) -> np.ndarray:
    """Share of each pixel inside, for an edge that many units wide."""
    return np.clip(distance * (1.0 / width) + 0.5, 0.0, 1.0)


def _section(centre: float, half: float, t: float) -> float:
    """Scale of the section at t of an ellipsoid that spans centre - half .. centre + half."""
    return float(np.sqrt(max(0.0, 1.0 - ((t - centre) / half) ** 2)))


def _mediastinum(grid: SimpleNamespace, p: SimpleNamespace, t: float) -> np.ndarray:
    """Distance, positive inside, to what lies between the lungs: great vessels, heart, spine,
    aorta.
    """
    y = grid.line - p.cavity_y
    middle = np.exp(-(((y + 0.02) / 0.16) ** 2)) * (0.15 - 0.05 * abs(t - 0.35))
    half = 0.035 + middle + 0.07 * _smooth((y - 0.1) / 0.2) + 0.05 * _smooth((0.18 - t) / 0.18)
    # the heart lies against the breastbone
    half += 0.05 * _section(0.72, 0.33, t) * _smooth((-0.05 - y) / 0.2)
    solid = half.astype(np.float32)[:, None] - np.abs(grid.x - 0.012)
    heart = _section(0.72, 0.33, t) * p.heart
    if heart > 0.05:
        # sheared: the apex of the heart points to the front left
        x = grid.x + 0.35 * (grid.y - (p.cavity_y - 0.14))
        body = _ellipse(x, grid.y, p.heart_x, p.cavity_y - 0.17, 0.32 * heart, 0.28 * heart)
        solid = _join(solid, body, 0.06)
    spine = _ellipse(grid.x, grid.y, p.spine_x, p.spine_y + 0.08, 0.13 * p.spine, 0.2 * p.spine)
    solid = _join(solid, spine, 0.06)
    if t > p.carina - 0.06:
        solid = _join(
            solid, _ellipse(grid.x, grid.y, p.spine_x + 0.12, p.spine_y - 0.07, 0.068, 0.068), 0.03
        )
    return solid


def _domes(grid: SimpleNamespace, p: SimpleNamespace, t: float) -> tuple[np.ndarray | None, float]:
    """Distance to the diaphragm domes, None above them, and the width of their oblique edge."""
    solid = None
    width = grid.pixel
    for top, cx, rx, ry in ((p.dome, -0.36, 0.37, 0.42), (p.dome + p.dome_gap, 0.36, 0.33, 0.40)):
        half = 1.16 - top
        scale = _section(1.16, half, t)
        if scale > 0.02:
            dome = _ellipse(grid.x, grid.y, cx, p.cavity_y - 0.09, rx * scale, ry * scale)
            solid = dome if solid is None else np.maximum(solid, dome)
            width = max(width, min(0.012 * rx * (1.16 - t) / (half * half * scale), 0.07))
    return solid, width


def _lungs(
    grid: SimpleNamespace, p: SimpleNamespace, t: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coverage by lung, distance to the chest wall (positive inside) and a slow ripple, each [size,
    size].
    """
    width, depth = map(float, _cavity_axes(p, t))
    ripple = _field(grid, p.shape, t)
    # the apex of the lung lies towards the back
    middle = p.cavity_y + 0.07 * float(_smooth((0.3 - t) / 0.3))
    cavity = _oval(grid, middle, width, depth * 0.94, depth * 1.02, 2.15) + ripple * 0.012
    inner = -_join(-cavity, _mediastinum(grid, p, t) + ripple * 0.01, 0.12)
    lung = _cover(inner, grid.pixel)
    domes, edge = _domes(grid, p, t)
    if domes is not None:
        lung *= 1.0 - _cover(domes + ripple * 0.01, edge)
    return lung, cavity, ripple


def _splat(grid: SimpleNamespace, spheres: np.ndarray, z: float, thickness: float) -> np.ndarray:
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


def _paint(
    hu: np.ndarray, grid: SimpleNamespace, centre, radii, value: float, turn: float = 0.0
) -> None:
    """Paints an ellipse, turned by `turn` radians, of HU value into hu in place."""
    reach = max(radii) + grid.pixel
    lo = [max(0, int((c - reach + 1) / grid.pixel)) for c in centre]
    hi = [max(0, int((c + reach + 1) / grid.pixel) + 1) for c in centre]
    box = np.s_[lo[1] : hi[1], lo[0] : hi[0]]
    dx = grid.x[:, box[1]] - centre[0]
    dy = grid.y[box[0]] - centre[1]
    c = float(np.cos(turn))
    s = float(np.sin(turn))
    cover = _cover(_ellipse(c * dx + s * dy, c * dy - s * dx, 0, 0, *radii), grid.pixel)
    hu[box] += cover * (value - hu[box])


def _surface(grid: SimpleNamespace, p: SimpleNamespace, t: float) -> tuple[np.ndarray, np.ndarray]:
    """HU [size, size] of air and table, and the distance to the skin."""
    shoulder = float(_smooth((0.3 - t) / 0.3))
    front = p.body_depth * (0.97 - 0.16 * shoulder)
    outline = _oval(grid, p.body_y, p.body_width * (1 + 0.1 * shoulder), front, p.body_depth, 2.25)
    breast = p.breast * _section(0.55, 0.4, t)
    if breast > 0.02:
        bulge = _ellipse(np.abs(grid.x), grid.y, 0.42, p.body_y - 0.36, 0.3, 0.2 + breast)
        outline = _join(outline, bulge, 0.1)
    table = (
        grid.y - (p.body_y + p.body_depth + 0.02 + p.table_gap) + p.table_curve * grid.x * grid.x
    )
    hu = np.full((grid.size, grid.size), AIR, np.float32)
    for offset, value in ((0.0, -250.0), (0.075, -450.0)):
        hu += _cover(0.006 - np.abs(table - offset), grid.pixel) * (value - AIR)
    hu += _cover(0.037 - np.abs(table - 0.0375), grid.pixel) * 60  # its foam core
    return hu, outline


def _body(
    grid: SimpleNamespace, p: SimpleNamespace, t: float, cavity: np.ndarray, ripple: np.ndarray
) -> np.ndarray:
    """HU [size, size] of table, chest wall with ribs, and a cavity filled with soft tissue."""
    hu, outline = _surface(grid, p, t)
    hu += _cover(outline, grid.pixel) * (MUSCLE - hu)
    mirror = np.abs(grid.x)
    muscle = cavity + (0.125 - 0.05 * p.fat)
    bundles = [(0.17, p.spine_y + 0.18, 0.2, 0.11)]
    if t < 0.6:  # shoulder blade and breast muscles
        bulk = 0.6 + 0.6 * float(_smooth((0.3 - t) / 0.3))
        bundles += [(0.56, p.spine_y - 0.02, 0.2 * bulk, 0.2 * bulk)]
        bundles += [(0.38, p.body_y - 0.42, 0.3 * bulk, 0.1 * bulk)]
    for bundle in bundles:
        muscle = np.maximum(muscle, _ellipse(mirror, grid.y, *bundle))
    muscle += ripple * 0.02
    hu += ripple * 12 * (muscle > 0)
    hu += _cover(np.minimum(outline - 0.014, -muscle), 2 * grid.pixel) * (FAT - MUSCLE)
    # ribs slope from back to front, so a slice cuts each of them once, further along the wall than
    # the last
    phase = t * 9.0 + p.rib_phase + (grid.y - p.cavity_y) * 3.4
    along = np.abs(phase - np.rint(phase)) * (0.3 / 0.085)
    across = (cavity + 0.034) * (1 / 0.024)
    rib = (1 - np.sqrt(along * along + across * across)) * 0.024
    hu += _cover(rib, grid.pixel) * (BONE - MUSCLE)
    hu -= _cover(rib - 0.009, grid.pixel) * 240  # marrow
    return hu


def _bones(hu: np.ndarray, grid: SimpleNamespace, p: SimpleNamespace, t: float) -> None:
    """Paints vertebra, shoulder blades, collar bones, aorta and breastbone into hu in place."""
    x = p.spine_x
    y = p.spine_y
    s = p.spine
    breastbone = (0.0, p.cavity_y - float(_cavity_axes(p, t)[1]) - 0.035)
    for side in (-1, 1):
        _paint(
            hu, grid, (x + side * 0.13 * s, y + 0.12 * s), (0.075 * s, 0.022 * s), BONE, side * 0.45
        )
        _paint(
            hu, grid, (x + side * 0.05 * s, y + 0.165 * s), (0.06 * s, 0.02 * s), BONE, -side * 0.6
        )
        if t < 0.55:
            blade = (side * (0.6 - 0.12 * t), y - 0.03 + 0.1 * t)
            _paint(hu, grid, blade, (0.2 - 0.2 * t, 0.018), BONE, side * 0.9)
        if t < 0.16:
            _paint(hu, grid, (side * 0.3, p.cavity_y - 0.26), (0.17, 0.03), BONE, side * 0.5)
    _paint(hu, grid, (x, y + 0.22 * s), (0.018 * s, 0.075 * s), BONE)
    _paint(hu, grid, (x, y), (0.108 * s, 0.088 * s), BONE)
    _paint(hu, grid, (x, y - 0.004), (0.092 * s, 0.072 * s), 210.0)
    _paint(hu, grid, (x, y + 0.107 * s), (0.05 * s, 0.042 * s), 30.0)
    _paint(hu, grid, (x + 0.12, y - 0.07), (0.062, 0.062), 75.0)  # descending aorta
    _paint(hu, grid, breastbone, (0.09, 0.024), BONE)
    _paint(hu, grid, breastbone, (0.075, 0.012), 180.0)


def _airways(hu: np.ndarray, grid: SimpleNamespace, p: SimpleNamespace, t: float) -> None:
    """Paints trachea, main bronchi and stomach gas into hu in place."""
    y = p.cavity_y + 0.03
    r = 0.048 * p.trachea
    if t < p.carina:
        _paint(hu, grid, (0.01, y + 0.05 * t - 0.02), (r, r * 1.05), -985.0)
    elif t < p.carina + 0.16:
        out = (t - p.carina) / 0.16
        for side in (-1, 1):
            centre = (0.01 + side * (0.055 + 0.11 * out), y + 0.02 + 0.02 * out)
            long = r * (1.15 - 0.5 * out)
            short = r * (0.8 - 0.3 * out)
            _paint(hu, grid, centre, (long + 0.012, short + 0.012), BLOOD, side * 0.35)
            _paint(hu, grid, centre, (long, short), -960.0, side * 0.35)
    gas = p.gas * _section(1.16, 1.12 - p.dome - p.dome_gap, t)
    if gas > 0.02:  # air in the stomach, under the left dome
        _paint(hu, grid, (0.42, p.cavity_y - 0.22), (gas, 0.6 * gas), -985.0, 0.3)


def _infection(
    grid: SimpleNamespace, p: SimpleNamespace, t: float, lung: np.ndarray, cavity: np.ndarray
):
    """Coverage by ground glass, consolidation, effusion, a texture and the mask; None if there is
    too little.

    Each is [size, size]; the mask is exactly where any of the three is painted.
    """
    sites = p.lesions
    if sites is None or not sites.low < t < sites.high:
        return None
    line = (np.arange(36) - 1) / 33 * 2 - 1  # where the spline nodes sit
    dz = (t - sites.t) / sites.half
    near = np.abs(dz) < 1
    gap = [
        ((line - c[:, None]) / sites.radius[near, None]) ** 2
        for c in (sites.x[near], sites.y[near])
    ]
    bumps = 1 - np.sqrt(gap[0][:, None, :] + gap[1][:, :, None] + dz[near][:, None, None] ** 2)
    bumps = np.maximum(bumps.max(0, initial=-2.0), -2.0)
    blob = _field(grid, bumps) + 0.3 * _field(grid, p.mottles[::-1], t)
    texture = _field(grid, p.texture[::-1], t)
    blob += 0.16 * texture
    inside = lung > 0.5
    glass = (0.25 + 0.75 * _smooth(blob * 2.2)) * (inside & (blob > 0))
    solid = _smooth((blob - sites.solid + 0.13 * texture) * 3.5) * inside
    level = sites.effusion[np.where(grid.line < 0, 0, 1)] * _smooth(np.array((t - sites.low) / 0.3))
    depth = level.astype(np.float32)[None] * _smooth((grid.y - (p.cavity_y + 0.02)) * 3)
    fluid = _cover(depth - cavity, grid.pixel) * inside * (depth > 0)
    mask = (glass > 0) | (solid > 0) | (fluid > 0)
    if mask.sum() < max(2, LABEL_FRACTION * mask.size):
        return None
    return glass, solid, fluid, texture, mask


def _parenchyma(
    grid: SimpleNamespace,
    p: SimpleNamespace,
    t: float,
    cavity: np.ndarray,
    ripple: np.ndarray,
    lesion,
) -> np.ndarray:
    """HU [size, size] of the lungs with their vessels, denser towards the back, with any lesion."""
    slope = _smooth((grid.y - (p.cavity_y - 0.35)) * 1.25)
    hu = p.lung + p.dependent * slope
    hu = hu + _field(grid, p.mottles, t) * p.mottle + _field(grid, p.texture, t) * 14
    hu += ripple * p.mosaic
    if p.atelectasis > 0:  # a dense band along the back in healthy lungs too
        hu += p.atelectasis * _smooth(1 - cavity * 11) * _smooth((grid.y - (p.cavity_y + 0.1)) * 4)
    fissure = grid.y - (p.cavity_y + 0.42 - 0.75 * t + p.fissure) + ripple * 0.035
    fissure += np.abs(grid.x) * (2 * p.fissure) + grid.x * (p.fissure - 0.09)
    hu += _cover(0.002 - np.abs(fissure), 2 * grid.pixel) * 170
    vessel = _splat(grid, p.vessels, t * HEIGHT, 0.02)
    wall = _splat(grid, p.bronchi, t * HEIGHT, 0.008)
    lumen = _splat(grid, p.bronchi * np.array([1, 1, 1, 0.66]), t * HEIGHT, 0.008)
    if lesion is not None:
        glass, solid, fluid, texture, _ = lesion
        ridge = np.maximum(1 - np.abs(texture) * 3, 0) * p.lesions.reticular
        hu += glass * (p.lesions.density + ridge)
        hu += solid * (-120 + 80 * texture - hu)
    hu += wall * 0.7 * (-60 - hu)
    hu += vessel * (BLOOD - hu)
    hu += lumen * (-960 - hu)
    if lesion is not None:
        hu += fluid * (10 - hu)
    return hu


def _blur(image: np.ndarray, amount: float) -> np.ndarray:
    """3-tap smoothing of both axes with edges repeated; amount 1 gives 1/4 1/2 1/4."""
    side = amount / 4
    out = image.copy()
    out[1:-1] += side * (image[2:] + image[:-2] - 2 * image[1:-1])
    done = out.copy()
    done[:, 1:-1] += side * (out[:, 2:] + out[:, :-2] - 2 * out[:, 1:-1])
    return done


def _noise(grid: SimpleNamespace, p: SimpleNamespace, rng: np.random.Generator) -> np.ndarray:
    white = rng.standard_normal((grid.size, grid.size), np.float32)
    soft = _blur(white, 0.5 + 0.5 * p.grain)
    return soft * (p.noise * (1.2 + 0.8 * p.grain) * min(1.0, (grid.size / 304) ** 0.7))


def _check(patient: int, index: int, slices_per_patient: int, size: int, seed: int) -> None:
    if patient < 0 or seed < 0:
        raise InputError(
            f"phantom: patient {patient} and seed {seed} must not be negative, use 0 or more"
        )
    if not 0 <= index < slices_per_patient:
        raise InputError(
            f"phantom: index {index} is outside the patient, use 0 to {slices_per_patient - 1}"
        )
    if size < 32:
        raise InputError(f"phantom: size {size} is too small for anatomy, use 32 or more")


def _depth(index: int, slices_per_patient: int) -> float:
    return 0.02 + 0.93 * (index + 0.5) / slices_per_patient


def phantom_slice(
    patient: int, index: int, *, slices_per_patient: int, size: int = 304, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns slice `index` (0 = apex) of a synthetic patient: image, lesion mask and label.

    The image is [size, size] uint8 (0..255, lung window), the mask [size, size] uint8 (1 = lesion),
    the label 1 if the mask covers at least 0.05 % of the image, else 0 with an empty mask and no
    lesion drawn. The result depends on the arguments alone, the anatomy on (seed, patient) alone,
    so neighbouring slices look alike. Of every five patients one is healthy throughout. Raises
    InputError for a negative patient or seed, an index outside 0..slices_per_patient - 1 or a size
    below 32.
    """
    _check(patient, index, slices_per_patient, size, seed)
    grid = _grid(size)
    p = _anatomy(patient, seed)
    t = _depth(index, slices_per_patient)
    lung, cavity, ripple = _lungs(grid, p, t)
    lesion = _infection(grid, p, t, lung, cavity)
    hu = _body(grid, p, t, cavity, ripple)
    _bones(hu, grid, p, t)
    hu += lung * (_parenchyma(grid, p, t, cavity, ripple, lesion) - hu)
    _airways(hu, grid, p, t)
    hu = _blur(hu, p.blur * min(1.0, size / 304))
    hu += _noise(grid, p, np.random.default_rng([seed, patient, index, 2]))
    image = np.clip((hu - p.low) * (255 / (p.high - p.low)), 0, 255)
    if p.circle < 0.7:
        image[grid.circle] = 0
    mask = np.zeros((size, size), np.uint8) if lesion is None else lesion[-1].astype(np.uint8)
    return np.rint(image).astype(np.uint8), mask, int(lesion is not None)


def lung_region(
    patient: int, index: int, *, slices_per_patient: int, size: int = 304, seed: int = 0
) -> np.ndarray:
    """Returns the lungs, lesions and vessels included, of the same slice as a bool array [size,
    size].

    Raises InputError as `phantom_slice` does.
    """
    _check(patient, index, slices_per_patient, size, seed)
    lung, _, _ = _lungs(_grid(size), _anatomy(patient, seed), _depth(index, slices_per_patient))
    return lung > 0.5
