"""What is declared of the slices of a run: the sections `data`, `data.phantom` and `split`."""

import re
from dataclasses import dataclass

import numpy as np

from covjax.data.formats.alignment import GEOMETRIES
from covjax.data.formats.deep_pictures import BITS
from covjax.data.formats.hounsfield import INTENSITIES
from covjax.data.intensity import parse_window
from covjax.data.label_map import class_names
from covjax.errors import InputError
from covjax.fields import MAY_CHANGE, NOT_NEGATIVE, POSITIVE, Rule, expand_home, section, setting

PRLAB21_FRAMES = {
    "ct": "the CT, cut out of the figure",
    "full": "the whole figure, its margin labelled infected, as released and as the paper "
    "scores it",
    "ignore_margin": "the whole figure, its margin labelled 255, which no loss and no score counts",
}
RULES = {
    "patient": "all slices of a patient in one split",
    "slice": "slices at random: neighbours of one patient on both sides, scores are optimistic",
    "block": "runs of slices that follow each other by id, for unknown patients whose slices do "
    "(10 comes after 9)",
    "source": "the split the source comes with (column split of index.csv; with folds: their "
    "number)",
    "file": "as listed in split.path: a splits.json, or a CSV with the columns patient or id, "
    "and split",
    "held_out": "what that column calls test (or val, without test) is test, and no patient of "
    "it is in train or val",
}


def _below_255(value: float) -> bool:
    return 0 <= value < 255


def _check_window(where: str, value: str) -> None:
    parse_window(value, where)


def _check_classes(_: str, value: str) -> None:
    class_names(value)


def check_pattern(where: str, pattern: str) -> None:
    """Raises InputError if the field `where` is not a regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError(f"{where}: '{pattern}' is not a regular expression ({error})") from None


@dataclass(frozen=True)
class PhantomSettings:
    """The synthetic slices of data.source=phantom."""

    patients: int = setting(24, "how many patients", rule=POSITIVE)
    slices_per_patient: int = setting(12, "how many slices of each", rule=POSITIVE)
    size: int = setting(304, "height and width of a slice, 32 or more", rule=POSITIVE)
    seed: int = setting(0, "other patients for another number", rule=NOT_NEGATIVE)


@dataclass(frozen=True)
class DataSettings:
    """Where the slices come from and how their files are read."""

    source: str = setting(
        "phantom",
        "phantom (synthetic), your own: folder (pictures), nifti, dicom; or a public set",
        allowed="as `covjax data` prints",
    )
    path: str = setting(
        "", "folder of the slices; phantom needs none", path=True, on_resuming=MAY_CHANGE
    )
    frame: str = setting("ct", "of prlab21: what of its figures", choices=PRLAB21_FRAMES)
    patient_column: str = setting(
        "patient", "of index.csv in a folder: the column that says which patient a slice is of"
    )
    patient_pattern: str = setting(
        "",
        "instead: a regular expression that finds the patient in a name",
        check=check_pattern,
        allowed="a regular expression",
    )
    show_patients: bool = setting(
        False, "of your own folders: identifiers as they are, not pseudonyms"
    )
    prepared_dir: str = setting(
        "",
        "where prepared slices are kept; empty: the user's cache",
        path=True,
        on_resuming=MAY_CHANGE,
    )
    cache: bool = setting(
        True,
        "keep decoded slices in memory, as uint8, up to 4 GB of a split",
        on_resuming=MAY_CHANGE,
    )
    bits: int = setting(
        0,
        "of grey levels in 16-bit pictures; 0: 16, refused where they hardly use them",
        choices=BITS,
    )
    mask_threshold: int = setting(
        0,
        "above 0: a mask pixel above it is infected (masks saved as JPEG: 127)",
        rule=Rule("at least 0 and below 255", _below_255),
    )
    classes: str = setting(
        "",
        'of masks with several: "1:infected,2:infected,3:background", or with names that are kept '
        'apart, "1:ground_glass,2:consolidation,3:ignore"; empty: above 0 is infected',
        check=_check_classes,
        allowed="value:name pairs",
    )
    mask_geometry: str = setting(
        "file",
        "of masks of scans: they lie where their file says, which must agree with their scan, or "
        "(image) voxel by voxel as their scan, whatever their file says",
        choices=GEOMETRIES,
    )
    intensity: str = setting(
        "auto", "what the numbers in scans and 16-bit pictures mean", choices=INTENSITIES
    )
    window: str = setting(
        "lung",
        "brings HU to 0..255",
        check=_check_window,
        allowed='lung, mediastinum or "centre,width"',
    )
    spacing: float = setting(
        0.0,
        "of scans: mm per pixel to which slices are brought, in training and use; 0: as stored",
        allowed="0, or 0.1 to 10",
    )
    lung_crop: bool = setting(False, "crop slices to the lungs, in training and use")
    phantom: PhantomSettings = section(PhantomSettings)

    def __post_init__(self) -> None:
        expand_home(self)


def _is_division(shares: object) -> bool:
    try:
        values = np.asarray(shares, np.float64)
    except (TypeError, ValueError):
        return False
    return values.shape == (3,) and bool((values > 0).all()) and abs(values.sum() - 1) <= 1e-6


@dataclass(frozen=True)
class SplitSettings:
    """How slices are divided into train, val and test."""

    by: str = setting("patient", "what is kept together, or says the split", choices=RULES)
    shares: tuple[float, ...] = setting(
        (0.64, 0.16, 0.2),
        "of train, val and test",
        rule=Rule("three positive shares (train, val, test), sum 1", _is_division),
    )
    folds: int = setting(
        0,
        "above 0: cross-validation, test is number `fold` of so many folds",
        allowed="0, or 2 or more",
    )
    fold: int = setting(0, "which of the folds is test", allowed="0 to folds - 1")
    path: str = setting(
        "",
        "with by=file: the splits.json of another run, or a CSV (patient or id, split)",
        path=True,
    )

    def __post_init__(self) -> None:
        expand_home(self)

    def check(self, where: str) -> None:
        """Raises InputError for a fold that there is not, and for a path without by=file."""
        if self.folds < 0 or self.folds == 1:
            raise InputError(
                f"{where}.folds: {self.folds} must be 0 (no cross-validation) or at least 2"
            )
        if not 0 <= self.fold < max(self.folds, 1):
            among = "is for cross-validation, set split.folds too"
            if self.folds:
                among = f"must be 0 to {self.folds - 1}"
            raise InputError(f"{where}.fold: {self.fold} {among}")
        if (self.by == "file") != bool(self.path):
            raise InputError(f"{where}.path: goes with split.by=file, set both or neither")
