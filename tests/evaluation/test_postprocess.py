"""Small components are dropped, and everything else stays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from covjax.data.loader import eval_batches
from covjax.errors import InputError
from covjax.evaluation.options import Options
from covjax.evaluation.postprocess import remove_small
from covjax.evaluation.predict import collect, make_predictor
from tests.evaluation.linear import LinearSegmenter, stage

BY_HAND = np.array(
    [
        [1, 1, 0, 0, 0, 1],
        [0, 0, 1, 0, 0, 0],  # touches the corner of the two above: three pixels together
        [0, 0, 0, 0, 0, 0],
        [1, 0, 0, 1, 1, 0],
        [1, 0, 0, 1, 1, 0],
    ],
    np.uint8,
)


def test_by_hand():
    def sizes_left(min_size):
        return remove_small(BY_HAND[None], min_size)[0]

    np.testing.assert_array_equal(sizes_left(1), BY_HAND)
    without_one = BY_HAND.copy()
    without_one[0, 5] = 0
    np.testing.assert_array_equal(sizes_left(2), without_one)
    without_two = without_one.copy()
    without_two[3:, 0] = 0
    np.testing.assert_array_equal(sizes_left(3), without_two)
    only_four = np.zeros_like(BY_HAND)
    only_four[3:, 3:5] = 1
    np.testing.assert_array_equal(sizes_left(4), only_four)
    assert not sizes_left(5).any()


def flood_fill(mask, min_size):
    """The same, one pixel at a time."""
    left = np.zeros_like(mask)
    todo = {tuple(p) for p in np.argwhere(mask)}
    while todo:
        found = set()
        edge = [todo.pop()]
        while edge:
            y, x = edge.pop()
            found.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & todo
            todo -= near
            edge += near
        if len(found) >= min_size:
            left[tuple(np.array(list(found)).T)] = 1
    return left


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
                  elements=st.integers(0, 1)), st.integers(0, 12))  # fmt: skip
def test_equals_a_flood_fill_of_each_mask(masks, min_size):
    got = remove_small(masks, min_size)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, np.stack([flood_fill(mask, min_size) for mask in masks]))
    np.testing.assert_array_equal(remove_small(got, min_size), got)


def test_classes_stay_and_touch_each_other():
    masks = BY_HAND[None] * np.uint8(2)
    masks[0, 0, :2] = 1  # of the component of three pixels
    want = np.where(remove_small(BY_HAND[None], 3), masks, 0)
    np.testing.assert_array_equal(remove_small(masks, 3), want)
    assert set(want[want > 0].tolist()) == {1, 2}


def test_refused():
    with pytest.raises(InputError, match=r"shape \(4, 4\)"):
        remove_small(np.zeros((4, 4), np.uint8), 2)
    with pytest.raises(InputError, match="0 and 1"):
        remove_small(np.full((1, 4, 4), 255, np.uint8), 2)


def test_counts_are_those_of_the_cleaned_masks():
    rng = np.random.default_rng(0)
    truth = (rng.random((5, 12, 9)) < 0.3).astype(np.uint8)
    truth[:, 0] = 255
    images = rng.integers(0, 130, truth.shape).astype(np.uint8)
    items = [
        {"image": i, "mask": m, "label": np.int32(1)} for i, m in zip(images, truth, strict=True)
    ]
    model = stage(LinearSegmenter(), truth.shape[1:])
    plain, cleaned = (
        collect(
            make_predictor(model, ("predicted",), options)({}, eval_batches(items, batch_size=2))
        )
        for options in (Options(), Options(min_size=6))
    )
    predicted = cleaned["predicted"]
    np.testing.assert_array_equal(predicted, remove_small(np.stack(plain["predicted"]), 6))
    assert 0 < np.sum(predicted) < np.sum(plain["predicted"])
    want = [[[((t == a) & (p == b)).sum() for b in (0, 1)] for a in (0, 1)]
            for t, p in zip(truth, predicted, strict=True)]  # fmt: skip
    np.testing.assert_array_equal(cleaned["confusion"], want)
    bare = collect(
        make_predictor(model, (), Options(min_size=6))({}, eval_batches(items, batch_size=3))
    )
    assert "predicted" not in bare
    np.testing.assert_array_equal(bare["confusion"], want)
