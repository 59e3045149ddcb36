"""The sources `nifti` and `dicom`: scans that a user laid out, with masks and an index."""

import glob
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from covjax.data.formats.endings import bare_name
from covjax.data.formats.other_scans import OTHER_SCANS, other_kind
from covjax.data.formats.scans import Opener, find_scans, is_nifti, nothing_found
from covjax.data.listing import LeftOuts, list_files
from covjax.data.settings import DataSettings
from covjax.data.sources.index import LABELS, Rows, read_index, read_patients
from covjax.data.sources.patients import match, patient_name
from covjax.data.sources.scans import ENDINGS, Scan, is_mask, scan_source
from covjax.data.sources.source import Source
from covjax.data.sources.spec import SourceSpec
from covjax.data.sources.unread import unused
from covjax.errors import InputError


def _open(kind: str, root: Path, config: DataSettings) -> Source:
    """Opens scans of a kind below images/ (or the folder), with masks in masks/ or next to them."""
    home = root / "images" if (root / "images").is_dir() else root
    left_out = LeftOuts(root)
    listed = {_key(path, home): path for path in _files(kind, root, home)}
    masks = _niftis(root / "masks")
    lungs = _niftis(root / "lungs")
    files = list(listed.values())
    if kind == "nifti":
        files = [path for name, path in listed.items() if not is_mask(name, listed)]
    if not files:
        unused(root, (), kind, left_out)
        raise nothing_found(f"data.path: {home}", f"{kind} scan", left_out)
    found = find_scans(home, config.intensity, leave=left_out, files=files)
    rows = read_index(root, dict.fromkeys(found, home))
    patients = _patients(root, home, found, rows, config)
    scans = []
    for name, opener in found.items():
        row = rows.get(name, {})
        label = LABELS.get(row.get("label", "").lower())
        mask = _first(masks, name, ENDINGS) or _first(listed, name, ENDINGS[1:])
        if mask is None and label != 0:
            raise InputError(
                f"{home / name}: has no mask (masks/{name}.nii.gz) and not the label 0 in "
                "index.csv, so which of its slices are infected is not known; add "
                f"one{_unread_mask(root, home, name)}"
            )
        split = row.get("split", "")
        scans.append(Scan(name, opener, patients[name], mask, lungs.get(name), split, label))
    used = {scan.mask for scan in scans}
    for name, path in masks.items():
        if path not in used:
            raise InputError(
                f"{path}: a mask without its scan, add images/{name} or remove the mask"
            )
    index = root / "index.csv" if rows else None
    return scan_source(
        kind, root, scans, config, show=config.show_patients, index=index, left_out=left_out
    )


def _files(kind: str, root: Path, home: Path) -> list[Path]:
    files = [path for path in list_files(home) if is_nifti(path) == (kind == "nifti")]
    if home != root:
        return files
    return [path for path in files if path.relative_to(root).parts[0] not in ("masks", "lungs")]


def _patients(
    root: Path, home: Path, found: Mapping[str, Opener], rows: Rows, config: DataSettings
) -> dict[str, str]:
    """Returns the patient of each scan: by the pattern, index.csv, its tags, or its own name."""
    if config.patient_pattern:
        return {name: match(config.patient_pattern, name) for name in found}
    if listed := read_patients(root, rows, config.patient_column):
        return listed
    tagged = {name: patient_name(opener().patient) for name, opener in found.items()}
    without = [name for name, patient in tagged.items() if not patient]
    if without and len(without) < len(tagged):
        raise InputError(
            f"{home / without[0]}: has no PatientID where other scans do ({len(without)} have "
            f"none), so its patient is not known; add {root / 'index.csv'} with the columns id and "
            "patient"
        )
    return {name: patient or name for name, patient in tagged.items()}


def _unread_mask(root: Path, home: Path, name: str) -> str:
    """Says that there is a mask of a format that is not read, if so."""
    for folder in (root / "masks", home):
        for path in sorted(folder.glob(f"{glob.escape(name)}*")):
            if path.name.lower().endswith(tuple(OTHER_SCANS)):
                return f" ({path.relative_to(root)} is {other_kind(path)})"
    return ""


def _niftis(folder: Path) -> dict[str, Path]:
    files = list_files(folder) if folder.is_dir() else []
    return {_key(path, folder): path for path in files if is_nifti(path)}


def _key(path: Path, folder: Path) -> str:
    return (path.relative_to(folder).parent / bare_name(path.name)).as_posix()


def _first(paths: Mapping[str, Path], name: str, endings: Sequence[str]) -> Path | None:
    return next((paths[name + ending] for ending in endings if name + ending in paths), None)


_BESIDE = (
    "masks/ of the same names (NAME.nii.gz, NAME_mask.nii.gz, ..), lungs/, index.csv (id or file, "
    "label, patient, split)"
)
NIFTI, DICOM = (
    SourceSpec(
        kind,
        title,
        partial(_open, kind),
        "patients by index.csv, tags or names, spacing, infection and lungs as masks mark them",
        f"images/ ({scans}), {_BESIDE}",
        declares_patients=True,
        split="column split of index.csv",
    )
    for kind, title, scans in (
        ("nifti", "your own scans in NIfTI", "or .nii and .nii.gz files"),
        ("dicom", "your own scans in DICOM", "or series, each in a folder"),
    )
)
