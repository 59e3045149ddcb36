"""Files that are no picture, NIfTI or DICOM, named as what they are."""

from pathlib import Path

from covjax.data.formats.damage import reading
from covjax.data.formats.dicom_kinds import is_directory
from covjax.data.formats.nifti import HEADERS

ITK = "convert it: SimpleITK.WriteImage(SimpleITK.ReadImage('{name}'), '{stem}.nii.gz')"
PAIR = "convert it: nibabel.save(nibabel.load('{stem}.hdr'), '{stem}.nii.gz')"
# Scans in formats that covjax does not read: what they are, and how they become NIfTI.
OTHER_SCANS = {
    ".mha": ("a MetaImage scan", ITK),
    ".mhd": ("the header of a MetaImage scan", ITK),
    ".nrrd": ("an NRRD scan", ITK),
    ".nhdr": ("the header of an NRRD scan", ITK),
    ".hdr": ("the header of an Analyze or NIfTI pair", PAIR),
    ".img": ("the voxels of an Analyze or NIfTI pair", PAIR),
    ".hdr.gz": ("the header of an Analyze or NIfTI pair", PAIR),
    ".img.gz": ("the voxels of an Analyze or NIfTI pair", PAIR),
    ".mgz": (
        "a FreeSurfer volume",
        "convert it: nibabel.save(nibabel.load('{name}'), '{stem}.nii.gz')",
    ),
}
PARTNER = {".hdr": ".img", ".img": ".hdr", ".hdr.gz": ".img.gz", ".img.gz": ".hdr.gz"}


def other_kind(path: Path) -> str:
    """Says what a file of another kind is, and how a scan of another format can be read.

    Raises InputError naming a file that cannot be opened.
    """
    if is_directory(path):
        return "the index of a DICOM medium, whose files are read where they lie"
    suffix = next(
        (s for s in sorted(OTHER_SCANS, key=len, reverse=True) if path.name.lower().endswith(s)), ""
    )
    if not suffix or (suffix in PARTNER and not _paired(path, suffix)):
        return f"no picture or scan ({path.suffix or 'no suffix'})"
    what, remedy = OTHER_SCANS[suffix]
    stem = path.name[: -len(suffix)]
    return f"{what}, which is not read; {remedy.format(name=path.name, stem=stem)}"


def _paired(path: Path, suffix: str) -> bool:
    """Tells a part of an Analyze or NIfTI pair from other files of these names."""
    stem = path.name[: -len(suffix)]
    partners = {stem + PARTNER[suffix], stem + PARTNER[suffix].upper()}
    if any(path.with_name(name).is_file() for name in partners):
        return True
    if suffix != ".hdr":
        return False
    with reading(path), path.open("rb") as file:
        first = file.read(4)
    return any(int.from_bytes(first, order) in HEADERS for order in ("little", "big"))
