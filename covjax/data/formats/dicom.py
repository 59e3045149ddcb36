"""Pictures in DICOM files: their tags first, pixels one frame at a time."""

import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from covjax.data.formats.damage import reading
from covjax.data.formats.dicom_kinds import no_axial_ct
from covjax.data.formats.images import MAX_PIXELS
from covjax.data.formats.packed import DeflatedFile
from covjax.errors import InputError, install_command

MAX_FRAMES = 100_000
TAGS = [
    "ImageType",
    "SOPClassUID",
    "Modality",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceLocation",
    "SliceThickness",
    "SpacingBetweenSlices",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]
# what is wrong with a file is said once, by us
logging.getLogger("pydicom").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a file: where it lies in the patient, and how its stored values become HU."""

    path: Path
    index: int  # in the file
    shape: tuple[int, int]
    # mm, of the first pixel, as DICOM has it: left, back and head are positive
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None  # directions of a row and of a column
    place: tuple[float, ...]  # to sort by where positions are missing: slice location, or number
    spacing: tuple[float, ...] | None  # mm between rows, columns
    thickness: float | None
    slope: float
    intercept: float
    # MONOCHROME1: the lowest value is shown white, which matters to windowed values only
    inverted: bool
    hu: bool  # the file says so
    # lowest and highest value that the file says are padding, rescaled
    padding: tuple[float, float] | None
    unused: int  # bits of a stored value above those that count


class Tags(NamedTuple):
    """What groups files into series, and which patient they are of."""

    series: str
    study: str
    patient: str
    no_ct: str  # what the file is where it is certainly no axial CT


def directory_files(path: Path) -> list[Path]:
    """Returns the files that a DICOMDIR lists.

    Raises InputError if it is damaged, or names files that are not there or outside its own folder.
    """
    home = path.parent.resolve()
    found = []
    with reading(path):
        records = _read(path).DirectoryRecordSequence
        named = [record.ReferencedFileID for record in records if record.get("ReferencedFileID")]
    for parts in named:
        file = path.parent.joinpath(*([parts] if isinstance(parts, str) else map(str, parts)))
        if not file.resolve().is_relative_to(home):
            raise InputError(
                f"{path}: names {file}, outside its folder; it is damaged, name the folder instead"
            )
        if not file.is_file():
            raise InputError(
                f"{path}: names {file}, which is not there; copy the whole medium, or name the "
                "folder"
            )
        found.append(file)
    return sorted(found)


def read_frame(frame: Frame) -> np.ndarray:
    """Decodes the stored values [rows, columns] of one frame. Raises InputError naming the file."""
    with reading(frame.path):
        syntax = _syntax(frame.path)
        if syntax.is_compressed and not get_decoder(syntax).is_available:
            raise InputError(
                f"{frame.path}: compressed as {syntax.name}, for which no decoder is installed; "
                f"{install_command('dicom')}, or save it uncompressed"
            )
        source: Any = frame.path
        options: dict[str, Any] = {} if syntax.is_compressed else {"correct_unused_bits": False}
        try:
            values = pixel_array(source, index=frame.index, **options)
        # without a file header pydicom asks for a data set that names its transfer syntax
        except AttributeError:
            source = pydicom.dcmread(frame.path, force=True)
            source.file_meta.TransferSyntaxUID = syntax
            values = pixel_array(source, index=frame.index, **options)
        if options and frame.unused:
            values = _used(values, frame.unused)
    if values.shape != frame.shape:
        raise InputError(
            f"{frame.path}: {values.shape} pixels, its header says {frame.shape}, replace it"
        )
    return values


def _used(values: np.ndarray, unused: int) -> np.ndarray:
    """Returns values without what lies in their unused bits, old overlays for instance.

    Except where that is one value, which is padding that needs more bits than the rest: -3024 would
    become 1072.
    """
    used = np.right_shift(np.left_shift(values, unused), unused)
    changed = values[used != values]
    return values if changed.size and (changed == changed[0]).all() else used


def read_frames(path: Path) -> tuple[Tags, list[Frame]]:
    """Reads the tags of a file, and of its pictures if it may be CT. Raises InputError."""
    with reading(path):
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty, restore or remove it")
        data = _read(path, stop_before_pixels=True, force=True, specific_tags=TAGS)
        tags = Tags(
            str(data.get("SeriesInstanceUID") or path.parent),
            str(data.get("StudyInstanceUID") or ""),
            str(data.get("PatientID") or "").strip(),
            no_axial_ct(data),
        )
        if tags.no_ct:
            return tags, []
        _check_picture(path, data)
        frames = [_frame(path, data, k) for k in range(int(data.get("NumberOfFrames") or 1))]
        no_ct = no_axial_ct(data, [frame.orientation for frame in frames])
        return tags._replace(no_ct=no_ct), frames


def _read(path: Path, **options: Any) -> pydicom.Dataset:
    with DeflatedFile(io.FileIO(path)) as file:
        return pydicom.dcmread(file, **options)


def _check_picture(path: Path, data: pydicom.Dataset) -> None:
    if not (data.get("Rows") and data.get("Columns")):
        raise InputError(
            f"{path}: not a DICOM picture, or a damaged one (no size), replace or remove it"
        )
    if data.Rows * data.Columns > MAX_PIXELS:
        raise InputError(
            f"{path}: {data.Rows}x{data.Columns} pixels is no CT slice, the file is damaged"
        )
    if not 1 <= int(data.get("NumberOfFrames") or 1) <= MAX_FRAMES:
        raise InputError(
            f"{path}: {data.NumberOfFrames} frames are no CT series, the file is damaged"
        )


def _frame(path: Path, data: pydicom.Dataset, k: int) -> Frame:
    def find(name: str, group: str = "") -> Any:
        """Returns a tag of the frame, of all frames, or of the file."""
        for groups, place in (
            ("PerFrameFunctionalGroupsSequence", k),
            ("SharedFunctionalGroupsSequence", 0),
        ):
            sequence = data.get(groups) or ()
            inner = sequence[place].get(group) if group and place < len(sequence) else None
            if inner and inner[0].get(name) is not None:
                return inner[0].get(name)
        return data.get(name)

    measures = "PixelMeasuresSequence"
    scaling = "PixelValueTransformationSequence"
    slope = _number(find("RescaleSlope", scaling), 1.0)
    intercept = _number(find("RescaleIntercept", scaling), 0.0)
    if not np.isfinite([slope, intercept]).all() or slope == 0:
        raise InputError(
            f"{path}: rescale slope {slope} and intercept {intercept} are damaged, replace it"
        )
    thickness = find("SliceThickness", measures) or find("SpacingBetweenSlices", measures)
    places = (data.get("SliceLocation"), data.get("InstanceNumber"))
    return Frame(
        path=path,
        index=k,
        shape=(int(data.Rows), int(data.Columns)),
        position=_numbers(find("ImagePositionPatient", "PlanePositionSequence"), 3),
        orientation=_directions(path, find("ImageOrientationPatient", "PlaneOrientationSequence")),
        place=(next((float(p) for p in places if p not in (None, "")), np.nan), float(k)),
        spacing=_numbers(find("PixelSpacing", measures), 2),
        thickness=abs(float(thickness)) if thickness else None,
        slope=slope,
        intercept=intercept,
        inverted=data.get("PhotometricInterpretation") == "MONOCHROME1",
        hu=str(find("RescaleType", scaling) or "") == "HU" or intercept <= -1000,
        padding=_padding(data, slope, intercept),
        unused=max(0, int(data.get("BitsAllocated") or 16) - int(data.get("BitsStored") or 16)),
    )


def _directions(path: Path, values: Any) -> tuple[float, ...] | None:
    """Returns the directions of a row and a column. Raises InputError if they are damaged."""
    numbers = _numbers(values, 6)
    if numbers is not None:
        axes = np.reshape(numbers, (2, 3))
        if np.abs(axes @ axes.T - np.eye(2)).max() > 0.01:
            raise InputError(
                f"{path}: its ImageOrientationPatient is damaged (no directions at right angles), "
                "remove it"
            )
    return numbers


def _number(value: Any, default: float) -> float:
    return default if value in (None, "") else float(value)


def _padding(data: pydicom.Dataset, slope: float, intercept: float) -> tuple[float, float] | None:
    """Returns the range of padding, rescaled like the pixels; None where the file names none.

    The value counts as the bits that it is: files write -2000 as 63536 and the other way round.
    """
    bits = int(data.get("BitsAllocated") or 16)
    signed = bool(data.get("PixelRepresentation"))
    stored = []
    for tag in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        value = data.get(tag)
        if value in (None, "", b""):
            continue
        number = (
            int.from_bytes(value[:2], "little") if isinstance(value, bytes) else int(value)
        ) % 2**bits
        stored.append(number - 2**bits if signed and number >= 2 ** (bits - 1) else number)
    if not stored or "PixelPaddingValue" not in data:
        return None
    ends = sorted(value * slope + intercept for value in stored)
    return ends[0], ends[-1]


def _numbers(values: Any, count: int) -> tuple[float, ...] | None:
    """Returns a tag of `count` numbers, None when missing. Raises ValueError for anything else."""
    if values in (None, "") or not len(values):
        return None
    numbers = tuple(float(value) for value in values)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"{values} is not {count} numbers")
    return numbers


def _syntax(path: Path) -> UID:
    data = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=[])
    if "TransferSyntaxUID" in data.file_meta:
        return data.file_meta.TransferSyntaxUID
    implicit, little = data.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian
