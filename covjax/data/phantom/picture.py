"""Synthetic axial chest CT: slices with lesions and exact masks, without a download.

A patient is a set of smooth shapes in a box of x in [-1, 1] (image left to right, so the patient's
right to left), y in [-1, 1] (front to back, the patient lies on the back) and t in [0, 1] (apex to
base of the lungs). One unit of x or y is half the field of view, about 190 mm. Tissue is composed
in Hounsfield units (float32; scalars are Python floats, which do not promote it) and leaves through
a lung window as 8 bit. Shapes live in continuous coordinates, so every slice of every size comes
from the same anatomy. Shapes are signed distances, about true and positive inside, that unions,
fillets and antialiased edges are made from.
"""

from types import SimpleNamespace

import numpy as np

from covjax.data.phantom.anatomy import cavity_axes, make_anatomy
from covjax.data.phantom.lung import BLOOD, infection, lungs, parenchyma
from covjax.data.phantom.shapes import (
    Grid,
    blur,
    cover,
    ellipse,
    join,
    make_grid,
    oval,
    paint,
    section,
    smooth,
)
from covjax.errors import InputError

# Part of the fingerprint of prepared data: raise it whenever any pixel changes.
PHANTOM_VERSION = 1

AIR = -1000.0
FAT = -105.0
MUSCLE = 45.0
BONE = 420.0  # HU


def _surface(grid: Grid, p: SimpleNamespace, t: float) -> tuple[np.ndarray, np.ndarray]:
    """HU [size, size] of air and table, and the distance to the skin."""
    shoulder = float(smooth((0.3 - t) / 0.3))
    front = p.body_depth * (0.97 - 0.16 * shoulder)
    outline = oval(grid, p.body_y, p.body_width * (1 + 0.1 * shoulder), front, p.body_depth, 2.25)
    breast = p.breast * section(0.55, 0.4, t)
    if breast > 0.02:
        bulge = ellipse(np.abs(grid.x), grid.y, 0.42, p.body_y - 0.36, 0.3, 0.2 + breast)
        outline = join(outline, bulge, 0.1)
    table = (
        grid.y - (p.body_y + p.body_depth + 0.02 + p.table_gap) + p.table_curve * grid.x * grid.x
    )
    hu = np.full((grid.size, grid.size), AIR, np.float32)
    for offset, value in ((0.0, -250.0), (0.075, -450.0)):
        hu += cover(0.006 - np.abs(table - offset), grid.pixel) * (value - AIR)
    hu += cover(0.037 - np.abs(table - 0.0375), grid.pixel) * 60  # its foam core
    return hu, outline


def _body(
    grid: Grid, p: SimpleNamespace, t: float, cavity: np.ndarray, ripple: np.ndarray
) -> np.ndarray:
    """HU [size, size] of table, chest wall with ribs, and a cavity filled with soft tissue."""
    hu, outline = _surface(grid, p, t)
    hu += cover(outline, grid.pixel) * (MUSCLE - hu)
    mirror = np.abs(grid.x)
    muscle = cavity + (0.125 - 0.05 * p.fat)
    bundles = [(0.17, p.spine_y + 0.18, 0.2, 0.11)]
    if t < 0.6:  # shoulder blade and breast muscles
        bulk = 0.6 + 0.6 * float(smooth((0.3 - t) / 0.3))
        bundles += [(0.56, p.spine_y - 0.02, 0.2 * bulk, 0.2 * bulk)]
        bundles += [(0.38, p.body_y - 0.42, 0.3 * bulk, 0.1 * bulk)]
    for bundle in bundles:
        muscle = np.maximum(muscle, ellipse(mirror, grid.y, *bundle))
    muscle += ripple * 0.02
    hu += ripple * 12 * (muscle > 0)
    hu += cover(np.minimum(outline - 0.014, -muscle), 2 * grid.pixel) * (FAT - MUSCLE)
    # ribs slope from back to front, so a slice cuts each of them once, further along the wall than
    # the last
    phase = t * 9.0 + p.rib_phase + (grid.y - p.cavity_y) * 3.4
    along = np.abs(phase - np.rint(phase)) * (0.3 / 0.085)
    across = (cavity + 0.034) * (1 / 0.024)
    rib = (1 - np.sqrt(along * along + across * across)) * 0.024
    hu += cover(rib, grid.pixel) * (BONE - MUSCLE)
    hu -= cover(rib - 0.009, grid.pixel) * 240  # marrow
    return hu


