"""CT volumes, whatever the format: axial slices read one at a time, and the way back to the stored geometry.

Slices are canonical: axis 0 from feet to head, rows from front to back, columns from the patient's right to left (the
directions S, P, L), as DICOM stores an axial series and radiologists look at one.
"""

import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

from covjax.data.hounsfield import Reading, decide
from covjax.errors import InputError

CANONICAL = axcodes2ornt("LPS")
MAX_VOXELS = 2**36  # more is a damaged header
SAMPLED = 9  # slices that tell what a volume's values are


class Geometry(NamedTuple):
    """How a volume is stored: enough to write an array beside it exactly."""

    shape: tuple[int, int, int]  # of the stored array
    affine: np.ndarray  # [4, 4], stored indices to mm; right, front and head are positive (RAS, as NIfTI has it)
    known: bool  # False: the file does not say how it lies, the affine is the format's default

    @property
    def orientation(self) -> np.ndarray:
        """Returns [3, 2] as nibabel.orientations has it: what brings the stored array to L, P, S."""
        return ornt_transform(io_orientation(self.affine), CANONICAL)


@dataclass(frozen=True)
class Volume:
    """A CT volume of which nothing but the header has been read."""

    path: Path  # of the file or folder: what errors name
    shape: tuple[int, int, int]  # slices, rows, columns
    spacing: tuple[float, float, float] | None  # mm between slices, rows, columns; None when unknown
    geometry: Geometry
    raw: Callable[[int], np.ndarray]  # values [rows, columns] of a canonical slice, after the file's own scaling
    declared: str = "auto"  # hu or 8bit where the file says so
    told: str = "auto"  # what the user says (covjax.data.hounsfield.INTENSITIES)
    padding: tuple[tuple[float, float], ...] = ()  # ranges of values that the file says are padding
    patient: str = ""
    study: str = ""
    inverted: bool = False  # 8-bit values are stored white on black
    header: object = None  # of NIfTI: what a mask inherits
    frames: Sequence[Any] = ()  # of DICOM: its pictures, as the last stored axis has them
    notes: tuple[str, ...] = ()  # what is uncertain but usable, a sentence each; without names, which may be patients'

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def files(self) -> list[Path]:
        """Returns the files that hold the volume."""
        return sorted({frame.path for frame in self.frames}) or [self.path]

    def read(self, index: int) -> np.ndarray:
        """Returns slice `index` as float32 [rows, columns], HU or 0..255. Raises InputError for damage, NaN or Inf."""
        values = self.reading.convert(self._values(index))
        return 255 - values if self.inverted and self.intensity == "8bit" else values

    def _values(self, index: int) -> np.ndarray:
        with reading(self.path):
            values = np.asarray(self.raw(index), np.float32)
        if not np.isfinite(values).all():
            raise InputError(f"{self.path}: slice {index} holds NaN or infinite values, repair or remove the file")
        return values

    @cached_property
    def reading(self) -> Reading:
        """Returns what the values are, by up to nine slices. Raises InputError when that cannot be decided."""
        if self.told == "auto" and self.declared == "8bit":
            return Reading("8bit")
        sample = [self._values(int(i)) for i in np.unique(np.linspace(0, len(self) - 1, SAMPLED).astype(int))]
        return decide(self.path, np.stack(sample), self.told, self.declared, self.padding)

    @property
    def intensity(self) -> str:
        """Returns what `read` gives: hu or 8bit. Raises InputError when that cannot be decided."""
        return self.reading.intensity

    @property
    def all_notes(self) -> tuple[str, ...]:
        """Returns `notes`, and what is uncertain of the values. Raises as `intensity`."""
        return *self.notes, *self.reading.notes


def canonical(stored: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Returns the canonical view [slices, rows, columns] of an array [*geometry.shape]; nothing is copied."""
    return apply_orientation(stored, geometry.orientation).transpose(2, 1, 0)


def canonical_spacing(geometry: Geometry, millimetres: float = 1.0) -> tuple[float, float, float] | None:
    """Returns the spacing in mm along canonical slices, rows and columns; None if it cannot be one."""
    sizes = np.sqrt((geometry.affine[:3, :3] ** 2).sum(0)) * millimetres
    if not (np.isfinite(sizes).all() and (sizes > 1e-3).all() and (sizes < 1e3).all()):
        return None
    order = np.argsort(geometry.orientation[:, 0])  # stored axis of each of L, P, S
    return tuple(float(sizes[axis]) for axis in order[::-1])


def canonical_shape(geometry: Geometry) -> tuple[int, int, int]:
    """Returns the number of slices, rows and columns."""
    order = np.argsort(geometry.orientation[:, 0])
    return tuple(int(geometry.shape[axis]) for axis in order[::-1])


def check_geometry(path: Path, geometry: Geometry) -> None:
    """Raises InputError for a shape or affine that no volume has."""
    if len(geometry.shape) != 3 or min(geometry.shape) < 1 or np.prod(geometry.shape, dtype=float) > MAX_VOXELS:
        raise InputError(f"{path}: {geometry.shape} voxels is no CT volume, the header is damaged")
    affine = geometry.affine
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise InputError(f"{path}: its orientation (affine) is damaged, export the volume again")


def stored_array(slices: Iterable[np.ndarray], volume: Volume) -> np.ndarray:
    """Returns canonical uint8 slices [rows, columns] as an array in the volume's stored geometry.

    It lies in an unlinked temporary file, so it may be larger than memory. Raises InputError if slices are too few,
    too many or of another size.
    """
    out = scratch(volume.geometry.shape, np.uint8)
    view, count = canonical(out, volume.geometry), 0
    for count, values in enumerate(slices, 1):
        if count > len(volume) or values.shape != volume.shape[1:]:
            raise InputError(f"{volume.path}: slice {count - 1} of {values.shape} does not fit {volume.shape}")
        view[count - 1] = values
    if count != len(volume):
        raise InputError(f"{volume.path}: {count} of {len(volume)} slices were given")
    return out


def scratch(shape: tuple[int, ...], dtype: np.dtype | type) -> np.memmap:
    """Returns zeros [*shape] in column-major order in a temporary file that vanishes with the array."""
    with tempfile.TemporaryFile() as file:
        file.truncate(max(1, int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize))
        return np.memmap(file, dtype, "r+", shape=tuple(shape), order="F")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns every way in which a file can be missing or damaged into one InputError naming it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata; what matters is checked
            yield
    except InputError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise InputError(f"{path}: cannot be read ({error.strerror}), check the path") from None
        raise damaged(path, error) from None
    # Damaged files fail in many ways inside the readers, none of them a programming error of ours.
    except (
        EOFError,
        SyntaxError,
        ValueError,
        LookupError,
        TypeError,
        ArithmeticError,
        AttributeError,
        RuntimeError,
        MemoryError,
        struct.error,
        zlib.error,
    ) as error:
        raise damaged(path, error) from None
    # Both libraries have exceptions of their own that derive from nothing narrower.
    except Exception as error:
        if not type(error).__module__.startswith(("nibabel", "pydicom")):
            raise
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception | str) -> InputError:
    """Returns the error for a file whose content cannot be read."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{path}: damaged or truncated ({reason[:200]}), replace or remove it")
