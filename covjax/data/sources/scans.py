"""Sources whose slices lie in scans, NIfTI or DICOM: yours in folders, and how any set of scans
becomes a source.
"""

import glob
import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from covjax.data.contents import contents, digests, origin, prepared_dir
from covjax.data.formats.endings import bare_name
from covjax.data.formats.label_volumes import label_notes, read_labels
from covjax.data.formats.other_scans import OTHER_SCANS, other_kind
from covjax.data.formats.scans import Opener, find_scans, is_nifti, nothing_found
from covjax.data.intensity import eight_bit, parse_window
from covjax.data.label_map import infected, map_classes, parse_classes, stamp
from covjax.data.listing import LeftOut, LeftOuts, list_files
from covjax.data.resizing import scaled_shape
from covjax.data.sources.index import LABELS, read_index, read_patients
from covjax.data.sources.patients import LOOKS_ALIKE, Pseudonyms, look_alike, match, patient_name
from covjax.data.sources.source import Slice, Source, fingerprint
from covjax.data.sources.unread import unused
from covjax.errors import InputError

# of a mask's name after its scan's
ENDINGS = ("", "_mask", "_seg", "_label", "-mask", "-seg", "-label", "_infection")


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
    """NIfTI scans below images/ (or the folder), masks of the same name (or NAME_mask) in masks/ or
    beside them.

    lungs/ may hold lung masks, index.csv the columns id or file, label (0: healthy, needs no mask),
    patient, split.
    """
    return _own_scans("nifti", root, config)


def open_dicom_folder(root: Path, config: Any) -> Source:
    """DICOM series below images/ (or the folder), each in a folder of its own; the rest as
    `open_nifti_folder`.
    """
    return _own_scans("dicom", root, config)


def _own_scans(kind: str, root: Path, config: Any) -> Source:
    home = root / "images" if (root / "images").is_dir() else root
    left_out = LeftOuts(root)
    files = list_files(home)
    if home == root:
        files = [
            path for path in files if path.relative_to(root).parts[0] not in ("masks", "lungs")
        ]
    files = [path for path in files if is_nifti(path) == (kind == "nifti")]
    beside = {_key(path, home): path for path in files}
    apart = {_key(path, root / "masks"): path for path in _niftis(root / "masks")}
    lungs = {_key(path, root / "lungs"): path for path in _niftis(root / "lungs")}
    if kind == "nifti":
        files = [path for name, path in beside.items() if not is_mask(name, beside)]
    if not files:
        unused(root, (), kind, left_out)
        raise nothing_found(f"data.path: {home}", f"{kind} scan", left_out)
    found = find_scans(home, config.intensity, leave=left_out, files=files)
    rows = read_index(root, dict.fromkeys(found, home))
    patients = _patients(root, home, found, rows, config)
    scans = []
    for name, opener in found.items():
        row = rows.get(name, {})
        mask = _first(apart, name, ENDINGS) or _first(beside, name, ENDINGS[1:])
        if mask is None and row.get("label", "").lower() not in ("0", "healthy"):
            raise InputError(
                f"{home / name}: has no mask (masks/{name}.nii.gz) and not the label 0 in index.csv, so which of its "
                f"slices are infected is not known; add one{_unread_mask(root, home, name)}"
            )
        label = LABELS.get(row.get("label", "").lower())
        scans.append(
            Scan(name, opener, patients[name], mask, lungs.get(name), row.get("split", ""), label)
        )
    index = root / "index.csv" if rows else None
    for name, path in apart.items():
        if path not in {scan.mask for scan in scans}:
            raise InputError(
                f"{path}: a mask without its scan, add images/{name} or remove the mask"
            )
    return scan_source(
        kind, root, scans, config, show=config.show_patients, index=index, left_out=left_out
    )


def _patients(
    root: Path,
    home: Path,
    found: Mapping[str, Opener],
    rows: dict[str, dict[str, str]],
    config: Any,
) -> dict[str, str]:
    """Returns {scan: patient}: what the pattern finds in its name, what index.csv or its own tags
    say, or its name.
    """
    if config.patient_pattern:
        return {name: match(config.patient_pattern, name) for name in found}
    if listed := read_patients(root, rows, config.patient_column):
        return listed
    tagged = {name: patient_name(opener().patient) for name, opener in found.items()}
    without = [name for name, patient in tagged.items() if not patient]
    if without and len(without) < len(tagged):
        raise InputError(
            f"{home / without[0]}: has no PatientID where other scans do ({len(without)} have none), so whose it is is "
            f"not known; add {root / 'index.csv'} with the columns id and patient"
        )
    return {name: patient or name for name, patient in tagged.items()}


def _unread_mask(root: Path, home: Path, name: str) -> str:
    """Says that there is a mask of a format that is not read, if so."""
    for folder in (root / "masks", home):
        for path in sorted(folder.glob(f"{glob.escape(name)}*")):
            if path.name.lower().endswith(tuple(OTHER_SCANS)):
                return f" ({path.relative_to(root)} is {other_kind(path)})"
    return ""


