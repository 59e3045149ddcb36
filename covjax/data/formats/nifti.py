"""NIfTI volumes: the header first, voxels mapped from disk; masks in the same geometry."""

import gzip
import io
import logging
import threading
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np

from covjax.data.formats.damage import damaged, reading
from covjax.data.formats.geometry import (
    MAX_VOXELS,
    Geometry,
    canonical,
    canonical_shape,
    canonical_spacing,
    check_geometry,
    is_sheared,
)
from covjax.data.formats.packed import CT, readable
from covjax.data.formats.volumes import Volume, gridded_arrays, scratch
from covjax.errors import InputError
from covjax.files import open_whole

SUFFIXES = (".nii", ".nii.gz")
# by size, which is the file's first number
HEADERS = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
DEFLATED = 1032  # times smaller is what gzip can make of anything at most
MAX_CLASSES = 16
CHUNK = 2**24  # bytes
UNITS = {"meter": 1000.0, "micron": 1e-3}  # in mm
_READING = threading.Lock()
_QUIET = logging.Logger("nifti", logging.CRITICAL)


class Stored(NamedTuple):
    """Where the voxels of a file are and what they mean."""

    header: Any
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    slope: float
    intercept: float
    gzipped: bool
    sized: bool  # the header says how large a voxel is


class Labels(NamedTuple):
    """A label volume: numbers mapped from disk, and what they stand for."""

    stored: np.ndarray  # [*three stored axes, classes], without slope and intercept
    geometry: Geometry
    slope: float
    intercept: float

    def numbers(self, part: np.ndarray) -> np.ndarray:
        """Returns what a part of `stored` stands for; a whole volume may not fit in memory."""
        if (self.slope, self.intercept) == (1, 0):
            return part
        return part * self.slope + self.intercept


def open_nifti(path: Path, declared: str = "auto") -> Volume:
    """Opens a 2-D or 3-D volume; `declared` as in hounsfield.INTENSITIES. Raises InputError."""
    stored = _stored(path)
    geometry = _geometry(path, stored, _volume_shape(path, stored.shape))
    slope = stored.slope, stored.intercept

    def raw(index: int) -> np.ndarray:
        values = canonical(voxels(path).reshape(geometry.shape, order="F"), geometry)[index]
        return values if slope == (1, 0) else values * np.float64(slope[0]) + slope[1]

    spacing = canonical_spacing(geometry) if stored.sized else None
    return Volume(
        path=path,
        shape=canonical_shape(geometry),
        spacing=spacing,
        geometry=geometry,
        raw=raw,
        stated="8bit" if stored.dtype == np.uint8 and slope == (1, 0) else "auto",
        declared=declared,
        header=stored.header,
        notes=_notes(geometry, spacing),
    )


def open_labels(path: Path) -> Labels:
    """Opens labels of 2 or 3 axes, or of 4 with a mask per class. Raises InputError."""
    stored = _stored(path)
    channels = int(np.prod(stored.shape[3:], dtype=object))
    if len(stored.shape) < 2 or channels > MAX_CLASSES:
        raise InputError(
            f"{path}: {stored.shape} voxels are no mask of at most {MAX_CLASSES} classes"
        )
    rows, columns, slices = (*stored.shape[:3], 1)[:3]
    values = voxels(path).reshape(rows, columns, slices, channels, order="F")
    geometry = _geometry(path, stored, (rows, columns, slices))
    return Labels(values, geometry, stored.slope, stored.intercept)


def voxels(path: Path) -> np.ndarray:
    """Returns the stored values of any shape, mapped from disk, without slope and intercept.

    Gzipped files are unpacked to a temporary file. The last few stay open. Raises InputError naming
    the file.
    """
    state = path.stat() if path.exists() else None
    with _READING:  # so that threads do not unpack a file twice
        return _voxels(path, state and (state.st_size, state.st_mtime_ns))


def mask_files(path: Path, volume: Volume) -> list[Path]:
    """Returns the files that `write_mask` writes: `path`, or one for each grid of the volume."""
    count = len(volume.grids)
    if count == 1:
        return [path]
    end = next(suffix for suffix in SUFFIXES[::-1] if path.name.endswith(suffix))
    return [
        path.with_name(f"{path.name.removesuffix(end)}.{k}of{count}{end}")
        for k in range(1, count + 1)
    ]


def write_mask(path: Path, masks: Iterable[np.ndarray], volume: Volume) -> None:
    """Writes canonical masks uint8 [rows, columns] as NIfTI in the geometry of `volume`.

    `path` ends in .nii or .nii.gz; of a volume whose slices lie on several grids, each gets a file
    (`mask_files`), and slices that are missing from one are empty. Volumes that are not NIfTI get
    their geometry in NIfTI's terms. Each file is written whole or not at all. Raises InputError
    naming the file.
    """
    arrays = gridded_arrays(masks, volume)
    for file, array, grid in zip(mask_files(path, volume), arrays, volume.grids, strict=True):
        if volume.header is not None:
            _write(file, _mask_like(array, grid.geometry, volume.header))
        else:
            _write(file, _mask(array, grid.geometry))


