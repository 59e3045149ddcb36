"""Splits of slices of unknown patients: runs of slices that follow each other by id."""

import re

import numpy as np

from covjax.data.prepared.dataset import Prepared
from covjax.data.settings import SplitSettings
from covjax.errors import InputError


def block_splits(data: Prepared, config: SplitSettings, shares: np.ndarray) -> np.ndarray:
    """Returns the split [M] of each slice; splits are runs of slices in the order of their ids."""
    count = len(data)
    train, val, test = range(3)
    if config.folds > count:
        raise InputError(f"split.folds: {config.folds} cannot be made of {count} slices, use fewer")
    assigned = np.full(count, train)
    if config.folds:
        first, last = (round(count * k / config.folds) for k in (config.fold, config.fold + 1))
    else:
        first = count - _some(count, shares[2])
        last = count
    assigned[first:last] = test
    rest = count - (last - first)
    validated = _some(rest, shares[1] / shares[:2].sum())
    # Without folds, train comes first; with them, what follows the last block is the first.
    start = last if config.folds else first - validated
    assigned[(start + np.arange(validated)) % count] = val
    order = sorted(range(count), key=lambda i: _in_order(data.ids[i]))
    return assigned[np.argsort(order)]


def _some(slices: int, share: float) -> int:
    """A share of slices, neither none nor all if it can be helped."""
    return max(1, min(round(slices * share), slices - 1))


def _in_order(slice_id: str) -> list[tuple[str, int]]:
    """A key that sorts numbers in ids by what they count."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", slice_id)]
