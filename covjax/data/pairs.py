"""Pairs of files that say the same of the same slices: truth and what any tool predicted."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from covjax.data.formats.endings import bare_name
from covjax.data.formats.images import SUFFIXES
from covjax.data.formats.label_volumes import label_notes, read_labels
from covjax.data.formats.nifti import open_nifti
from covjax.data.formats.picture_masks import MaskFiles
from covjax.data.formats.scans import is_nifti
from covjax.data.label_map import IGNORE, map_classes, parse_classes
from covjax.data.listing import LeftOut, LeftOuts, list_files
from covjax.data.sources.patients import match
from covjax.errors import InputError

NAMED = 3  # files in one line


class Pair(NamedTuple):
    """A file of truth and the predicted one of its name."""

    name: str
    truth: Path
    predicted: Path


class MaskedSlice(NamedTuple):
    """A slice whose true mask (255 ignored) and predicted one are known, uint8 [H, W] each."""

    id: str
    patient: str  # "" when unknown
    truth: np.ndarray
    predicted: np.ndarray
    spacing: tuple[float, float] | None  # mm between rows and columns
    notes: tuple[str, ...] = ()


def find_pairs(truth: Path, predicted: Path) -> tuple[list[Pair], list[LeftOut]]:
    """Returns the masks of two folders by their names, and what lies there and is none.

    A name is the path below the folder without the ending of a picture or a scan. Raises
    InputError unless every name is in both folders, once.
    """
    trues, others = _masks_below(truth)
    predictions, more = _masks_below(predicted)
    nothing = "(an empty mask where nothing was found)"
    _check_all(trues.keys() - predictions.keys(), truth, predicted, f"add them {nothing}")
    _check_all(predictions.keys() - trues.keys(), predicted, truth, "add them or take these out")
    pairs = [Pair(name, path, predictions[name]) for name, path in sorted(trues.items())]
    for pair in pairs:
        if is_nifti(pair.truth) != is_nifti(pair.predicted):
            raise InputError(f"{pair.predicted}: {pair.truth} is of another kind, save both alike")
    return pairs, [*others, *more]


def have_spacing(pairs: Sequence[Pair]) -> bool:
    """Whether the size of every pixel is known in mm."""
    return all(is_nifti(pair.truth) and open_nifti(pair.truth).spacing for pair in pairs)


def read_pairs(
    pairs: Sequence[Pair], patient_pattern: str = "", threshold: int = 0, classes: str = ""
) -> Iterator[MaskedSlice]:
    """Yields every slice of pairs of pictures (one each) and NIfTI volumes (axial slices).

    A volume's slices are of one patient, named as it is; of pictures none is known; a pattern
    says both. `threshold` and `classes` as data.mask_threshold and data.classes. Raises InputError
    where two files do not lie alike, or hold no masks.
    """
    meanings = parse_classes(classes)
    flat = [pair for pair in pairs if not is_nifti(pair.truth)]
    trues = MaskFiles([pair.truth for pair in flat], threshold, meanings, "--")
    predictions = MaskFiles([pair.predicted for pair in flat], threshold, meanings, "--")
    for pair in pairs:
        patient = match(patient_pattern, pair.name) if patient_pattern else ""
        if is_nifti(pair.truth):
            yield from _volume(pair, patient or pair.name, meanings)
            continue
        truth = trues.read(pair.truth)
        predicted = predictions.read(pair.predicted)
        if truth.shape != predicted.shape:
            raise InputError(
                f"{pair.predicted}: {predicted.shape} pixels, its truth has {truth.shape}; bring "
                "it to that size, nearest pixel for pixel"
            )
        yield MaskedSlice(pair.name, patient, truth, _called(predicted, pair.predicted), None)


def _volume(pair: Pair, patient: str, meanings: dict[int, int]) -> Iterator[MaskedSlice]:
    volume = open_nifti(pair.truth)
    notes = label_notes(pair.predicted, volume)
    digits = len(str(len(volume)))
    for i in range(len(volume)):
        truth, predicted = (
            _meant(read_labels(path, volume, i), meanings, path)
            for path in (pair.truth, pair.predicted)
        )
        spacing = volume.spacing[1:] if volume.spacing else None
        yield MaskedSlice(
            f"{pair.name}_{i:0{digits}d}", patient, truth, _called(predicted, pair.predicted),
            spacing, notes,
        )  # fmt: skip


def _meant(labels: np.ndarray, meanings: dict[int, int], path: Path) -> np.ndarray:
    return map_classes(labels, meanings, path) if meanings else (labels > 0).astype(np.uint8)


def _called(predicted: np.ndarray, path: Path) -> np.ndarray:
    if (predicted == IGNORE).any():
        raise InputError(f"{path}: a prediction ignores no pixel, say what these are")
    return predicted


def _masks_below(folder: Path) -> tuple[dict[str, Path], list[LeftOut]]:
    """Returns {name: mask} of all pictures and NIfTI files below a folder, and what else is."""
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder, name one of masks")
    found: dict[str, Path] = {}
    left_out = LeftOuts(folder)
    for path in list_files(folder, leave=left_out):
        if not (is_nifti(path) or path.suffix.lower() in SUFFIXES):
            left_out(path, "neither a picture nor NIfTI")
            continue
        below = path.relative_to(folder)
        name = below.with_name(bare_name(below.name)).as_posix()
        if name in found:
            raise InputError(f"{path}: has the name of {found[name]}, rename one of them")
        found[name] = path
    if not found:
        raise InputError(f"{folder}: holds no masks (pictures or NIfTI), name another folder")
    return found, list(left_out.listed())


def _check_all(missing: set[str], there: Path, absent: Path, remedy: str) -> None:
    if missing:
        listed = ", ".join(sorted(missing)[:NAMED]) + (", .." if len(missing) > NAMED else "")
        raise InputError(
            f"{absent}: {len(missing)} of the masks of {there} have none here ({listed}); {remedy}"
        )
