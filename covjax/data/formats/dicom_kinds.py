"""Which files are DICOM, by their first bytes, and which objects are no axial CT, by their tags."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from pydicom.uid import UID

from covjax.data.formats.damage import reading

SUFFIXES = (".dcm", ".dicom", ".ima")
# computed tomography; scans converted by somebody; files that do not say
MODALITIES = ("CT", "OT", "")
DIRECTORY = "1.2.840.10008.1.3.10"  # storage class of a DICOMDIR
STORAGE = "1.2.840.10008.5.1.4.1.1."  # how storage classes of objects begin
CT = tuple(STORAGE + kind for kind in ("2", "2.1", "2.2"))
# Secondary captures, parametric maps, raw data and real world values; then the families of
# waveforms, presentation states, segmentations and registrations, surfaces, structured reports,
# documents and radiotherapy.
NO_CT = tuple(STORAGE + kind for kind in ("7", "7.1", "7.2", "7.4", "30", "66", "67"))
NO_CT_FAMILIES = tuple(
    STORAGE + kind for kind in ("9.", "11.", "66.", "68.", "88.", "104.", "481.")
)
# grey words: converters write scans so, with the place of every frame
CAPTURED_FRAMES = STORAGE + "7.3"
SHOWN_ONLY = {
    "LOCALIZER": "a localizer, no axial slice",
    "SCREEN SAVE": "a screenshot, no CT slice",
    "DOSE_INFO": "a dose report, no CT slice",
}
PLANES = ("sagittal", "coronal")
OBLIQUE = 1e-3  # by which a slice's normal must be nearer to another axis than to that of the body
MARK = b"DICM"
ELEMENTS = 4  # in order that a file without mark must begin with
LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
VALUES = re.compile(rb"[A-Z]{2}")


def is_directory(path: Path) -> bool:
    """Recognises the index of a DICOM medium by its name."""
    return path.name.upper() == "DICOMDIR"


def is_dicom(path: Path) -> bool:
    """Returns whether a file is DICOM: by suffix, the mark at byte 128, or its first elements.

    A DICOMDIR is none. Raises InputError naming a file that cannot be opened.
    """
    if is_directory(path):
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    with reading(path), path.open("rb") as file:
        if file.read(132)[128:] == MARK:
            return True
        return _begins_with_elements(file, path.stat().st_size)


def _begins_with_elements(file: BinaryIO, size: int) -> bool:
    """Recognises a data set without preamble by its first elements.

    They are of group 2 or 8, in order, with values inside the file: ACR-NEMA files and those
    stripped
    of their header begin so.
    """
    orders: tuple[Literal["little"], Literal["big"]] = ("little", "big")
    for order in orders:
        file.seek(0)
        if int.from_bytes(file.read(2), order) not in (2, 8):
            continue
        file.seek(0)
        tags = list(_first_tags(file, size, order))
        if len(tags) == ELEMENTS and tags == sorted(set(tags)):
            return True
    return False


def _first_tags(
    file: BinaryIO, size: int, order: Literal["little", "big"]
) -> Iterator[tuple[int, int]]:
    """Yields the tags of up to ELEMENTS elements of a data set; ends early where they are none."""
    for _ in range(ELEMENTS):
        head = file.read(8)
        if len(head) < 8:
            return
        tag = int.from_bytes(head[:2], order), int.from_bytes(head[2:4], order)
        length = int.from_bytes(head[4:], order)
        if VALUES.fullmatch(head[4:6]):
            length = int.from_bytes(file.read(4) if head[4:6] in LONG else head[6:], order)
        if tag[0] % 2 or tag[0] > 0x20 or length > size - file.tell():
            return
        yield tag
        file.seek(length, 1)


def no_axial_ct(data: Any, orientations: Sequence[Sequence[float] | None] = ()) -> str:
    """Says what an object is that is certainly no axial CT; "" for one that may be.

    Args:
      data: its tags, among them those that `covjax.data.formats.dicom.TAGS` names.
      orientations: of its pictures, directions of row and column.
    """
    kind = UID(str(data.get("SOPClassUID") or data.file_meta.get("MediaStorageSOPClassUID") or ""))
    modality = str(data.get("Modality") or "").strip()
    if kind == DIRECTORY:
        return "the index of a DICOM medium"
    without_picture = _known(kind) and kind not in CT and not data.get("Rows")
    screenshots = kind == CAPTURED_FRAMES and None in orientations
    if kind in NO_CT or kind.startswith(NO_CT_FAMILIES) or without_picture or screenshots:
        return f"DICOM, {_named(kind)}, no CT slice"
    if modality not in MODALITIES:
        return f"DICOM of modality {modality}, not CT"
    for part in map(str, data.get("ImageType") or ()):
        if part.strip().upper() in SHOWN_ONLY:
            return f"DICOM, {SHOWN_ONLY[part.strip().upper()]}"
    if (data.get("SamplesPerPixel") or 1) != 1:
        return "DICOM, a colour picture, which holds no CT values"
    shades = str(data.get("PhotometricInterpretation") or "MONOCHROME2")
    if shades not in ("MONOCHROME1", "MONOCHROME2"):
        return f"DICOM, {shades} pixels, which are no CT values"
    planes = {_plane(orientation) for orientation in orientations}
    return f"DICOM, a {min(planes)} picture, not axial" if planes and "" not in planes else ""


def _known(kind: UID) -> bool:
    return kind.startswith("1.2.840.10008.") and kind.name != kind


def _named(kind: UID) -> str:
    return kind.name.removesuffix(" Storage") if _known(kind) else f"storage class {kind}"


def _plane(orientation: Sequence[float] | None) -> str:
    """Returns sagittal or coronal by a picture's normal; "" for axial, undecided or unknown."""
    if orientation is None:
        return ""
    normal = np.abs(np.cross(orientation[:3], orientation[3:]))
    axis = int(np.argmax(normal))
    return PLANES[axis] if axis < 2 and normal[axis] > normal[2] + OBLIQUE else ""
