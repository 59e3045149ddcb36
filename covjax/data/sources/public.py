"""Public sets of CT scans: where to get them, under which licence, how their folders are laid out.

Nothing is downloaded: unpack a set yourself and name its folder as `data.path`.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from absl import logging

from covjax.data.formats.endings import bare_name
from covjax.data.formats.nifti import SUFFIXES, open_nifti
from covjax.data.settings import DataSettings
from covjax.data.sources.scans import ENDINGS, Scan, scan_source
from covjax.data.sources.source import Source
from covjax.data.sources.spec import SourceSpec
from covjax.errors import InputError

CASE = re.compile(r"coronacases(_org)?_\d+|radiopaedia(_org)?_\d+")  # may have several scans


def _open_volume(root: Path, config: DataSettings) -> Source:
    """Opens one volume of slices of many patients; patients are not known."""
    image, mask = (_need(root, name, MEDSEG1) for name in ("tr_im", "tr_mask"))
    scan = Scan("tr", partial(open_nifti, image, config.intensity), "", mask)
    return scan_source("medseg1", root, [scan], config)


def _open_folders(root: Path, config: DataSettings, *, name: str, folders: Sequence[str]) -> Source:
    """Opens scans, masks and lungs of one name in three folders; a case or scan is a patient."""
    spec = PUBLIC[name]
    images, masks, lungs = (_folder(root, folder, spec) for folder in folders)
    scans = []
    for path in _numbered(images):
        stem = bare_name(path.name)
        case = CASE.match(path.name)
        opener = partial(open_nifti, path, config.intensity)
        mask = _need(masks, stem, spec, ENDINGS)
        scans.append(Scan(stem, opener, case[0] if case else stem, mask, _find(lungs, stem)))
    return scan_source(name, root, scans, config)


def _open_mosmed(root: Path, config: DataSettings) -> Source:
    """Opens scans without findings (CT-0), healthy throughout, and those with masks."""
    studies, masks = (_folder(root, name, MOSMED) for name in ("studies", "masks"))
    scans = []
    without = 0
    for path in _numbered(studies):
        stem = bare_name(path.name)
        mask = _find(masks, stem, ENDINGS)
        if mask is None and path.parent.name.upper() != "CT-0":
            without += 1
            continue
        scans.append(Scan(stem, partial(open_nifti, path, config.intensity), stem, mask))
    if without:
        logging.warning("%s: %d scans have findings but no mask and are left out", root, without)
    if not scans:
        raise MOSMED.missing(root, "scans of CT-0 or with masks")
    return scan_source("mosmed", root, scans, config)


def _find(folder: Path, stem: str, endings: Sequence[str] = ("",)) -> Path | None:
    paths = (
        folder / f"{stem}{ending}{suffix}" for ending in endings for suffix in (".nii.gz", ".nii")
    )
    return next((path for path in paths if path.is_file()), None)


def _need(folder: Path, stem: str, spec: SourceSpec, endings: Sequence[str] = ("",)) -> Path:
    found = _find(folder, stem, endings)
    if found is None:
        raise spec.missing(folder, f"{stem}.nii.gz")
    return found


def _folder(root: Path, name: str, spec: SourceSpec) -> Path:
    if not (root / name).is_dir():
        raise spec.missing(root, f"{name}/")
    return root / name


def _numbered(folder: Path) -> list[Path]:
    """Returns the NIfTI files below a folder, 10 after 9. Raises InputError when there are none."""
    found = [p for p in folder.rglob("*.nii*") if p.name.endswith(SUFFIXES) and p.is_file()]
    if not found:
        raise InputError(f"{folder}: holds no .nii.gz or .nii file, unpack the set again")
    return sorted(
        found,
        key=lambda path: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", path.name)],
    )


MEDSEG1 = SourceSpec(
    "medseg1",
    "MedSeg Covid Dataset 1 (COVID-19 CT segmentation dataset)",
    _open_volume,
    "100 slices of more than 40 patients; who is on which is not known: use split.by=block",
    "tr_im.nii.gz, tr_mask.nii.gz",
    "https://doi.org/10.6084/m9.figshare.13521488 (and https://medicalsegmentation.com/covid19)",
    "CC0 according to others, read on figshare what the authors state",
)
MEDSEG2 = SourceSpec(
    "medseg2",
    "MedSeg Covid Dataset 2 (9 scans from Radiopaedia)",
    partial(_open_folders, name="medseg2", folders=("rp_im", "rp_msk", "rp_lung_msk")),
    "829 slices, lungs too; the paper's set. Two scans seem to be of one patient; which, the set "
    "does not say",
    "rp_im/, rp_msk/, rp_lung_msk/ with 1.nii.gz to 9.nii.gz",
    "https://doi.org/10.6084/m9.figshare.13521509 (and https://medicalsegmentation.com/covid19)",
    "CC0 according to others, read on figshare what the authors state",
)
ZENODO20 = SourceSpec(
    "zenodo20",
    "COVID-19 CT Lung and Infection Segmentation Dataset (20 scans)",
    partial(
        _open_folders,
        name="zenodo20",
        folders=("COVID-19-CT-Seg_20cases", "Infection_Mask", "Lung_Mask"),
    ),
    "20 scans, lungs too; those of Coronacases in HU, those of Radiopaedia windowed to 0..255",
    "COVID-19-CT-Seg_20cases/, Infection_Mask/, Lung_Mask/ with the same names",
    "https://doi.org/10.5281/zenodo.3757476",
    "CC BY 4.0 according to others; read on Zenodo what holds, also for the scans of Coronacases "
    "and Radiopaedia",
)
MOSMED = SourceSpec(
    "mosmed",
    "MosMedData: Chest CT Scans with COVID-19 Related Findings",
    _open_mosmed,
    "254 scans without findings and 50 with masks are used; the others lack masks",
    "studies/CT-0/ to CT-4/ with study_NNNN.nii.gz, masks/ with study_NNNN_mask.nii.gz",
    "https://mosmed.ai/datasets/covid19_1110",
    "CC BY-NC-ND 3.0",
)
PUBLIC = {spec.name: spec for spec in (MEDSEG1, MEDSEG2, ZENODO20, MOSMED)}
