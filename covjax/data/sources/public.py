"""Public sets of CT scans: where to get them, under which licence, and how their folders are laid
out.

Nothing is downloaded: unpack a set yourself and name its folder as `data.path`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from covjax.data.formats.endings import bare_name
from covjax.data.formats.nifti import open_nifti
from covjax.data.sources.scans import ENDINGS, Scan, scan_source
from covjax.data.sources.source import Source
from covjax.errors import InputError


class PublicSet(NamedTuple):
    """A set as its authors offer it."""

    title: str
    where: str
    licence: str  # the page of the authors has the last word
    unpack: str  # what data.path must hold
    holds: str


PUBLIC = {
    "medseg1": PublicSet(
        "MedSeg Covid Dataset 1 (COVID-19 CT segmentation dataset)",
        "https://doi.org/10.6084/m9.figshare.13521488 (and https://medicalsegmentation.com/covid19)",
        "CC0 according to others, read on figshare what the authors state",
        "tr_im.nii.gz, tr_mask.nii.gz",
        "100 slices of more than 40 patients; which is whose is not known: use split.by=block",
    ),
    "medseg2": PublicSet(
        "MedSeg Covid Dataset 2 (9 scans from Radiopaedia)",
        "https://doi.org/10.6084/m9.figshare.13521509 (and https://medicalsegmentation.com/covid19)",
        "CC0 according to others, read on figshare what the authors state",
        "rp_im/, rp_msk/, rp_lung_msk/ with 1.nii.gz to 9.nii.gz",
        "829 slices, lungs too; the paper's set. Two scans seem to be of one patient; which, the set does not say",
    ),
    "zenodo20": PublicSet(
        "COVID-19 CT Lung and Infection Segmentation Dataset (20 scans)",
        "https://doi.org/10.5281/zenodo.3757476",
        "CC BY 4.0 according to others; read on Zenodo what holds, also for the scans of Coronacases and Radiopaedia",
        "COVID-19-CT-Seg_20cases/, Infection_Mask/, Lung_Mask/ with the same names",
        "20 scans, lungs too; those of Coronacases in HU, those of Radiopaedia windowed to 0..255",
    ),
    "mosmed": PublicSet(
        "MosMedData: Chest CT Scans with COVID-19 Related Findings",
        "https://mosmed.ai/datasets/covid19_1110",
        "CC BY-NC-ND 3.0",
        "studies/CT-0/ to CT-4/ with study_NNNN.nii.gz, masks/ with study_NNNN_mask.nii.gz",
        "254 scans without findings and 50 with masks are used; the others lack masks",
    ),
}


def public_table() -> str:
    """Returns what a user needs to know to get each set."""
    return "\n\n".join(
        f"data.source={name}: {s.title}\n  get it from   {s.where}\n  licence       {s.licence}\n"
        f"  data.path     the folder that holds {s.unpack}\n  contents      {s.holds}"
        for name, s in PUBLIC.items()
    )


def open_medseg1(root: Path, config: Any) -> Source:
    """One volume of slices of many patients; patients are not known."""
    image, mask = (_need(root, name, "medseg1") for name in ("tr_im", "tr_mask"))
    return scan_source("medseg1", root, [_scan("tr", image, mask, config, patient="")], config)


def open_medseg2(root: Path, config: Any) -> Source:
    """Nine scans; each counts as a patient."""
    images = _numbered(_folder(root, "rp_im", "medseg2"))
    masks, lungs = (_folder(root, name, "medseg2") for name in ("rp_msk", "rp_lung_msk"))
    scans = []
    for path in images:
        mask = _need(masks, _stem(path), "medseg2", ENDINGS)
        lung = _find(lungs, _stem(path))
        scans.append(_scan(path.name, path, mask, config, lungs=lung))
    return scan_source("medseg2", root, scans, config)


def open_zenodo20(root: Path, config: Any) -> Source:
    """Twenty scans; Radiopaedia's cases, the first number in their names, have up to two."""
    images = _numbered(_folder(root, "COVID-19-CT-Seg_20cases", "zenodo20"))
    masks, lungs = (_folder(root, name, "zenodo20") for name in ("Infection_Mask", "Lung_Mask"))
    scans = []
    for path in images:
        case = re.match(r"coronacases(_org)?_\d+|radiopaedia(_org)?_\d+", path.name)
        mask = _need(masks, _stem(path), "zenodo20", ENDINGS)
        lung = _find(lungs, _stem(path))
        scans.append(
            _scan(
                path.name, path, mask, config, lungs=lung, patient=case[0] if case else _stem(path)
            )
        )
    return scan_source("zenodo20", root, scans, config)


def open_mosmed(root: Path, config: Any) -> Source:
    """Scans without findings (CT-0), healthy throughout, and those with masks; one per patient."""
    studies, masks = (_folder(root, name, "mosmed") for name in ("studies", "masks"))
    scans = []
    without = 0
    for path in _numbered(studies):
        mask = _find(masks, _stem(path), ENDINGS)
        if mask is None and path.parent.name.upper() != "CT-0":
            without += 1
            continue
        scans.append(_scan(path.name, path, mask, config))
    if without:
        logging.warning("%s: %d scans have findings but no mask and are left out", root, without)
    if not scans:
        raise _absent(root, "scans of CT-0 or with masks", "mosmed")
    return scan_source("mosmed", root, scans, config)


OPENERS = {
    "medseg1": open_medseg1,
    "medseg2": open_medseg2,
    "zenodo20": open_zenodo20,
    "mosmed": open_mosmed,
}


def _scan(
    name: str,
    image: Path,
    mask: Path | None,
    config: Any,
    lungs: Path | None = None,
    patient: str | None = None,
) -> Scan:
    stem = bare_name(name)
    return Scan(
        stem,
        lambda: open_nifti(image, config.intensity),
        stem if patient is None else patient,
        mask,
        lungs,
    )


def _stem(path: Path) -> str:
    return bare_name(path.name)


def _find(folder: Path, stem: str, endings: Sequence[str] = ("",)) -> Path | None:
    paths = (
        folder / f"{stem}{ending}{suffix}" for ending in endings for suffix in (".nii.gz", ".nii")
    )
    return next((path for path in paths if path.is_file()), None)


def _need(folder: Path, stem: str, name: str, endings: Sequence[str] = ("",)) -> Path:
    found = _find(folder, stem, endings)
    if found is None:
        raise _absent(folder, f"{stem}.nii.gz", name)
    return found


def _folder(root: Path, name: str, of: str) -> Path:
    if not (root / name).is_dir():
        raise _absent(root, f"{name}/", of)
    return root / name


def _absent(folder: Path, what: str, name: str) -> InputError:
    about = PUBLIC[name]
    return InputError(
        f"{folder}: holds no {what}; {name} is {about.unpack}, from {about.where}, licence: {about.licence}; "
        "unpack it yourself and set data.path"
    )


def _numbered(folder: Path) -> list[Path]:
    """Returns the NIfTI files below a folder, 10 after 9. Raises InputError when there are none."""
    found = [
        path
        for path in folder.rglob("*.nii*")
        if path.name.endswith((".nii", ".nii.gz")) and path.is_file()
    ]
    if not found:
        raise InputError(f"{folder}: holds no .nii.gz or .nii file, unpack the set again")
    return sorted(
        found,
        key=lambda path: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", path.name)],
    )