def _mask_like(array: np.ndarray, geometry: Geometry, header: Any) -> Any:
    """Returns a NIfTI image with all that the header of its scan says of where it lies."""
    header = header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_max"] = header["cal_min"] = 0
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    return kind(array.reshape(header.get_data_shape(), order="F"), geometry.affine, header)


def _mask(array: np.ndarray, geometry: Geometry) -> Any:
    """Returns a NIfTI image in mm. A sheared grid has no qform, which cannot say it."""
    image = nibabel.Nifti1Image(array, geometry.affine)
    image.header.set_xyzt_units("mm")
    codes = "scanner" if geometry.known else "unknown"
    image.set_sform(geometry.affine, "scanner" if geometry.known else "aligned")
    image.set_qform(geometry.affine, "unknown" if is_sheared(geometry) else codes)
    return image


def _write(path: Path, image: Any) -> None:
    with open_whole(path) as out:
        if path.name.endswith(".gz"):
            # no date: same masks, same bytes
            with gzip.GzipFile("", "wb", 3, out, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(out)


def _stored(path: Path) -> Stored:
    with reading(path), path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        first = (gzip.GzipFile(fileobj=file) if gzipped else file).read(max(HEADERS))
        if not first:
            raise InputError(f"{path}: the file is empty, restore or remove it")
        size = {int.from_bytes(first[:4], order): order for order in ("little", "big")}
        kind = next((HEADERS[s] for s in HEADERS if s in size), None)
        if kind is None or len(first) < kind.sizeof_hdr:
            raise InputError(f"{path}: not NIfTI whatever its name says, replace or remove it")
        header = kind(first[: kind.sizeof_hdr], check=False)
        if header["magic"].item()[:2] == b"ni":
            raise InputError(f"{path}: the header of a NIfTI pair, save it as one .nii file")
        pixdim = np.array(header["pixdim"][1:4])  # before what is 0 in it is made 1
        header.check_fix(_QUIET, error_level=40)
        dtype = header.get_data_dtype()
        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            raise InputError(f"{path}: voxels of type {dtype} are no CT values, save it as int16")
        slope, intercept = header.get_slope_inter()
        sized = bool(header["sform_code"] > 0) or bool(pixdim.all())
        shape = tuple(int(n) for n in header.get_data_shape())
        stored = Stored(
            header,
            shape,
            dtype,
            header.get_data_offset(),
            1.0 if slope is None else float(slope),
            0.0 if intercept is None else float(intercept),
            gzipped,
            sized,
        )
        if not shape or min(shape) < 1 or np.prod(shape, dtype=float) > MAX_VOXELS:
            raise InputError(f"{path}: {shape} voxels is no CT volume, the header is damaged")
        room = path.stat().st_size * (DEFLATED if gzipped else 1)
        if room < stored.offset + _nbytes(stored):
            raise damaged(path, f"{path.stat().st_size:,} bytes cannot hold {shape} voxels")
        return stored


def _volume_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) < 2 or np.prod(shape[3:], dtype=object) != 1:
        raise InputError(
            f"{path}: {len(shape)}-D, {shape}, of which a CT volume has 3 axes, save each one as a "
            "file"
        )
    rows, columns, slices = (*shape[:3], 1)[:3]
    return rows, columns, slices


def _geometry(path: Path, stored: Stored, shape: tuple[int, int, int]) -> Geometry:
    header = stored.header
    with reading(path):
        affine = np.array(header.get_best_affine(), np.float64)
        known = bool(header["sform_code"] > 0 or header["qform_code"] > 0)
        unit = UNITS.get(header.get_xyzt_units()[0], 1.0)
    geometry = Geometry(shape, affine, known, unit)
    check_geometry(path, geometry)
    return geometry


def _notes(geometry: Geometry, spacing: object) -> tuple[str, ...]:
    notes = () if spacing is not None else ("the size of its voxels is not known: no mm2, no ml",)
    if not geometry.known:
        notes += (
            "its file does not say how it lies: taken as left, front, head, as NIfTI has it then",
        )
    return notes


@lru_cache(maxsize=4)  # image, infection and lungs of the volume that is being read
def _voxels(path: Path, state: Any) -> np.ndarray:
    stored = _stored(path)
    if not stored.gzipped:
        with reading(path):
            return np.memmap(path, stored.dtype, "r", stored.offset, stored.shape, order="F")
    with reading(path), gzip.open(path) as file:
        needed = stored.offset + _nbytes(stored)
        if needed > CT * path.stat().st_size and (count := readable(file, needed)) < needed:
            raise damaged(path, f"holds {count:,} of {needed:,} bytes")
        file.seek(stored.offset)
        out = scratch(path, stored.shape, stored.dtype)
        flat = memoryview(out.reshape(-1, order="F").view(np.uint8).data)
        filled = 0
        while filled < len(flat):
            got = file.readinto(flat[filled : filled + CHUNK])
            if not got:
                raise damaged(path, f"holds {filled:,} of {len(flat):,} bytes")
            filled += got
        file.read(io.DEFAULT_BUFFER_SIZE)  # at the end of the stream gzip compares its checksum
        return out


def _nbytes(stored: Stored) -> int:
    return int(np.prod(stored.shape, dtype=object)) * stored.dtype.itemsize
