"""Masks of DICOM scans as DICOM segmentation objects, which viewers show over the scans.

Such an object belongs to its patient and study, so it holds the patient's name and number as the
scan does.
"""

import io
import logging
import re
import warnings
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.sr.codedict import codes
from pydicom.valuerep import DA, TM

from covjax import __version__
from covjax.data.formats.damage import reading
from covjax.data.formats.dicom import Frame
from covjax.data.formats.volumes import Volume, stored_array
from covjax.errors import InputError, install_command
from covjax.files import write_whole

REMEDY = "export it with all its tags, or have masks as NIfTI (--masks=nifti)"
NEEDED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
)
GEOMETRY = {
    "position": "ImagePositionPatient",
    "orientation": "ImageOrientationPatient",
    "spacing": "PixelSpacing",
}
# What every object must have, if only empty, and anonymised files at times lack.
BLANK = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)
# others are copied as they are
READ_AS = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
SEXES = ("M", "F", "O", "")
SERIES = 1000  # added to the number of the scan's series
logging.getLogger("highdicom").setLevel(logging.CRITICAL)  # it quotes names of patients


def check_installed() -> None:
    """Raises InputError if the library that writes segmentations is not installed."""
    if find_spec("highdicom") is None:
        raise InputError(
            f"--masks: dicom_seg needs highdicom, {install_command('seg')}, or use --masks=nifti"
        )


def read_sources(volume: Volume) -> list[pydicom.Dataset]:
    """Reads all tags of the files of a DICOM volume, in the order of its frames.

    Raises InputError naming the file and the tag that a segmentation needs and it lacks.
    """
    files = list(dict.fromkeys(frame.path for frame in volume.frames))
    if 1 < len(files) < len(volume.frames):
        raise InputError(
            f"{volume.path}: several files of many frames, of which a DICOM segmentation refers to "
            "one only; screen them one by one, or have masks as NIfTI (--masks=nifti)"
        )
    for frame in volume.frames:
        _check_geometry(frame)
    return [_header(file, volume) for file in files]


def _check_geometry(frame: Frame) -> None:
    for field, tag in GEOMETRY.items():
        if getattr(frame, field) is None:
            raise InputError(
                f"{frame.path}: lacks {tag}, which a DICOM segmentation needs; {REMEDY}"
            )


def _header(path: Path, volume: Volume) -> pydicom.Dataset:
    with reading(path):
        data = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        for tag in NEEDED:
            if not data.get(tag):
                raise InputError(f"{path}: lacks {tag}, which a DICOM segmentation needs; {REMEDY}")
        for tag in BLANK:
            if tag not in data:
                setattr(data, tag, "")
        _check_values(path, data)
        if not data.get("SliceThickness") and "SharedFunctionalGroupsSequence" not in data:
            if volume.spacing is None:
                raise InputError(
                    f"{path}: lacks SliceThickness, which a DICOM segmentation needs; {REMEDY}"
                )
            data.SliceThickness = f"{volume.spacing[0]:.6g}"  # slices that touch
        return data


def _check_values(path: Path, data: pydicom.Dataset) -> None:
    """Raises InputError for a tag that cannot be copied; without its value, as errors are kept."""
    if data.SOPClassUID.name == data.SOPClassUID:
        raise InputError(f"{path}: its SOPClassUID is none of the standard, correct it; {REMEDY}")
    for tag, kind in READ_AS.items():
        try:
            kind(str(data[tag].value or ""))
        except ValueError:
            raise InputError(
                f"{path}: its {tag} is none by the standard, correct it; {REMEDY}"
            ) from None
    if str(data.PatientSex or "") not in SEXES:
        raise InputError(
            f"{path}: its PatientSex is not {', '.join(SEXES[:3])} or empty, correct it; {REMEDY}"
        )


def write_segmentation(
    path: Path,
    masks: Iterable[np.ndarray],
    volume: Volume,
    sources: Sequence[pydicom.Dataset],
    run: str,
    classes: Sequence[str] = ("infection",),
) -> None:
    """Writes canonical masks uint8 [rows, columns] as a binary segment for every class.

    Frames are those of the pictures, in their order, rows and columns, without the empty ones
    unless all are. Written whole or not at all.

    Args:
      path: ends in .dcm.
      masks: one per slice of the volume, of 0 and the numbers of the classes, from 1 on.
      volume: a DICOM volume.
      sources: of `read_sources`.
      run: tells the trained run, up to 64 characters.
      classes: their names.

    Raises:
      InputError: tags of the scan cannot be used, naming it; or the file cannot be written.
    """
    frames = stored_array(masks, volume).transpose(2, 1, 0)  # [slices, rows, columns] as stored
    if len(sources) == 1:
        frames = frames[np.argsort([frame.index for frame in volume.frames])]
    out = io.BytesIO()
    try:
        with warnings.catch_warnings():
            # on odd values of the scan's tags, which are copied as they are
            warnings.simplefilter("ignore")
            _segmentation(np.ascontiguousarray(frames), sources, run, classes).save_as(
                out, enforce_file_format=True
            )
    # How the library says that a tag of the scan does not fit the standard.
    except (
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        ArithmeticError,
        RuntimeError,
    ) as error:
        # what is quoted may be of the patient
        words = re.sub(r"(['\"]).*?\1", "..", " ".join(str(error).split()))
        reason = words[:200].strip(". ") or type(error).__name__
        raise InputError(
            f"{volume.path}: a DICOM segmentation cannot refer to it ({reason}); {REMEDY}"
        ) from error
    write_whole(path, out.getvalue())


def _segmentation(
    frames: np.ndarray, sources: Sequence[pydicom.Dataset], run: str, classes: Sequence[str]
) -> Any:
    # Imported here: it is an extra, and takes longer to import than most of what screening needs.
    import highdicom

    segments = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Lesion,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=highdicom.AlgorithmIdentificationSequence(
                name="covjax", family=codes.DCM.ArtificialIntelligence, version=__version__
            ),
            anatomic_regions=[codes.SCT.Lung],
        )
        for number, name in enumerate(classes, 1)
    ]
    return highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=frames,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=highdicom.UID(),
        series_number=int(sources[0].get("SeriesNumber") or 0) + SERIES,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="covjax",
        manufacturer_model_name="covjax",
        software_versions=__version__,
        device_serial_number=run,
        content_label="INFECTION",
        content_description="Predicted infection of the lung; research, not for diagnosis",
        series_description="covjax: predicted infection",
    )
