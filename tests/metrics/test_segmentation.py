import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from covjax.errors import InputError
from covjax.metrics import (
    confusion_matrix,
    infected_or_not,
    infection_scores,
    per_image_dice,
    per_image_iou,
    segmentation_scores,
)

pytestmark = pytest.mark.filterwarnings("error")

CLASSES = ("background", "infected")
SHARED = ("global_accuracy", "mean_accuracy", "mean_iou", "weighted_iou")


def values(confusions, classes=CLASSES):
    return {name: s["value"] for name, s in segmentation_scores(confusions, classes).items()}


def masks(seed, n=5, k=3, side=6):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, (n, side, side))
    predicted = rng.integers(0, k, (n, side, side))
    truth[rng.random(truth.shape) < 0.1] = 255
    return truth, predicted


def test_hand_computed_case():
    confusions = np.array([[[6, 2], [1, 3]], [[8, 0], [4, 0]]])
    scores = segmentation_scores(confusions, CLASSES)
    whole = {  # C = [[14, 2], [5, 3]]
        "global_accuracy": 17 / 24,
        "mean_accuracy": (14 / 16 + 3 / 8) / 2,
        "mean_iou": (14 / 21 + 3 / 10) / 2,
        "weighted_iou": (14 / 21 * 16 + 3 / 10 * 8) / 24,
        "accuracy_background": 14 / 16,
        "accuracy_infected": 3 / 8,
        "iou_background": 14 / 21,
        "iou_infected": 3 / 10,
        "dice_background": 28 / 35,
        "dice_infected": 6 / 13,
    }
    single = {
        "global_accuracy": (9 / 12 + 8 / 12) / 2,
        "mean_accuracy": ((6 / 8 + 3 / 4) / 2 + (1 + 0) / 2) / 2,
        "mean_iou": ((6 / 9 + 3 / 6) / 2 + (8 / 12 + 0) / 2) / 2,
        "weighted_iou": ((6 / 9 * 8 + 3 / 6 * 4) / 12 + (8 / 12 * 8) / 12) / 2,
        "accuracy_background": (6 / 8 + 1) / 2,
        "accuracy_infected": (3 / 4 + 0) / 2,
        "iou_background": (6 / 9 + 8 / 12) / 2,
        "iou_infected": 0.25,
        "dice_background": (12 / 15 + 16 / 20) / 2,
        "dice_infected": (6 / 9 + 0) / 2,
    }
    expected = whole | {f"{name}_per_image": value for name, value in single.items()}
    assert set(scores) == set(expected)
    for name, value in expected.items():
        assert scores[name]["value"] == pytest.approx(value, abs=1e-12), name
        assert scores[name]["n"] == 2, name


@pytest.mark.parametrize("seed", range(4))
def test_data_set_scores_equal_scikit_learn_on_pooled_pixels(seed):
    truth, predicted = masks(seed)
    got = values(np.asarray(confusion_matrix(truth, predicted, 3)), ("a", "b", "c"))
    kept = truth != 255
    t = truth[kept]
    p = predicted[kept]
    iou = sk.jaccard_score(t, p, average=None)
    dice = sk.f1_score(t, p, average=None)
    recall = sk.recall_score(t, p, average=None)
    expected = {
        "global_accuracy": sk.accuracy_score(t, p),
        "mean_accuracy": sk.balanced_accuracy_score(t, p),
        "mean_iou": sk.jaccard_score(t, p, average="macro"),
        "weighted_iou": sk.jaccard_score(t, p, average="weighted"),
    }
    for i, name in enumerate("abc"):
        expected |= {f"iou_{name}": iou[i], f"dice_{name}": dice[i], f"accuracy_{name}": recall[i]}
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-9), name


def test_per_image_scores_equal_scikit_learn_image_by_image():
    truth, predicted = masks(7, n=4, k=2)
    confusions = np.asarray(confusion_matrix(truth, predicted, 2))
    pairs = [(t[t != 255], p[t != 255]) for t, p in zip(truth, predicted, strict=True)]
    np.testing.assert_allclose(
        per_image_dice(confusions), [sk.f1_score(t, p) for t, p in pairs], atol=1e-9
    )
    np.testing.assert_allclose(
        per_image_iou(confusions), [sk.jaccard_score(t, p) for t, p in pairs], atol=1e-9
    )
    np.testing.assert_allclose(
        per_image_dice(confusions, 0), [sk.f1_score(t, p, pos_label=0) for t, p in pairs], atol=1e-9
    )
    got = values(confusions)
    assert got["dice_infected_per_image"] == pytest.approx(
        np.mean([sk.f1_score(t, p) for t, p in pairs]), abs=1e-9
    )
    macro = np.mean([sk.jaccard_score(t, p, average="macro") for t, p in pairs])
    assert got["mean_iou_per_image"] == pytest.approx(macro, abs=1e-9)


