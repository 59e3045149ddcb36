"""Splits and folds by patient: made once, stratified, written down, and never overlapping."""

from collections import Counter
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from covjax.data.prepared.dataset import Prepared
from covjax.data.settings import SplitSettings
from covjax.data.splits.assign import assign, slice_groups
from covjax.data.splits.blocks import block_splits
from covjax.data.splits.listed import listed_splits
from covjax.data.splits.published import held_out, source_folds, source_splits
from covjax.errors import InputError
from covjax.fields import check_section
from covjax.records import Count, read_record

SPLITS = ("train", "val", "test")
CLASSES = ("healthy", "infected")


class Patients(TypedDict):
    """The patients of each split."""

    train: list[str]
    val: list[str]
    test: list[str]


class SplitsFile(TypedDict):
    """splits.json."""

    source: str
    fingerprint: str
    by: str
    train: list[str]
    val: list[str]
    test: list[str]
    patients: Patients
    slices: dict[str, dict[str, Count]]
    folds: NotRequired[Count]
    fold: NotRequired[Count]
    listed_by: NotRequired[str]


def make_splits(
    data: Prepared, config: SplitSettings, seed: int, needs: tuple[str, ...] = CLASSES
) -> dict[str, Any]:
    """Divides a data set into train, val and test, and returns what splits.json holds.

    By patient, the division is the one of many seeded random ones that comes nearest to the wanted
    share of healthy and infected slices in each split. `needs` names the classes that every split
    must hold: both to train a classifier, "infected" for a segmenter alone. Raises InputError when
    patients are unknown, too few, or shared between splits, or when a class is lacking.

    With `config.folds` above 0 the test split is fold number `config.fold` of that many, so that
    over all folds every slice is tested once; train and val share the other folds. As many folds as
    patients leave one patient out; a test split may then lack a class.

    By block, slices are put in the order of their ids and cut where shares or folds say: nothing is
    drawn, the seed does not matter, classes fall as they do, and each block is next to two others,
    so at most a patient at each cut is in two splits. Val is the block that follows test.

    By file, splits are what `config.path` says, of another run (its splits.json) or by hand; what
    it does not list is in no split.

    By source, splits are as published: no patient need be known, and one may be in train and val,
    never in test.

    By what the source holds out, that is for testing only; slices of the rest whose patient is in
    it too are in no split, and listed as left_out. Of a source with train, val and test the rest
    stays as published; of one with two splits it is divided by patient, slices of unknown patients
    one by one.
    """
    check_section(config, "split")
    shares = np.asarray(config.shares, np.float64)
    if config.folds and config.by in ("held_out", "file"):
        raise InputError(
            f"split.folds: split.by={config.by} says what is tested, set folds to 0 or use "
            "by=patient"
        )
    for name in needs:
        if not (data.labels == CLASSES.index(name)).any():
            raise InputError(f"data: no slice is {name}, add {name} slices")
    listed_by = ""
    if config.by == "file":
        assigned, listed_by = listed_splits(data, Path(config.path), SPLITS)
    elif config.by == "block":
        assigned = block_splits(data, config, shares)
    elif config.folds:
        assigned = _fold_splits(data, config, shares, seed)
    elif config.by == "source":
        assigned = source_splits(data, SPLITS)
    elif config.by == "held_out":
        assigned = _held_out_splits(data, shares, seed)
    else:
        assigned = assign(slice_groups(data, config.by), data.labels, shares, seed)
    indices = {name: np.flatnonzero(assigned == k) for k, name in enumerate(SPLITS)}
    splits = {
        "source": data.source,
        "fingerprint": data.fingerprint,
        "by": config.by,
        "seed": seed,
        "shares": list(config.shares),
        "folds": config.folds,
        "fold": config.fold,
        **{name: [data.ids[i] for i in indices[name]] for name in SPLITS},
        "patients": {
            name: sorted({data.patients[i] for i in indices[name]} - {""}) for name in SPLITS
        },
        "slices": {name: _label_counts(data.labels[indices[name]]) for name in SPLITS},
    }
    if data.notes:
        splits["notes"] = {name: count_notes(data, indices[name]) for name in SPLITS}
    if listed_by:
        splits["listed_by"] = listed_by
    if (assigned < 0).any():
        splits["left_out"] = [data.ids[i] for i in np.flatnonzero(assigned < 0)]
    check_splits(splits)
    # A fold without infection can be screened, but there is nothing in it to segment.
    _check_classes(splits, needs, SPLITS[:2] if config.folds and "healthy" in needs else SPLITS)
    return splits


def check_splits(splits: dict[str, Any], path: Path | str = "splits") -> None:
    """Raises InputError if a slice or, but see below, a patient is in two splits, or one is empty.

    Split by slice, here or by the run whose file lists the splits, patients are in several splits;
    in splits that were made elsewhere one may be in train and val, which reports name: what is
    tested remains unseen.
    """
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        if shared := set(splits[a]) & set(splits[b]):
            raise InputError(f"{path}: slice {min(shared)} is in both {a} and {b}, list it once")
        shared = set(splits["patients"][a]) & set(splits["patients"][b])
        by_slice = "slice" in (splits["by"], splits.get("listed_by"))
        if shared and not by_slice and (b == "test" or not _made_elsewhere(splits)):
            raise InputError(
                f"{path}: patient {min(shared)} is in both {a} and {b}, {_apart(splits)}"
            )
    for name in SPLITS:
        if not splits[name]:
            raise InputError(f"{path}: the {name} split is empty, {_remedy(splits)}")