def _niftis(folder: Path) -> list[Path]:
    return [path for path in list_files(folder) if is_nifti(path)] if folder.is_dir() else []


def _key(path: Path, folder: Path) -> str:
    return (path.relative_to(folder).parent / bare_name(path.name)).as_posix()


def _first(paths: Mapping[str, Path], name: str, endings: Sequence[str]) -> Path | None:
    return next((paths[name + ending] for ending in endings if name + ending in paths), None)


def is_mask(name: str, names: Collection[str]) -> bool:
    """Returns whether a name is that of another one's mask, by its ending."""
    return any(
        name.endswith(ending) and name.removesuffix(ending) in names for ending in ENDINGS[1:]
    )


def scan_source(
    name: str, root: Path, scans: Sequence[Scan], config: Any, *,
    show: bool = True, index: Path | None = None, left_out: LeftOuts | None = None,
) -> Source:  # fmt: skip
    """Makes the slices of scans a source, in order; ids are SCAN_0000, with a pseudonym for SCAN
    unless `show`.

    `index` is the table that was read, `left_out` what of the folder is known to be no scan. Raises
    InputError when there is no scan or the settings of `config` cannot be used.
    """
    window = parse_window(config.window)
    classes = parse_classes(config.classes)
    opened = lru_cache(maxsize=4)(lambda j: scans[j].open())
    files = []
    lengths = []
    for j in range(len(scans)):
        files.append(opened(j).files)
        lengths.append(len(opened(j)))
    starts = np.cumsum([0, *lengths])
    beside = [path for scan in scans for path in (scan.mask, scan.lungs) if path]
    used = [*itertools.chain(*files), *beside, *([index] if index else [])]
    digest = digests(root, used, prepared_dir(config))
    known_by = Pseudonyms(contents(root, digest))
    names = [scan.name for scan in scans] if show else _pseudonyms(scans, known_by)
    slices = [(j, k) for j in range(len(scans)) for k in range(lengths[j])]
    ids = tuple(f"{names[j]}_{k:04d}" for j, k in slices)
    doubtful = look_alike(scan.patient for scan in scans)
    whole = [origin([digest[path] for path in paths]) for paths in files]
    origins = tuple(origin(whole[j], k) for j, k in slices)

    def load(i: int) -> Slice:
        j = int(np.searchsorted(starts, i, side="right")) - 1
        k = int(i - starts[j])
        scan = scans[j]
        volume = opened(j)
        hu = volume.intensity == "hu"
        if config.spacing:  # here, where errors can name the file
            scaled_shape(volume.path, volume.shape[1:], volume.spacing, config.spacing)
        image = eight_bit(volume.read(k), window if hu else None)
        notes = volume.all_notes + (LOOKS_ALIKE,) * (scan.patient in doubtful)
        by = config.mask_geometry
        if scan.mask is None:
            mask = np.zeros_like(image)
        else:
            mask = map_classes(read_labels(scan.mask, volume, k, by), classes, scan.mask)
            notes += label_notes(scan.mask, volume, by)
        lungs = None if scan.lungs is None else read_labels(scan.lungs, volume, k, by) > 0
        notes += () if scan.lungs is None else label_notes(scan.lungs, volume, by, "lung mask")
        label = 0 if scan.label == 0 else int(infected(mask).any())
        patient = scan.patient if show else known_by.of(scan.patient)
        spacing = volume.spacing and volume.spacing[1:]
        return Slice(
            ids[i], image, mask, label, patient, scan.split, volume.intensity, lungs, spacing, notes
        )

    settings = [config.intensity, window, stamp(config.classes), config.patient_pattern]
    settings += [config.patient_column.strip().lower(), show, config.mask_geometry]

    def hide(i: int, text: str) -> str:
        scan = scans[slices[i][0]]
        j, _ = slices[i]
        paths = {opened(j).path, *files[j], *(path for path in (scan.mask, scan.lungs) if path)}
        return known_by.hide(known_by.hide_paths(text, paths, root), scan.patient)

    unread = unused(root, used, name, left_out)
    known, shown = ({}, unread) if show else _hidden(scans, unread, known_by)
    return Source(
        name,
        ids,
        load,
        fingerprint([name, settings, contents(root, digest)]),
        origins,
        known,
        shown,
        hide if known else Source.hide,
    )


def _hidden(
    scans: Sequence[Scan], unread: Sequence[LeftOut], known_by: Pseudonyms
) -> tuple[dict[str, str], tuple[LeftOut, ...]]:
    """Returns the key to pseudonyms of patients and of files that are not read, and what may be
    shown of the latter.
    """
    shown = known_by.hide_left_out(unread)
    known = {known_by.of(scan.patient): scan.patient for scan in scans}
    return known | {known_by.of(file): file for file in shown.values()}, tuple(shown)


def _pseudonyms(scans: Sequence[Scan], known_by: Pseudonyms) -> list[str]:
    """Returns for each scan its patient's pseudonym and which of the patient's scans it is."""
    seen: Counter[str] = Counter()
    names = []
    for scan in scans:
        seen[scan.patient] += 1
        names.append(f"{known_by.of(scan.patient)}_{seen[scan.patient]}")
    return names