def test_absent_class_is_left_out_per_image():
    confusions = np.array(
        [
            [[9, 0], [0, 0]],  # infection absent from both: undefined
            [[7, 2], [0, 0]],  # predicted but not there: Dice 0, accuracy undefined
            [[5, 0], [4, 0]],  # there but not predicted: Dice 0
            [[4, 0], [0, 5]],  # perfect
            [[0, 0], [0, 0]],  # every pixel ignored
        ]
    )
    np.testing.assert_array_equal(per_image_dice(confusions), [np.nan, 0, 0, 1, np.nan])
    np.testing.assert_array_equal(per_image_iou(confusions), [np.nan, 0, 0, 1, np.nan])
    scores = segmentation_scores(confusions, CLASSES)
    assert scores["dice_infected_per_image"] == {"value": pytest.approx(1 / 3), "n": 3}
    assert scores["accuracy_infected_per_image"] == {"value": pytest.approx(1 / 2), "n": 2}
    assert scores["dice_background_per_image"]["n"] == 4
    assert scores["mean_iou_per_image"] == {
        "value": pytest.approx((1 + 7 / 9 / 2 + 5 / 9 / 2 + 1) / 4),
        "n": 4,
    }
    assert scores["mean_accuracy_per_image"] == {
        "value": pytest.approx((1 + 7 / 9 + 1 / 2 + 1) / 4),
        "n": 4,
    }
    assert scores["dice_infected"]["n"] == 5


def test_class_absent_everywhere_is_undefined_with_a_reason():
    scores = segmentation_scores(np.array([[[9, 0], [0, 0]]] * 3), CLASSES)
    assert scores["dice_infected"] == {
        "value": None,
        "n": 3,
        "reason": "infected is absent from truth and prediction",
    }
    assert scores["accuracy_infected"]["reason"] == "infected is absent from the truth"
    assert (
        scores["dice_infected_per_image"]["value"] is None
        and scores["dice_infected_per_image"]["n"] == 0
    )
    for name in SHARED:
        assert scores[name]["value"] == 1 and scores[f"{name}_per_image"]["value"] == 1


@pytest.mark.parametrize("confusions", [np.zeros((0, 2, 2), int), np.zeros((2, 2, 2), np.int32)])
def test_nothing_to_score(confusions):
    scores = segmentation_scores(confusions, CLASSES)
    assert len(scores) == 20
    for name, s in scores.items():
        assert s["value"] is None and s["reason"]
        assert s["n"] == (0 if name.endswith("_per_image") else len(confusions))
    assert per_image_dice(confusions).shape == (len(confusions),)


def test_ignored_pixels_change_nothing():
    truth, predicted = masks(1)
    flipped = np.where(truth == 255, (predicted + 1) % 3, predicted)
    assert values(confusion_matrix(truth, predicted, 3), "abc") == values(
        confusion_matrix(truth, flipped, 3), "abc"
    )


def test_int32_counts_are_summed_without_overflow():
    confusions = np.full((4, 2, 2), 2**30, np.int32)
    assert values(confusions)["global_accuracy"] == 0.5


COUNTS = st.lists(
    st.lists(st.integers(0, 6), min_size=9, max_size=9).map(lambda c: np.reshape(c, (3, 3))),
    min_size=1,
    max_size=6,
).map(np.array)