def _made_elsewhere(splits: dict[str, Any]) -> bool:
    return splits["by"] in ("source", "held_out", "file") and not splits.get("folds")


def _apart(splits: dict[str, Any]) -> str:
    if splits["by"] == "source" and not splits.get("folds"):
        return (
            "use split.by=held_out, which trains on no slice of a patient in test, or "
            "split.by=patient"
        )
    return "use split.by=patient"


def _check_classes(splits: dict[str, Any], needs: tuple[str, ...], names: tuple[str, ...]) -> None:
    for split in names:
        for name in needs:
            if not splits["slices"][split][name]:
                raise InputError(
                    f"splits: the {split} split has no {name} slice, {_remedy(splits)}"
                )


def _remedy(splits: dict[str, Any]) -> str:
    if splits["by"] == "source" and not splits.get("folds"):
        held = "" if splits["test"] and splits["val"] else "use split.by=held_out, or "
        return (
            f"{held}put slices of each class in each of {', '.join(SPLITS)} (column split of "
            "index.csv)"
        )
    return "add patients, change split.shares or seed" + (
        " or use other folds" if splits.get("folds") else ""
    )


def read_splits(path: Path) -> dict[str, Any]:
    """Reads and checks a splits.json. Raises InputError when it is missing, damaged or leaks."""
    remedy = "restore it or train again with another --workdir"
    found = read_record(path, SplitsFile, remedy, "is this the workdir of a run?")
    splits: dict[str, Any] = {**found}
    check_splits(splits, path)
    return splits


def split_indices(data: Prepared, splits: dict[str, Any], name: str) -> np.ndarray:
    """Returns the positions [n] int64 of a split's slices in the data set. Raises InputError."""
    position = {slice_id: i for i, slice_id in enumerate(data.ids)}
    missing = [s for s in splits[name] if s not in position]
    if missing:
        raise InputError(
            f"splits.json: {len(missing)} slices, first {missing[0]}, not in the data, restore the "
            "data"
        )
    return np.array([position[s] for s in splits[name]], np.int64)


def _label_counts(labels: np.ndarray) -> dict[str, int]:
    return {name: int((labels == k).sum()) for k, name in enumerate(CLASSES)}


def whole_split(data: Prepared, name: str) -> dict[str, Any]:
    """Returns what splits.json holds of a data set that is one split: slices, patients, notes."""
    notes = {"notes": {name: count_notes(data, np.arange(len(data)))}} if data.notes else {}
    return notes | {
        name: list(data.ids),
        "patients": {name: sorted(set(data.patients) - {""})},
        "slices": {name: _label_counts(data.labels)},
    }


def count_notes(data: Prepared, indices: np.ndarray) -> dict[str, int]:
    """Returns of how many of the slices at `indices` each note is, the most frequent first."""
    return dict(
        Counter(note for i in indices.tolist() for note in data.notes.get(i, ())).most_common()
    )


def _held_out_splits(data: Prepared, shares: np.ndarray, seed: int) -> np.ndarray:
    """Returns the split [M] of each slice, -1 for those of the rest whose patient is held out."""
    assigned, rest = held_out(data)
    if not rest.any():
        return assigned
    names = [
        patient or f"slice {slice_id}"
        for slice_id, patient in zip(data.ids, data.patients, strict=True)
    ]
    among, left = np.unique(np.array(names)[rest], return_inverse=True)
    if len(among) < 2:
        raise InputError(
            "split.by: held_out leaves fewer than 2 patients for train and val, use "
            "split.by=patient"
        )
    assigned[rest] = assign(left, data.labels[rest], shares[:2] / shares[:2].sum(), seed)
    return assigned


def _fold_splits(
    data: Prepared, config: SplitSettings, shares: np.ndarray, seed: int
) -> np.ndarray:
    """Returns the split [M] of each slice: test is one fold, val its share of the rest."""
    if config.by == "source":
        fold = source_folds(data, config.folds)
        groups = slice_groups(data, "slice" if "" in data.patients else "source")
    else:
        groups = slice_groups(data, config.by)
        # the other folds have to be divided into train and val
        least = 2 if config.folds == 2 else 1
        if config.folds * least > groups.max() + 1:
            raise InputError(
                f"split.folds: {config.folds} cannot be made of {groups.max() + 1} {config.by}s, "
                "use as many folds as there are, or fewer but more than 2"
            )
        fold = assign(groups, data.labels, np.full(config.folds, 1 / config.folds), seed, least)
    rest = np.flatnonzero(fold != config.fold)
    names, left = np.unique(groups[rest], return_inverse=True)
    if len(names) < 2:
        raise InputError(
            f"split.folds: fold {config.fold} leaves nothing to divide into train and val, use "
            "more folds"
        )
    assigned = np.full(len(data), SPLITS.index("test"))
    assigned[rest] = assign(left, data.labels[rest], shares[:2] / shares[:2].sum(), seed)
    return assigned
