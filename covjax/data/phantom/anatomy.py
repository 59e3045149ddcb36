"""What makes a patient of the phantom: ranges of traits, vessels, airways, sites of lesions."""

from functools import lru_cache
from types import SimpleNamespace

import numpy as np

HEIGHT = 1.45  # length of the lungs along z in units of x

# Uniform ranges of what makes patients differ; lengths in half fields of view, densities in HU.
_RANGES = {
    "body_width": (0.78, 0.93),
    "body_depth": (0.56, 0.68),
    "body_y": (-0.08, -0.02),
    "wall": (0.14, 0.2),
    "fat": (0.0, 1.0),
    "breast": (-0.12, 0.14),
    "heart": (0.85, 1.15),
    "heart_x": (0.06, 0.13),
    "spine_x": (-0.02, 0.02),
    "spine": (0.9, 1.1),
    "trachea": (0.9, 1.15),
    "carina": (0.34, 0.42),
    "dome": (0.74, 0.84),
    "dome_gap": (0.02, 0.07),
    "rib_phase": (0.0, 1.0),
    "table_gap": (0.0, 0.04),
    "table_curve": (0.05, 0.22),
    "lung": (-900.0, -680.0),
    "dependent": (20.0, 190.0),
    "mottle": (8.0, 18.0),
    "mosaic": (0.0, 25.0),
    "fissure": (0.02, 0.16),
    "noise": (14.0, 48.0),
    "grain": (0.0, 1.0),
    "blur": (0.1, 0.9),
    "low": (-1400.0, -1120.0),
    "high": (110.0, 330.0),
    "atelectasis": (-100.0, 330.0),
    "circle": (0.0, 1.0),
    "gas": (-0.16, 0.18),
}


def _volume(rng: np.random.Generator, nodes: int, depth: int) -> np.ndarray:
    # 0.33: std left by the spline
    return rng.standard_normal((depth, nodes, nodes), np.float32) / 0.33


def cavity_axes(p: SimpleNamespace, t) -> tuple:
    """Half width and half depth of the chest cavity at t: a dome that widens to the rib cage."""
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
        width, depth = cavity_axes(p, t)
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
    """Airways [n, 4] along the larger vessels, outer radius, in the order of the vessels."""
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
    width, depth = cavity_axes(p, t)
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
def make_anatomy(patient: int, seed: int) -> SimpleNamespace:
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
