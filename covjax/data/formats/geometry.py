"""How volumes are stored and lie in the patient: from stored voxels to canonical slices and mm."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from covjax.errors import InputError

CANONICAL = axcodes2ornt("LPS")
MAX_VOXELS = 2**36  # more is a damaged header
SHEARED = 1e-4  # cosine between two axes from which ITK refuses a grid (itkNiftiImageIO.cxx)


class Geometry(NamedTuple):
    """How a volume is stored: enough to write another array in the same place."""

    shape: tuple[int, int, int]  # of the stored array
    # [4, 4], stored indices to mm; right, front and head are positive (RAS, as NIfTI has it)
    affine: np.ndarray
    known: bool  # False: the file does not say how it lies, the affine is the format's default
    unit: float = 1.0  # mm: of what the affine leads to
    turn: np.ndarray | None = None  # orientation, where it is not that of the nearest axes

    @property
    def orientation(self) -> np.ndarray:
        """Returns what turns the stored array to L, P, S: [3, 2] as nibabel.orientations."""
        return (
            ornt_transform(io_orientation(self.affine), CANONICAL)
            if self.turn is None
            else self.turn
        )


class Grid(NamedTuple):
    """An even grid on which slices of a volume lie that follow each other."""

    geometry: Geometry
    first: int  # of the volume's canonical slices, which lies at places[0]
    # canonical slices of the grid, ascending; where a number is left out, a slice is missing
    places: Sequence[int]


def canonical(stored: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Returns the canonical view [slices, rows, columns] of an array [*geometry.shape], no copy."""
    return apply_orientation(stored, geometry.orientation).transpose(2, 1, 0)


def canonical_affine(geometry: Geometry) -> np.ndarray:
    """Returns [4, 4] from canonical (column, row, slice) to mm, directions as in `Geometry`."""
    affine = geometry.affine @ inv_ornt_aff(geometry.orientation, geometry.shape)
    affine[:3] *= geometry.unit
    return affine


def canonical_spacing(geometry: Geometry) -> tuple[float, float, float] | None:
    """Returns the mm between canonical slices, rows and columns; None if it cannot be one.

    Slices and rows are measured at right angles to what they follow: the product is the volume of a
    voxel, |det| of the affine, and that of the last two the area of a pixel, however sheared the
    grid.
    """
    triangular = np.linalg.qr(canonical_affine(geometry)[:3, :3])[1]
    columns, rows, slices = map(float, np.abs(np.diag(triangular)))
    if not all(1e-3 < size < 1e3 for size in (slices, rows, columns)):
        return None
    return slices, rows, columns


def canonical_shape(geometry: Geometry) -> tuple[int, int, int]:
    """Returns the number of slices, rows and columns."""
    order = np.argsort(geometry.orientation[:, 0])  # stored axis of each of L, P, S
    slices, rows, columns = (int(geometry.shape[axis]) for axis in order[::-1])
    return slices, rows, columns


def is_sheared(geometry: Geometry) -> bool:
    """Tells whether the axes of a grid are not at right angles, as with a tilted gantry."""
    axes = geometry.affine[:3, :3] / np.linalg.norm(geometry.affine[:3, :3], axis=0)
    return bool(np.abs(axes @ axes.T - np.eye(3)).max() > SHEARED)


def check_geometry(path: Path, geometry: Geometry) -> None:
    """Raises InputError for a shape or affine that no volume has."""
    if (
        len(geometry.shape) != 3
        or min(geometry.shape) < 1
        or np.prod(geometry.shape, dtype=float) > MAX_VOXELS
    ):
        raise InputError(f"{path}: {geometry.shape} voxels is no CT volume, the header is damaged")
    affine = geometry.affine
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise InputError(f"{path}: its orientation (affine) is damaged, export the volume again")
