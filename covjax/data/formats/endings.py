"""Names of files without the endings of pictures and scans."""

from covjax.data.formats.images import SUFFIXES

SCANS = (".nii.gz", ".nii", ".dcm", ".dicom", ".ima")


def bare_name(name: str) -> str:
    """Returns a file name without the suffix of a picture or scan, if it has one."""
    for suffix in (*SCANS, *SUFFIXES):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name
