"""File formats: pictures, NIfTI, DICOM, and what their values and geometry mean."""
