"""Data sets of labels and patients alone, and how their splits are checked."""

import numpy as np
import pytest

from covjax.data.prepared.dataset import Prepared
from covjax.data.settings import SplitSettings
from covjax.data.splits.splits import SPLITS, make_splits
from covjax.errors import InputError
from covjax.settings import default_config


def data(labels, patients, splits=None):
    n = len(labels)
    ids = tuple(f"s{i}" for i in range(n))
    splits = tuple(splits) if splits is not None else ("",) * n
    return Prepared(
        "f",
        "fake",
        ids,
        np.array(labels, np.int32),
        tuple(patients),
        splits,
        np.ones(n, bool),
        None,
    )


def real(path, home, column):
    data = default_config().data
    data.update(
        source="folder",
        path=str(path),
        prepared_dir=str(home),
        patient_column=column,
        show_patients=True,
    )
    return data


def rule(by="patient", shares=(0.64, 0.16, 0.2), folds=0, fold=0, path=""):
    return SplitSettings(by, shares, folds, fold, str(path))


def patients(sizes, infected_shares):
    """One patient per size, the first slices of each infected."""
    names = np.repeat([f"p{i}" for i in range(len(sizes))], sizes)
    labels = np.concatenate(
        [np.arange(n) < round(n * s) for n, s in zip(sizes, infected_shares, strict=True)]
    )
    return data(labels.astype(int), names)


def check(splits, d, by="patient"):
    # each slice in exactly one split
    assert sorted(sum((splits[p] for p in SPLITS), [])) == sorted(d.ids)
    patient = dict(zip(d.ids, d.patients, strict=True))
    label = dict(zip(d.ids, d.labels.tolist(), strict=True))
    if by == "patient":
        groups = [{patient[s] for s in splits[p]} for p in SPLITS]
        assert all(not groups[a] & groups[b] for a, b in ((0, 1), (0, 2), (1, 2)))
    for p in SPLITS:
        assert {label[s] for s in splits[p]} == {0, 1}
        assert splits["slices"][p] == {
            k: sum(label[s] == i for s in splits[p]) for i, k in enumerate(("healthy", "infected"))
        }


def refused(match, *args, **kwargs):
    with pytest.raises(InputError, match=match) as caught:
        make_splits(*args, **kwargs)
    assert "\n" not in str(caught.value)
