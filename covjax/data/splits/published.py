"""What a source comes with: its splits, its folds, and what it holds out for testing."""

from collections.abc import Sequence

import numpy as np

from covjax.data.prepared.dataset import Prepared
from covjax.errors import InputError

TRAIN, VAL, TEST = range(3)
# of these the second is held out, the first still to be divided
DIVIDED = ({"train", "val"}, {"train", "test"})


def source_splits(data: Prepared, names: Sequence[str]) -> np.ndarray:
    """Returns the split [M] of each slice, its number in `names`. Raises InputError."""
    for slice_id, split in zip(data.ids, data.splits, strict=True):
        if split not in names:
            raise InputError(
                f"{slice_id}: split '{split}' in index.csv, use train, val or test, or set "
                f"{_instead(data)}"
            )
    return np.array([names.index(s) for s in data.splits])


def source_folds(data: Prepared, folds: int) -> np.ndarray:
    """Returns the fold [M] of each slice. Raises InputError for what is none of `folds`."""
    numbers = [str(k) for k in range(folds)]
    for slice_id, split in zip(data.ids, data.splits, strict=True):
        if split not in numbers:
            raise InputError(
                f"{slice_id}: split '{split}' in index.csv, with {folds} folds use 0 to "
                f"{folds - 1}, or set {_instead(data)}"
            )
    return np.array([numbers.index(s) for s in data.splits])


def held_out(data: Prepared) -> tuple[np.ndarray, np.ndarray]:
    """Returns the split [M] of each slice, -1 for none, and which [M] are still to be divided.

    Of train, val and test, test is held out and the others are as published; of two splits, the
    other one than train is. Slices of the rest whose patient is held out too are in no split.
    Raises InputError for other words.
    """
    names = set(data.splits)
    if names not in (*DIVIDED, {"train", "val", "test"}):
        raise InputError(
            "split.by: held_out needs a split column of train, val and test, or train and one of "
            f"them, found {', '.join(sorted(name or 'nothing' for name in names))}; use "
            f"{_instead(data)}"
        )
    splits = np.array(data.splits)
    patients = np.array(data.patients)
    tested = splits == "test" if "test" in names else splits == "val"
    seen = np.isin(patients, sorted(set(patients[tested]) - {""}))
    rest = ~tested & ~seen
    assigned = np.full(len(splits), -1)
    assigned[tested] = TEST
    if names in DIVIDED:
        return assigned, rest
    assigned[rest] = np.where(splits[rest] == "train", TRAIN, VAL)
    return assigned, np.zeros(len(splits), bool)


def _instead(data: Prepared) -> str:
    """A rule that this data set can be divided by."""
    return "split.by=block" if "" in data.patients else "split.by=patient"
