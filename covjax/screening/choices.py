"""What a screening can be asked for, by name; imports nothing."""

ON_ERROR = {"stop": "at the first file that cannot be used", "skip": "such files, and list them"}
MASKS = {
    "nifti": "NIfTI, of scans of all kinds",
    "dicom_seg": "DICOM segmentations of DICOM scans, NIfTI of others",
}
