"""A small phantom scan, and writers of it as NIfTI in any orientation and as DICOM."""

from pathlib import Path

import nibabel
import numpy as np
import pydicom
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)

from covjax.data.phantom.picture import phantom_slice

SPACING = (2.5, 0.8, 0.7)  # mm between slices, rows, columns


def scan(shape=(5, 18, 20), low=-1000, high=400):
    """Returns HU int16 [slices, rows, columns], canonical, no two slices, rows or columns alike."""
    return np.random.default_rng(0).integers(low, high, shape).astype(np.int16)


def write_nifti(path: Path, values, codes="LPS", affine=None, kind=nibabel.Nifti1Image):
    """Writes canonical values [S, P, L] in the orientation that `codes` names (or as they are, with
    `affine`).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if affine is not None:
        return nibabel.save(kind(values, affine), path)
    slices, rows, columns = SPACING
    image = kind(values.transpose(2, 1, 0), np.diag([-columns, -rows, slices, 1.0]))
    turned = ornt_transform(io_orientation(image.affine), axcodes2ornt(codes))
    return nibabel.save(image.as_reoriented(turned), path)


def dicom_slice(values, k, **tags):
    """Returns a DICOM data set of slice k of canonical HU values, stored unsigned with an intercept
    of -1024.
    """
    slices, rows, columns = SPACING
    data = pydicom.Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = CTImageStorage
    data.SOPInstanceUID = f"1.2.3.{k}"
    data.Modality = "CT"
    data.PatientID = "Doe^Jane 7"
    data.StudyInstanceUID = "1.2.4"
    data.SeriesInstanceUID = "1.2.5"
    data.InstanceNumber = k + 1
    data.FrameOfReferenceUID = "1.2.6"
    data.ImagePositionPatient = [10.0, 20.0, 30 + k * slices]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.PixelSpacing = [rows, columns]
    data.SliceThickness = slices
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.RescaleIntercept = -1024
    data.RescaleSlope = 1
    data.BitsAllocated = 16
    data.BitsStored = 16
    data.HighBit = 15
    data.PixelRepresentation = 0
    stored = (values[k] + 1024).astype(np.uint16)
    data.Rows, data.Columns = stored.shape
    data.PixelData = stored.tobytes()
    for name, value in tags.items():
        if value is None:
            del data[name]
        else:
            setattr(data, name, value)
    return data


def save(data, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def write_series(folder: Path, values, change=lambda data, k: data, **tags):
    """Writes a series, its file names in no order of slices."""
    for k in range(len(values)):
        data = dicom_slice(values, k, **tags)
        change(data, k)
        save(data, folder / f"IM{(k * 7 + 3) % 11:03d}")


def write_frames(path: Path, values):
    """Writes one multi-frame file in the enhanced way: geometry and rescaling in functional
    groups.
    """
    data = dicom_slice(values, 0)
    data.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    stored = (values + 1024).astype(np.uint16)
    data.NumberOfFrames = len(values)
    data.PixelData = stored.tobytes()
    shared, measures, turned, scaled = (pydicom.Dataset() for _ in range(4))
    measures.PixelSpacing = data.PixelSpacing
    measures.SliceThickness = data.SliceThickness
    turned.ImageOrientationPatient = data.ImageOrientationPatient
    scaled.RescaleSlope = 1
    scaled.RescaleIntercept = -1024
    scaled.RescaleType = "HU"
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [turned]
    shared.PixelValueTransformationSequence = [scaled]
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = []
    for k in range(len(values)):
        frame = pydicom.Dataset()
        position = pydicom.Dataset()
        position.ImagePositionPatient = [10.0, 20.0, 30 + k * SPACING[0]]
        frame.PlanePositionSequence = [position]
        data.PerFrameFunctionalGroupsSequence.append(frame)
    for name in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceThickness",
    ):
        del data[name]
    del data.RescaleSlope, data.RescaleIntercept
    save(data, path)


def write_class_scans(folder: Path, patients=8, slices=5, size=48):
    """Writes scans of the phantom, in whose masks infection is 1 on the left, 2 on the right, 7 in
    the lowest third.
    """
    side = np.arange(size)
    height = np.arange(size)[:, None]
    kinds = np.where(height >= 2 * size // 3, 7, np.where(side < size // 2, 1, 2)).astype(np.uint8)
    for patient in range(patients):
        found = [
            phantom_slice(patient, k, slices_per_patient=slices, size=size, seed=0)
            for k in range(slices)
        ]
        images, masks = (np.stack([one[k] for one in found]) for k in range(2))
        write_nifti(folder / "images" / f"p{patient}.nii.gz", images.astype(np.int16))
        write_nifti(folder / "masks" / f"p{patient}.nii.gz", masks * kinds)
    return folder
