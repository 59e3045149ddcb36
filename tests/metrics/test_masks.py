"""Scores of two masks as they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from covjax.errors import InputError
from covjax.metrics import (
    confusion_matrix,
    infection_scores,
    mask_scores,
    surface_scores,
    surface_summary,
)

SHAPE = (3, 9, 7)
MASKS = arrays(np.uint8, SHAPE, elements=st.integers(0, 1))
FORMS = {
    "bool": lambda mask: mask > 0,
    "int64": lambda mask: mask.astype(np.int64),
    "0 and 255": lambda mask: mask * np.uint8(255),
    "float": lambda mask: mask.astype(np.float32),
    "float 0 and 255": lambda mask: mask * 255.0,
    "list": list,
    "lists": lambda mask: mask.tolist(),
}


def by_hand(truth, predicted, classes=("background", "infected")):
    confusions = np.asarray(confusion_matrix(truth, predicted, len(classes), ignore=-1))
    surfaces = surface_scores(truth > 0, predicted > 0)
    return infection_scores(confusions, classes) | surface_summary(
        surfaces, ("background", "infected")
    )


@settings(max_examples=40, deadline=None)
@given(MASKS, MASKS, st.sampled_from(sorted(FORMS)), st.sampled_from(sorted(FORMS)))
def test_every_form_of_two_masks_gives_the_scores_of_their_counts(truth, predicted, form, other):
    assert mask_scores(FORMS[form](truth), FORMS[other](predicted)) == by_hand(truth, predicted)


@settings(max_examples=20, deadline=None)
@given(
    arrays(np.uint8, SHAPE, elements=st.integers(0, 2)),
    arrays(np.uint8, SHAPE, elements=st.integers(0, 2)),
)
def test_several_classes(truth, predicted):
    classes = ("background", "ground_glass", "consolidation")
    found = mask_scores(truth, predicted, classes)
    assert found == by_hand(truth, predicted, classes) and "dice_consolidation" in found


@settings(max_examples=30, deadline=None)
@given(
    MASKS, MASKS, arrays(bool, SHAPE), st.sampled_from([2, 254, 255]), st.sampled_from([0, 1, 255])
)
def test_ignored_pixels_count_nowhere(truth, predicted, left_out, ignore, there):
    want = np.where(left_out, 255, truth)
    confusions = np.asarray(confusion_matrix(want, predicted, 2))
    surfaces = surface_scores(want, np.where(left_out, 0, predicted))
    expected = infection_scores(confusions, ("background", "infected"))
    expected |= surface_summary(surfaces, ("background", "infected"))
    got = mask_scores(
        np.where(left_out, ignore, truth), np.where(left_out, there, predicted), ignore=ignore
    )
    assert got == expected


def test_masks_of_several_sizes_and_of_one():
    rng = np.random.default_rng(0)
    truth = [rng.integers(0, 2, (8 + k, 12 - k), np.uint8) for k in range(6)]
    predicted = [np.roll(mask, 1, 0) for mask in truth]
    found = mask_scores(truth, predicted, patients=list("abcdef"))
    singles = [
        mask_scores(a, b)["dice_infected"]["value"] for a, b in zip(truth, predicted, strict=True)
    ]
    assert found["dice_infected_per_image"]["value"] == pytest.approx(np.mean(singles))
    assert found["dice_infected"]["n"] == 6


def test_no_masks_give_reasons():
    found = mask_scores(np.zeros((0, 4, 4), int), np.zeros((0, 4, 4), int))
    assert {score["reason"] for score in found.values()} == {"no images"}


MASK = np.zeros((2, 6, 6), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((MASK, MASK[:1]), "truth: 2 masks, predicted: 1"),
        ((MASK, MASK[:, :5]), r"truth\[0\]: \(6, 6\), predicted\[0\]: \(5, 6\)"),
        (
            (MASK, MASK + 0.5),
            r"predicted\[0\]: float64 values are no labels, compare them first \(mask >= 0.5\)",
        ),
        ((MASK * np.nan, MASK), r"truth\[0\]: float64 values are no labels"),
        (
            (MASK + np.uint8(76), MASK),
            r"truth\[0\]: labels 76, give classes 0..1 or 0 and 255, e.g. mask > 0",
        ),
        ((MASK, MASK - 1.0), r"predicted\[0\]: labels -1"),
        (
            (MASK, MASK + np.uint8(3), ("a", "b", "c")),
            r"predicted\[0\]: labels 3, give classes 0..2 and name each",
        ),
        ((MASK[..., None], MASK), r"truth\[0\]: shape \(2, 6, 6, 1\), a mask is \[H, W\]"),
        ((MASK[:, :0], MASK[:, :0]), r"truth\[0\]: shape \(0, 6\)"),
        (("a", "b"), "truth: str, give masks"),
        ((None, None), "truth: NoneType, give masks"),
        (([[1, 2], [3]], MASK), "truth"),
        ((MASK, MASK, "aa"), "classes: 'aa', give 2 distinct names"),
        ((MASK, MASK, ("a",)), "classes"),
        ((MASK, MASK, ("a", "a")), "classes"),
        ((MASK, MASK, MASK), "classes"),
    ],
)
def test_what_are_no_two_masks(arguments, says):
    with pytest.raises(InputError, match=says) as error:
        mask_scores(*arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options", [{"ignore": "255"}, {"ignore": 2.0}, {"ignore": -1}, {"patients": ["a"]}]
)
def test_what_are_no_options(options):
    with pytest.raises(InputError, match=next(iter(options))):
        mask_scores(MASK, MASK, **options)
