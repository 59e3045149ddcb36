"""Made-up chests in HU with everything that is mistaken for lung: a generator for tests of the lung
estimates.
"""

from typing import NamedTuple

import numpy as np

AIR = -1000.0
GAS = -990.0
LUNG = -850.0
FAT = -100.0
SOFT = 40.0
BONE = 400.0
# mm of the volume: feet to head, front to back, right to left
SIZE = np.array([200.0, 300.0, 400.0])


class Chest(NamedTuple):
    values: np.ndarray  # HU, float32 [slices, rows, columns], from feet to head
    lungs: np.ndarray  # bool: air and what is consolidated
    solid: np.ndarray  # bool: the part of them that is consolidated
    spacing: tuple[float, float, float]  # mm


def chest(
    seed: int = 0, spacing: tuple[float, float, float] = (4.0, 4.0, 4.0), *, solid: str = "",
    bowel: bool = True,
    arms: bool = True, table: bool = True, noise: float = 15.0, padding: float | None = None,
) -> Chest:  # fmt: skip
    """Makes a chest with two lungs above a diaphragm, a heart, an airway, fat and ribs.

    `solid` consolidates the "right" or the "left" lung or the "back" quarter of both; `bowel` puts
    gas and stool below the diaphragm; `padding` is the value outside the scanner's circle.
    """
    rng = np.random.default_rng(seed)
    shape = np.rint(SIZE / spacing).astype(int)
    z, y, x = np.meshgrid(
        *((np.arange(n) + 0.5) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij"
    )
    x = x - SIZE[2] / 2
    y = y - SIZE[1] / 2
    grow = rng.uniform(0.94, 1.0)
    hu = np.full(shape, AIR, np.float32)
    body = (x / (150 * grow)) ** 2 + (y / (105 * grow)) ** 2 < 1
    hu[body] = FAT
    hu[(x / (140 * grow)) ** 2 + (y / (95 * grow)) ** 2 < 1] = SOFT
    hu[(x / 20) ** 2 + ((y - 75) / 18) ** 2 < 1] = BONE
    # the domes of the diaphragm
    floor = 75 + rng.uniform(-5, 5) - 0.004 * ((np.abs(x) - 70) ** 2 + y**2)
    side = ((np.abs(x) - 72) / 50) ** 2 + (y / 80) ** 2 + ((z - 70) / 115) ** 2 < 1
    lungs = side & (z > floor)
    lungs &= ~(((x - 25) / 50) ** 2 + ((y + 25) / 45) ** 2 + ((z - 100) / 45) ** 2 < 1)  # the heart
    hu[lungs] = LUNG + rng.uniform(-20, 60)
    hu[lungs & (rng.random(shape) < 0.02)] = SOFT  # vessels
    hu[(z > 110) & ((x / 9) ** 2 + ((y - 20) / 9) ** 2 < 1)] = GAS
    part = {"right": x < 0, "left": x > 0, "back": y > 30}.get(solid, np.zeros(shape, bool)) & lungs
    hu[part] = 20
    if bowel:
        for _ in range(4):
            centre = rng.uniform((-90, -60, 0), (90, 30, 25))
            radii = rng.uniform(12, 28, 3)
            inside = (
                sum(((a - c) / r) ** 2 for a, c, r in zip((x, y, z), centre, radii, strict=True))
                < 1
            )
            hu[inside] = GAS
        stool = ((x + 90) / 18) ** 2 + ((y + 20) / 18) ** 2 + ((z - 20) / 20) ** 2 < 1
        hu[stool] = rng.choice([SOFT, -200.0, GAS], shape, p=[0.6, 0.2, 0.2])[stool]
    if arms:
        hu[((np.abs(x) - 172) / 18) ** 2 + ((y - 10) / 22) ** 2 < 1] = SOFT
    if table:
        hu[(np.abs(y - 118 - 0.0006 * x**2) < 2 + spacing[1] / 2) & (np.abs(x) < 190)] = -300
    hu += rng.normal(0, noise, shape).astype(np.float32)
    if padding is not None:
        hu[x**2 + y**2 > 198**2] = padding
    return Chest(hu, lungs, part, spacing)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())
