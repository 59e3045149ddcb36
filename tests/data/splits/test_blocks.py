"""Blocks of slices that follow each other."""

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from covjax.data.splits.splits import SPLITS, make_splits
from tests.data.splits.made import data, patients, refused, rule


def test_blocks_by_hand():
    # In the order of their numbers: 1 2 3 .. 10, not 1 10 2 ..
    d = data([1] * 10, [""] * 10)
    shuffled = [7, 2, 10, 1, 5, 3, 9, 4, 8, 6]
    d = replace(d, ids=tuple(f"a{i}b" for i in shuffled))
    one = lambda **fields: make_splits(d, rule("block", **fields), 0, ("infected",))  # noqa: E731
    number = lambda ids: sorted(int(i[1:-1]) for i in ids)  # noqa: E731
    splits = one()
    assert [number(splits[p]) for p in SPLITS] == [[1, 2, 3, 4, 5, 6], [7, 8], [9, 10]]
    splits = one(folds=5, fold=4, shares=(0.5, 0.25, 0.25))
    assert [number(splits[p]) for p in SPLITS] == [[4, 5, 6, 7, 8], [1, 2, 3], [9, 10]]
    assert one(folds=5, fold=1) == make_splits(d, rule("block", folds=5, fold=1), 0, ("infected",))


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 60), st.integers(2, 12), st.floats(0.05, 0.9))
def test_blocks_are_contiguous_and_test_every_slice_once(count, folds, val):
    assume(folds <= count and (folds > 2 or count > 3))
    d = replace(data([1] * count, [""] * count), ids=tuple(f"s{i}" for i in range(count)))
    shares = (0.95 - val, val, 0.05)
    found = [
        make_splits(d, rule("block", shares, folds, k), k, ("infected",)) for k in range(folds)
    ]
    assert sum((splits["test"] for splits in found), []) == list(d.ids)
    for splits in found:
        assert sorted(sum((splits[p] for p in SPLITS), [])) == sorted(d.ids)
        split = [next(p for p in SPLITS if i in splits[p]) for i in d.ids]
        assert sum(a != b for a, b in zip(split, split[1:] + split[:1], strict=True)) == 3


def test_blocks_refused():
    d = patients([10] * 5, [0.5] * 5)
    refused("patient p[34] is in both", d, rule("block"), 0)
    refused(
        "split.folds: 6 cannot be made of 5 slices",
        data([1] * 5, [""] * 5),
        rule("block", folds=6),
        0,
        ("infected",),
    )
    refused(
        "train split is empty", data([1] * 2, [""] * 2), rule("block", folds=2), 0, ("infected",)
    )
