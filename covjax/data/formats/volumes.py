"""CT volumes of any format: axial slices one at a time, and the way back to what is stored.

Slices are canonical: axis 0 from feet to head, rows from front to back, columns from the patient's
right to left (the directions S, P, L), as DICOM stores an axial series and radiologists look at
one.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from covjax.data.formats.damage import reading
from covjax.data.formats.geometry import Geometry, Grid, canonical, canonical_spacing
from covjax.data.formats.hounsfield import Reading, decide
from covjax.errors import InputError

SAMPLED = 9  # slices that tell what a volume's values are


@dataclass(frozen=True)
class Volume:
    """A CT volume of which nothing but the header has been read."""

    path: Path  # of the file or folder: what errors name
    shape: tuple[int, int, int]  # slices, rows, columns
    # mm between slices, rows, columns, at right angles; None when unknown
    spacing: tuple[float, float, float] | None
    geometry: Geometry
    # values [rows, columns] of a canonical slice, after the file's own scaling
    raw: Callable[[int], np.ndarray]
    stated: str = "auto"  # hu or 8bit where the file says so
    declared: str = "auto"  # what the user says (covjax.data.formats.hounsfield.INTENSITIES)
    padding: tuple[tuple[float, float], ...] = ()  # ranges of values that the file says are padding
    patient: str = ""
    study: str = ""
    inverted: bool = False  # 8-bit values are stored white on black
    header: object = None  # of NIfTI: what a mask inherits
    frames: Sequence[Any] = ()  # of DICOM: its pictures, as the last stored axis has them
    parts: tuple[Grid, ...] = ()  # where its slices lie, if not on the grid of its geometry
    # what is uncertain but usable, a sentence each; without names, which may be patients'
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def files(self) -> list[Path]:
        """Returns the files that hold the volume."""
        return sorted({frame.path for frame in self.frames}) or [self.path]

    @property
    def grids(self) -> tuple[Grid, ...]:
        """Returns the grids on which its slices lie, from the first slice on; usually one."""
        return self.parts or (Grid(self.geometry, 0, range(len(self))),)

    @cached_property
    def extents(self) -> tuple[float, ...] | None:
        """Returns the mm along their normal for which each slice counts; None when unknown."""
        found = []
        for grid in self.grids:
            spacing = canonical_spacing(grid.geometry)
            if self.spacing is None or spacing is None:
                return None
            found += [spacing[0]] * len(grid.places)
        return tuple(found)

    def voxel_mm3(self, index: int) -> float | None:
        """Returns the volume of a voxel of slice `index`; None when unknown."""
        if self.spacing is None or self.extents is None:
            return None
        return self.extents[index] * self.spacing[1] * self.spacing[2]

    def read(self, index: int) -> np.ndarray:
        """Returns slice `index` as float32 [rows, columns], HU or 0..255. Raises InputError."""
        return self.reading.convert(self._values(index), self.inverted)

    def _values(self, index: int) -> np.ndarray:
        with reading(self.path):
            values = np.asarray(self.raw(index), np.float32)
        if not np.isfinite(values).all():
            raise InputError(
                f"{self.path}: slice {index} holds NaN or infinite values, repair or remove the "
                "file"
            )
        return values

    @cached_property
    def reading(self) -> Reading:
        """Returns what the values are, by up to nine slices. Raises InputError if unclear."""
        if self.declared == "auto" and self.stated == "8bit":
            return Reading("8bit")
        sample = [
            self._values(int(i))
            for i in np.unique(np.linspace(0, len(self) - 1, SAMPLED).astype(int))
        ]
        return decide(self.path, np.stack(sample), self.declared, self.stated, self.padding)

    @property
    def intensity(self) -> str:
        """Returns what `read` gives: hu or 8bit. Raises InputError when that cannot be decided."""
        return self.reading.intensity

    @property
    def all_notes(self) -> tuple[str, ...]:
        """Returns `notes`, and what is uncertain of the values. Raises as `intensity`."""
        return *self.notes, *self.reading.notes


def stored_array(slices: Iterable[np.ndarray], volume: Volume) -> np.ndarray:
    """Returns canonical uint8 slices [rows, columns] as an array in the volume's stored geometry.

    It lies in an unlinked temporary file, so it may be larger than memory. Raises InputError if
    slices are too few, too many or of another size.
    """
    return _stored(slices, volume, [Grid(volume.geometry, 0, range(len(volume)))])[0]


def gridded_arrays(slices: Iterable[np.ndarray], volume: Volume) -> list[np.ndarray]:
    """Returns canonical slices as one array for each grid of the volume, else as `stored_array`.

    Where a grid has no slice, its array is 0.
    """
    return _stored(slices, volume, volume.grids)


def _stored(
    slices: Iterable[np.ndarray], volume: Volume, grids: Sequence[Grid]
) -> list[np.ndarray]:
    arrays: list[np.ndarray] = [
        scratch(volume.path, grid.geometry.shape, np.uint8) for grid in grids
    ]
    views = [canonical(array, grid.geometry) for array, grid in zip(arrays, grids, strict=True)]
    planes = [view[place] for view, grid in zip(views, grids, strict=True) for place in grid.places]
    count = 0
    for count, values in enumerate(slices, 1):
        if count > len(volume) or values.shape != volume.shape[1:]:
            raise InputError(
                f"{volume.path}: slice {count - 1} of {values.shape} does not fit {volume.shape}"
            )
        planes[count - 1][:] = values
    if count != len(volume):
        raise InputError(f"{volume.path}: {count} of {len(volume)} slices were given")
    return arrays


def scratch(path: Path, shape: tuple[int, ...], dtype: np.dtype | type) -> np.memmap:
    """Returns zeros [*shape], column-major, in a temporary file that vanishes with the array.

    All its space is taken at once: a disk that is full later would end the process. Raises
    InputError, naming the scan at `path`, if there is not as much.
    """
    size = max(1, int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize)
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):  # macOS has none
                os.posix_fallocate(file.fileno(), 0, size)
            file.truncate(size)
            return np.memmap(file, dtype, "r+", shape=tuple(shape), order="F")
    except OSError as error:
        raise InputError(
            f"{path}: takes a temporary file of {size / 1e6:,.0f} MB ({error.strerror}), "
            "make room or set TMPDIR to a folder with more"
        ) from error