@settings(max_examples=60, deadline=None)
@given(COUNTS)
def test_bounds_and_relations(confusions):
    scores = segmentation_scores(confusions, ("a", "b", "c"))
    json.dumps(scores, allow_nan=False)
    for s in scores.values():
        assert (s["value"] is None) == ("reason" in s)
        assert s["value"] is None or 0 <= s["value"] <= 1 + 1e-12
    for cls, name in enumerate("abc"):
        iou = per_image_iou(confusions, cls)
        dice = per_image_dice(confusions, cls)
        np.testing.assert_allclose(dice, 2 * iou / (1 + iou), atol=1e-12)
        mean = scores[f"dice_{name}_per_image"]
        assert mean["n"] == np.sum(~np.isnan(dice))
        if mean["n"]:
            assert mean["value"] == pytest.approx(np.nanmean(dice), abs=1e-12)
    if len(confusions) == 1:
        for name, s in scores.items():
            if not name.endswith("_per_image"):
                assert scores[f"{name}_per_image"]["value"] == s["value"]


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.randoms(use_true_random=False))
def test_symmetry_order_and_renaming(confusions, random):
    plain = values(confusions, ("a", "b", "c"))
    swapped = values(confusions.transpose(0, 2, 1), ("a", "b", "c"))
    for name in (
        "global_accuracy",
        "mean_iou",
        "iou_a",
        "dice_b",
        "dice_c_per_image",
    ):  # truth <-> prediction
        assert (
            swapped[name] == pytest.approx(plain[name], abs=1e-12)
            if plain[name] is not None
            else True
        )
    shuffled = confusions[random.sample(range(len(confusions)), len(confusions))]
    assert values(shuffled, ("a", "b", "c")) == pytest.approx(plain, abs=1e-12)
    turned = confusions[:, ::-1, ::-1]
    assert values(turned, ("c", "b", "a")) == pytest.approx(plain, abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_batch_size_does_not_matter(seed, size):
    truth, predicted = masks(seed, n=5)
    whole = confusion_matrix(truth, predicted, 3)
    parts = [
        confusion_matrix(truth[i : i + size], predicted[i : i + size], 3) for i in range(0, 5, size)
    ]
    assert values(np.concatenate(parts), "abc") == values(whole, "abc")


@pytest.mark.parametrize(
    ("confusions", "classes", "message"),
    [
        (np.zeros((2, 2), int), CLASSES, "one square matrix per image"),
        (np.zeros((1, 2, 3), int), CLASSES, "one square matrix per image"),
        (np.zeros((1, 2, 2), np.float32), CLASSES, "integer counts"),
        (np.zeros((1, 2, 2), int), ("infected",), "2 distinct names"),
        (np.zeros((1, 2, 2), int), ("infected", "infected"), "2 distinct names"),
    ],
)
def test_bad_input_is_named(confusions, classes, message):
    with pytest.raises(InputError, match=message):
        segmentation_scores(confusions, classes)


@pytest.mark.parametrize("function", [per_image_dice, per_image_iou])
def test_class_index_is_checked(function):
    for cls in (-1, 2):
        with pytest.raises(InputError, match="index of a class in 0..1"):
            function(np.zeros((1, 2, 2), int), cls)


def by_pixels(truth, predicted, cls):
    """Accuracy, IoU and Dice of a class over pixels that count; NaN where undefined."""
    true = (truth == cls)[truth != 255]
    found = (predicted == cls)[truth != 255]
    hit = (true & found).sum()
    with np.errstate(invalid="ignore"):
        return np.array([hit, hit, 2 * hit]) / [
            true.sum(),
            (true | found).sum(),
            true.sum() + found.sum(),
        ]


@pytest.mark.parametrize("k", [3, 4])
def test_infection_as_a_whole_and_its_classes(k):
    truth, predicted = masks(k, n=6, k=k)
    predicted[0][predicted[0] == k - 1] = 0
    truth[0][truth[0] == k - 1] = 0  # absent from both
    classes = ("background", "a", "b", "c")[:k]
    patients = ["p", "p", "q", "r", "s", "t"]
    scores = infection_scores(np.asarray(confusion_matrix(truth, predicted, k)), classes, patients)
    lesion = np.where(truth == 255, 255, truth > 0)
    binary = np.asarray(confusion_matrix(lesion, (predicted > 0).astype(int), 2))
    union = segmentation_scores(binary, CLASSES, patients)
    assert {name: scores.pop(name) for name in union} == union
    assert len(scores) == 2 * (1 + 3 * (k - 1))
    expected = {"mean_dice": [], "mean_dice_per_image": []}
    for cls in range(1, k):
        whole = by_pixels(truth, predicted, cls)
        single = np.array([by_pixels(t, p, cls) for t, p in zip(truth, predicted, strict=True)])
        for kind, value, each in zip(("accuracy", "iou", "dice"), whole, single.T, strict=True):
            name = f"{kind}_{classes[cls]}"
            expected |= {name: value, f"{name}_per_image": np.nanmean(each)}
            assert scores[f"{name}_per_image"]["n"] == 6 - np.isnan(each).sum()
        expected["mean_dice"].append(whole[2])
        expected["mean_dice_per_image"].append(single[:, 2])
    assert np.isnan(single[0]).all()
    expected["mean_dice"] = np.mean(expected["mean_dice"])
    expected["mean_dice_per_image"] = np.nanmean(expected["mean_dice_per_image"], 0).mean()
    for name, value in expected.items():
        assert scores[name]["value"] == pytest.approx(value, abs=1e-12), name
        low, high = scores[name]["interval"]
        assert low < scores[name]["value"] < high, name


def test_two_classes_are_scored_as_ever():
    confusions = np.random.default_rng(0).integers(0, 9, (6, 2, 2)).astype(np.int32)
    assert infection_scores(confusions, CLASSES, ["p"] * 6) == segmentation_scores(
        confusions, CLASSES, ["p"] * 6
    )
    np.testing.assert_array_equal(infected_or_not(confusions), confusions)
    assert infected_or_not(np.zeros((0, 4, 4), np.int32)).shape == (0, 2, 2)
