"""Folds test every slice once, and never leak."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covjax.data.splits.splits import SPLITS, make_splits
from tests.data.splits.made import check, data, patients, refused, rule


def all_folds(d, by, folds, seed, needs=("healthy", "infected")):
    return [make_splits(d, rule(by, folds=folds, fold=k), seed, needs) for k in range(folds)]


@settings(max_examples=3, deadline=None)
@given(
    st.lists(st.integers(2, 40), min_size=6, max_size=12),
    st.integers(2, 6),
    st.integers(0, 2**32 - 1),
)
@pytest.mark.parametrize("by", ["patient", "slice"])
def test_folds_test_every_slice_once(by, sizes, folds, seed):
    d = patients(sizes, [0.5] * len(sizes))
    found = all_folds(d, by, folds, seed)
    assert sorted(sum((splits["test"] for splits in found), [])) == sorted(d.ids)
    for k, splits in enumerate(found):
        check(splits, d, by)
        assert (splits["folds"], splits["fold"]) == (folds, k)
    assert found[1] == make_splits(d, rule(by, folds=folds, fold=1), seed)


def test_folds_are_stratified_and_val_is_its_share_of_the_rest():
    d = patients([30] * 30, [0.2, 0.8] * 15)
    for splits in all_folds(d, "patient", 5, 0):
        counts = {p: sum(splits["slices"][p].values()) for p in SPLITS}
        assert abs(counts["test"] - 180) <= 60
        assert abs(splits["slices"]["test"]["infected"] / counts["test"] - 0.5) < 0.1
        assert abs(counts["val"] / (counts["val"] + counts["train"]) - 0.2) < 0.03
    one = rule(folds=5)
    assert make_splits(d, one, 0)["test"] != make_splits(d, one, 1)["test"]


def test_leave_one_patient_out():
    """Also a patient of one class only, who has to be tested like the others."""
    d = patients([457, 93, 66, 45, 45, 42, 42, 39], [0.37, 0.6, 0.5, 0.4, 0.7, 1.0, 0.0, 0.3])
    found = all_folds(d, "patient", 8, 0)
    assert sorted(p for splits in found for p in splits["patients"]["test"]) == sorted(
        set(d.patients)
    )
    assert all(len(splits["patients"]["test"]) == 1 for splits in found)
    assert {0} in [{splits["slices"]["test"][k] for k in ("healthy",)} for splits in found]
    for splits in found:
        assert all(
            splits["slices"][p][k] for p in ("train", "val") for k in ("healthy", "infected")
        )


def test_folds_of_the_source():
    column = ["0", "1", "2", "0", "1", "2"] * 4
    d = data([0, 1] * 12, np.repeat(["a", "b", "c", "d"], 6), column)
    refused("s0: split '0' in index.csv, use train, val or test", d, rule("source"), 0)
    refused("s2: split '2' in index.csv, with 2 folds use 0 to 1", d, rule("source", folds=2), 0)
    refused("patient a is in both", d, rule("source", folds=3), 0)
    unnamed = data(d.labels, [""] * 24, column)
    for k, splits in enumerate(all_folds(unnamed, "source", 3, 0)):
        assert splits["test"] == [f"s{i}" for i in range(24) if column[i] == str(k)]
        check(splits, unnamed, "slice")
    many = data([0, 1] * 12, [f"p{i // 2}" for i in range(24)], [str(i // 8) for i in range(24)])
    for splits in all_folds(many, "source", 3, 0):
        check(splits, many)
    two = data([0, 1] * 12, ["p"] * 12 + ["q"] * 12, ["0"] * 12 + ["1"] * 12)
    refused("fold 1 leaves nothing to divide", two, rule("source", folds=2, fold=1), 0)


def test_folds_refused():
    d = patients([10] * 5, [0.5] * 5)
    refused("split.folds: 1 must be 0", d, rule(folds=1), 0)
    refused("split.folds: -2 must be 0", d, rule(folds=-2), 0)
    refused("split.fold: 3 must be 0 to 2", d, rule(folds=3, fold=3), 0)
    refused("split.fold: 1 is for cross-validation", d, rule(fold=1), 0)
    refused("split.folds: 6 cannot be made of 5 patients", d, rule(folds=6), 0)
    refused(
        "split.folds: 2 cannot be made of 3 patients",
        patients([10] * 3, [0.5] * 3),
        rule(folds=2),
        0,
    )
    refused(
        "the val split has no healthy slice",
        patients([10] * 4, [1, 1, 1, 0]),
        rule(folds=4, fold=0),
        0,
    )


def test_as_many_folds_as_patients_leave_one_out():
    d = data([0, 1] * 9, [f"p{i // 3}" for i in range(18)])
    tested = [make_splits(d, rule(folds=6, fold=k), 0)["patients"]["test"] for k in range(6)]
    assert sorted(sum(tested, [])) == [f"p{k}" for k in range(6)] and all(
        len(one) == 1 for one in tested
    )
