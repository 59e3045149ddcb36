"""Sources whose slices lie in scans, NIfTI or DICOM: yours in folders, and how any set of scans becomes a source."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from covjax.data.classes import map_classes, parse_classes, stamp
from covjax.data.index import LABELS, bare_name, read_index
from covjax.data.intensity import eight_bit, parse_window
from covjax.data.masks import read_labels
from covjax.data.patients import match, pseudonym
from covjax.data.resizing import scaled_shape
from covjax.data.scans import Opener, find_scans, is_nifti, list_files
from covjax.data.source import Slice, Source, fingerprint, infected, stamps
from covjax.errors import InputError

ENDINGS = ("", "_mask", "_seg", "_label", "-mask", "-seg", "-label", "_infection")  # of a mask's name after its scan's


class Scan(NamedTuple):
    """A scan and what is known of it before a voxel is read."""

    name: str
    open: Opener
    patient: str  # "" when unknown
    mask: Path | None  # None: healthy throughout
    lungs: Path | None = None
    split: str = ""
    label: int | None = None  # 0: said to be healthy, which a mask may contradict


def open_nifti_folder(root: Path, config: Any) -> Source:
    """NIfTI scans below images/ (or the folder), masks of the same name (or NAME_mask) in masks/ or beside them.

    lungs/ may hold lung masks, index.csv the columns id or file, label (0: healthy, needs no mask), patient, split.
    """
    return _own_scans("nifti", root, config)


def open_dicom_folder(root: Path, config: Any) -> Source:
    """DICOM series below images/ (or the folder), each in a folder of its own; the rest as `open_nifti_folder`."""
    return _own_scans("dicom", root, config)


def _own_scans(kind: str, root: Path, config: Any) -> Source:
    home = root / "images" if (root / "images").is_dir() else root
    files = list_files(home)
    if home == root:
        files = [path for path in files if path.relative_to(root).parts[0] not in ("masks", "lungs")]
    files = [path for path in files if is_nifti(path) == (kind == "nifti")]
    beside = {_key(path, home): path for path in files}
    apart = {_key(path, root / "masks"): path for path in _niftis(root / "masks")}
    lungs = {_key(path, root / "lungs"): path for path in _niftis(root / "lungs")}
    if kind == "nifti":
        files = [path for name, path in beside.items() if not _is_mask(name, beside)]
    found = find_scans(home, config.intensity, files=files)
    rows = read_index(root, dict.fromkeys(found, home))
    scans = []
    for name, opener in found.items():
        row = rows.get(name, {})
        mask = _first(apart, name, ENDINGS) or _first(beside, name, ENDINGS[1:])
        if mask is None and row.get("label", "").lower() not in ("0", "healthy"):
            raise InputError(
                f"{home / name}: has no mask (masks/{name}.nii.gz) and not the label 0 in index.csv, so which of its "
                "slices are infected is not known; add one"
            )
        label = LABELS.get(row.get("label", "").lower())
        patient = row.get(config.patient_column) or opener().patient or name
        if config.patient_pattern:
            patient = match(config.patient_pattern, name)
        scans.append(Scan(name, opener, patient, mask, lungs.get(name), row.get("split", ""), label))
    for name, path in apart.items():
        if path not in {scan.mask for scan in scans}:
            raise InputError(f"{path}: a mask without its scan, add images/{name} or remove the mask")
    return scan_source(kind, root, scans, config, show=config.show_patients)


def _niftis(folder: Path) -> list[Path]:
    return [path for path in list_files(folder) if is_nifti(path)] if folder.is_dir() else []


def _key(path: Path, folder: Path) -> str:
    return (path.relative_to(folder).parent / bare_name(path.name)).as_posix()


def _first(paths: Mapping[str, Path], name: str, endings: Sequence[str]) -> Path | None:
    return next((paths[name + ending] for ending in endings if name + ending in paths), None)


def _is_mask(name: str, names: Collection[str]) -> bool:
    return any(name.endswith(ending) and name.removesuffix(ending) in names for ending in ENDINGS[1:])


def scan_source(name: str, root: Path, scans: Sequence[Scan], config: Any, *, show: bool = True) -> Source:
    """Makes the slices of scans a source, in order; ids are SCAN_0000, with a pseudonym for SCAN unless `show`.

    Raises InputError when there is no scan or the settings of `config` cannot be used.
    """
    window, classes = parse_window(config.window), parse_classes(config.classes)
    opened = lru_cache(maxsize=4)(lambda j: scans[j].open())
    starts = np.cumsum([0, *(len(opened(j)) for j in range(len(scans)))])
    names = [scan.name for scan in scans] if show else _pseudonyms(scans)
    ids = tuple(f"{names[j]}_{k:04d}" for j in range(len(scans)) for k in range(starts[j + 1] - starts[j]))

    def load(i: int) -> Slice:
        j = int(np.searchsorted(starts, i, side="right")) - 1
        k, scan, volume = int(i - starts[j]), scans[j], opened(j)
        hu = volume.intensity == "hu"
        if config.spacing:  # here, where errors can name the file
            scaled_shape(volume.path, volume.shape[1:], volume.spacing, config.spacing)
        image = eight_bit(volume.read(k), window if hu else None)
        if scan.mask is None:
            mask = np.zeros_like(image)
        else:
            mask = map_classes(read_labels(scan.mask, volume, k), classes, scan.mask)
        lungs = None if scan.lungs is None else read_labels(scan.lungs, volume, k) > 0
        label = 0 if scan.label == 0 else int(infected(mask).any())
        patient = scan.patient if show else pseudonym(scan.patient)
        spacing = volume.spacing and volume.spacing[1:]
        return Slice(
            ids[i], image, mask, label, patient, scan.split, volume.intensity, lungs, spacing, volume.all_notes
        )

    settings = [config.intensity, window, stamp(config.classes), config.patient_pattern, config.patient_column, show]
    known = {} if show else {pseudonym(scan.patient): scan.patient for scan in scans}
    return Source(name, ids, load, fingerprint([name, settings, stamps(root, list_files(root))]), known)


def _pseudonyms(scans: Sequence[Scan]) -> list[str]:
    """Returns for each scan its patient's pseudonym and which of the patient's scans it is."""
    seen: Counter[str] = Counter()
    names = []
    for scan in scans:
        seen[scan.patient] += 1
        names.append(f"{pseudonym(scan.patient)}_{seen[scan.patient]}")
    return names