def _bones(hu: np.ndarray, grid: Grid, p: SimpleNamespace, t: float) -> None:
    """Paints vertebra, shoulder blades, collar bones, aorta and breastbone into hu in place."""
    x = p.spine_x
    y = p.spine_y
    s = p.spine
    breastbone = (0.0, p.cavity_y - float(cavity_axes(p, t)[1]) - 0.035)
    for side in (-1, 1):
        paint(
            hu, grid, (x + side * 0.13 * s, y + 0.12 * s), (0.075 * s, 0.022 * s), BONE, side * 0.45
        )
        paint(
            hu, grid, (x + side * 0.05 * s, y + 0.165 * s), (0.06 * s, 0.02 * s), BONE, -side * 0.6
        )
        if t < 0.55:
            blade = (side * (0.6 - 0.12 * t), y - 0.03 + 0.1 * t)
            paint(hu, grid, blade, (0.2 - 0.2 * t, 0.018), BONE, side * 0.9)
        if t < 0.16:
            paint(hu, grid, (side * 0.3, p.cavity_y - 0.26), (0.17, 0.03), BONE, side * 0.5)
    paint(hu, grid, (x, y + 0.22 * s), (0.018 * s, 0.075 * s), BONE)
    paint(hu, grid, (x, y), (0.108 * s, 0.088 * s), BONE)
    paint(hu, grid, (x, y - 0.004), (0.092 * s, 0.072 * s), 210.0)
    paint(hu, grid, (x, y + 0.107 * s), (0.05 * s, 0.042 * s), 30.0)
    paint(hu, grid, (x + 0.12, y - 0.07), (0.062, 0.062), 75.0)  # descending aorta
    paint(hu, grid, breastbone, (0.09, 0.024), BONE)
    paint(hu, grid, breastbone, (0.075, 0.012), 180.0)


def _airways(hu: np.ndarray, grid: Grid, p: SimpleNamespace, t: float) -> None:
    """Paints trachea, main bronchi and stomach gas into hu in place."""
    y = p.cavity_y + 0.03
    r = 0.048 * p.trachea
    if t < p.carina:
        paint(hu, grid, (0.01, y + 0.05 * t - 0.02), (r, r * 1.05), -985.0)
    elif t < p.carina + 0.16:
        out = (t - p.carina) / 0.16
        for side in (-1, 1):
            centre = (0.01 + side * (0.055 + 0.11 * out), y + 0.02 + 0.02 * out)
            long = r * (1.15 - 0.5 * out)
            short = r * (0.8 - 0.3 * out)
            paint(hu, grid, centre, (long + 0.012, short + 0.012), BLOOD, side * 0.35)
            paint(hu, grid, centre, (long, short), -960.0, side * 0.35)
    gas = p.gas * section(1.16, 1.12 - p.dome - p.dome_gap, t)
    if gas > 0.02:  # air in the stomach, under the left dome
        paint(hu, grid, (0.42, p.cavity_y - 0.22), (gas, 0.6 * gas), -985.0, 0.3)


def _noise(grid: Grid, p: SimpleNamespace, rng: np.random.Generator) -> np.ndarray:
    white = rng.standard_normal((grid.size, grid.size), np.float32)
    soft = blur(white, 0.5 + 0.5 * p.grain)
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
    grid = make_grid(size)
    p = make_anatomy(patient, seed)
    t = _depth(index, slices_per_patient)
    lung, cavity, ripple = lungs(grid, p, t)
    lesion = infection(grid, p, t, lung, cavity)
    hu = _body(grid, p, t, cavity, ripple)
    _bones(hu, grid, p, t)
    hu += lung * (parenchyma(grid, p, t, cavity, ripple, lesion) - hu)
    _airways(hu, grid, p, t)
    hu = blur(hu, p.blur * min(1.0, size / 304))
    hu += _noise(grid, p, np.random.default_rng([seed, patient, index, 2]))
    image = np.clip((hu - p.low) * (255 / (p.high - p.low)), 0, 255)
    if p.circle < 0.7:
        image[grid.circle] = 0
    mask = np.zeros((size, size), np.uint8) if lesion is None else lesion.mask.astype(np.uint8)
    return np.rint(image).astype(np.uint8), mask, int(lesion is not None)


def lung_region(
    patient: int, index: int, *, slices_per_patient: int, size: int = 304, seed: int = 0
) -> np.ndarray:
    """The lungs, lesions and vessels included, of the same slice: bool [size, size].

    Raises InputError as `phantom_slice` does.
    """
    _check(patient, index, slices_per_patient, size, seed)
    lung, _, _ = lungs(
        make_grid(size), make_anatomy(patient, seed), _depth(index, slices_per_patient)
    )
    return lung > 0.5
