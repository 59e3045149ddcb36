"""The lungs of a phantom slice: their outline, their tissue and the infection within."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from covjax.data.phantom.anatomy import HEIGHT, cavity_axes
from covjax.data.phantom.shapes import (
    Grid,
    cover,
    ellipse,
    field,
    join,
    oval,
    section,
    smooth,
    splat,
)

LABEL_FRACTION = 0.0005  # smallest lesion, as a share of the image, that counts as infected
BLOOD = 40.0  # HU


class Infection(NamedTuple):
    """Coverage of a slice [size, size] by kinds of infection, their texture and their mask."""

    glass: np.ndarray
    solid: np.ndarray
    fluid: np.ndarray
    texture: np.ndarray
    mask: np.ndarray


def _mediastinum(grid: Grid, p: SimpleNamespace, t: float) -> np.ndarray:
    """Distance, positive inside, to what lies between the lungs: vessels, heart, spine, aorta."""
    y = grid.line - p.cavity_y
    middle = np.exp(-(((y + 0.02) / 0.16) ** 2)) * (0.15 - 0.05 * abs(t - 0.35))
    half = 0.035 + middle + 0.07 * smooth((y - 0.1) / 0.2) + 0.05 * smooth((0.18 - t) / 0.18)
    # the heart lies against the breastbone
    half += 0.05 * section(0.72, 0.33, t) * smooth((-0.05 - y) / 0.2)
    solid = half.astype(np.float32)[:, None] - np.abs(grid.x - 0.012)
    heart = section(0.72, 0.33, t) * p.heart
    if heart > 0.05:
        # sheared: the apex of the heart points to the front left
        x = grid.x + 0.35 * (grid.y - (p.cavity_y - 0.14))
        body = ellipse(x, grid.y, p.heart_x, p.cavity_y - 0.17, 0.32 * heart, 0.28 * heart)
        solid = join(solid, body, 0.06)
    spine = ellipse(grid.x, grid.y, p.spine_x, p.spine_y + 0.08, 0.13 * p.spine, 0.2 * p.spine)
    solid = join(solid, spine, 0.06)
    if t > p.carina - 0.06:
        solid = join(
            solid, ellipse(grid.x, grid.y, p.spine_x + 0.12, p.spine_y - 0.07, 0.068, 0.068), 0.03
        )
    return solid


def _domes(grid: Grid, p: SimpleNamespace, t: float) -> tuple[np.ndarray | None, float]:
    """Distance to the diaphragm domes, None above them, and the width of their oblique edge."""
    solid = None
    width = grid.pixel
    for top, cx, rx, ry in ((p.dome, -0.36, 0.37, 0.42), (p.dome + p.dome_gap, 0.36, 0.33, 0.40)):
        half = 1.16 - top
        scale = section(1.16, half, t)
        if scale > 0.02:
            dome = ellipse(grid.x, grid.y, cx, p.cavity_y - 0.09, rx * scale, ry * scale)
            solid = dome if solid is None else np.maximum(solid, dome)
            width = max(width, min(0.012 * rx * (1.16 - t) / (half * half * scale), 0.07))
    return solid, width


def lungs(grid: Grid, p: SimpleNamespace, t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coverage by lung, distance to the chest wall and a slow ripple, each [size, size]."""
    width, depth = map(float, cavity_axes(p, t))
    ripple = field(grid, p.shape, t)
    # the apex of the lung lies towards the back
    middle = p.cavity_y + 0.07 * float(smooth((0.3 - t) / 0.3))
    cavity = oval(grid, middle, width, depth * 0.94, depth * 1.02, 2.15) + ripple * 0.012
    inner = -join(-cavity, _mediastinum(grid, p, t) + ripple * 0.01, 0.12)
    lung = cover(inner, grid.pixel)
    domes, edge = _domes(grid, p, t)
    if domes is not None:
        lung *= 1.0 - cover(domes + ripple * 0.01, edge)
    return lung, cavity, ripple


def infection(
    grid: Grid, p: SimpleNamespace, t: float, lung: np.ndarray, cavity: np.ndarray
) -> Infection | None:
    """Infection of a slice; None where it is too little to count.

    The mask is exactly where glass, solid or fluid is painted.
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
    blob = field(grid, bumps) + 0.3 * field(grid, p.mottles[::-1], t)
    texture = field(grid, p.texture[::-1], t)
    blob += 0.16 * texture
    inside = lung > 0.5
    glass = (0.25 + 0.75 * smooth(blob * 2.2)) * (inside & (blob > 0))
    solid = smooth((blob - sites.solid + 0.13 * texture) * 3.5) * inside
    level = sites.effusion[np.where(grid.line < 0, 0, 1)] * smooth(np.array((t - sites.low) / 0.3))
    depth = level.astype(np.float32)[None] * smooth((grid.y - (p.cavity_y + 0.02)) * 3)
    fluid = cover(depth - cavity, grid.pixel) * inside * (depth > 0)
    mask = (glass > 0) | (solid > 0) | (fluid > 0)
    if mask.sum() < max(2, LABEL_FRACTION * mask.size):
        return None
    return Infection(glass, solid, fluid, texture, mask)


def parenchyma(
    grid: Grid,
    p: SimpleNamespace,
    t: float,
    cavity: np.ndarray,
    ripple: np.ndarray,
    lesion: Infection | None,
) -> np.ndarray:
    """HU [size, size] of the lungs with their vessels, denser towards the back, with any lesion."""
    slope = smooth((grid.y - (p.cavity_y - 0.35)) * 1.25)
    hu = p.lung + p.dependent * slope
    hu = hu + field(grid, p.mottles, t) * p.mottle + field(grid, p.texture, t) * 14
    hu += ripple * p.mosaic
    if p.atelectasis > 0:  # a dense band along the back in healthy lungs too
        hu += p.atelectasis * smooth(1 - cavity * 11) * smooth((grid.y - (p.cavity_y + 0.1)) * 4)
    fissure = grid.y - (p.cavity_y + 0.42 - 0.75 * t + p.fissure) + ripple * 0.035
    fissure += np.abs(grid.x) * (2 * p.fissure) + grid.x * (p.fissure - 0.09)
    hu += cover(0.002 - np.abs(fissure), 2 * grid.pixel) * 170
    vessel = splat(grid, p.vessels, t * HEIGHT, 0.02)
    wall = splat(grid, p.bronchi, t * HEIGHT, 0.008)
    lumen = splat(grid, p.bronchi * np.array([1, 1, 1, 0.66]), t * HEIGHT, 0.008)
    if lesion is not None:
        ridge = np.maximum(1 - np.abs(lesion.texture) * 3, 0) * p.lesions.reticular
        hu += lesion.glass * (p.lesions.density + ridge)
        hu += lesion.solid * (-120 + 80 * lesion.texture - hu)
    hu += wall * 0.7 * (-60 - hu)
    hu += vessel * (BLOOD - hu)
    hu += lumen * (-960 - hu)
    if lesion is not None:
        hu += lesion.fluid * (10 - hu)
    return hu
