import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from covjax.errors import InputError
from covjax.metrics import classification_scores, confusion_matrix, hanley_mcneil, wilson

pytestmark = pytest.mark.filterwarnings("error")

NAMES = {
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "mcc",
    "roc_auc",
    "average_precision",
}
CASES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=2, max_size=40).filter(
    lambda cases: len({label for label, _ in cases}) == 2
)


def split(cases):
    labels, ranks = np.array(cases).T
    return labels, ranks / 8


def values(labels, probability, threshold=0.5):
    return {name: s["value"] for name, s in classification_scores(labels, probability, threshold).items()}


@settings(max_examples=150, deadline=None)
@given(CASES, st.sampled_from([0.0, 0.25, 0.5, 0.6, 1.0]))
def test_equals_scikit_learn(cases, threshold):
    labels, probability = split(cases)
    called = (probability >= threshold).astype(int)
    expected = {
        "accuracy": sk.accuracy_score(labels, called),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, called),
        "sensitivity": sk.recall_score(labels, called),
        "specificity": sk.recall_score(labels, called, pos_label=0),
        "precision": sk.precision_score(labels, called) if called.any() else None,
        "f1": sk.f1_score(labels, called),
        "mcc": sk.matthews_corrcoef(labels, called),
        "roc_auc": sk.roc_auc_score(labels, probability),
        "average_precision": sk.average_precision_score(labels, probability),
    }
    got = values(labels, probability, threshold)
    assert set(got) == NAMES
    for name, value in expected.items():
        assert got[name] == (None if value is None else pytest.approx(value, abs=1e-9)), name


def test_hand_computed_case():
    labels = [1, 1, 1, 0, 0, 0, 0]
    probability = [0.9, 0.5, 0.2, 0.6, 0.4, 0.2, 0.1]  # TP 2, FN 1, FP 1, TN 3; 0.5 is called positive
    scores = classification_scores(labels, probability)
    expected = {
        "accuracy": (5 / 7, 7),
        "sensitivity": (2 / 3, 3),
        "specificity": (3 / 4, 4),
        "precision": (2 / 3, 3),
        "f1": (2 / 3, 7),
        "balanced_accuracy": (17 / 24, 7),
        "mcc": (5 / 12, 7),
        "roc_auc": (8.5 / 12, 7),
        "average_precision": ((1 + 2 / 3 + 3 / 6) / 3, 7),
    }
    for name, (value, n) in expected.items():
        assert scores[name]["value"] == pytest.approx(value, abs=1e-12), name
        assert scores[name]["n"] == n, name
    assert scores["sensitivity"]["interval"] == pytest.approx(wilson(2, 3))
    assert scores["accuracy"]["interval"] == pytest.approx(wilson(5, 7))
    assert scores["roc_auc"]["interval"] == pytest.approx(hanley_mcneil(8.5 / 12, 3, 4))
    assert {name for name, s in scores.items() if "interval" in s} == {
        "accuracy",
        "sensitivity",
        "specificity",
        "precision",
        "roc_auc",
    }


def test_large_counts_do_not_overflow():
    labels = np.repeat([1, 0], 150_000)
    probability = np.concatenate([np.full(149_999, 0.9), [0.1], np.full(149_000, 0.2), np.full(1000, 0.8)])
    got = values(labels, probability)
    assert got["mcc"] == pytest.approx(sk.matthews_corrcoef(labels, probability >= 0.5), abs=1e-9)
    assert got["roc_auc"] == pytest.approx(sk.roc_auc_score(labels, probability), abs=1e-9)


def test_no_cases():
    scores = classification_scores([], [])
    assert set(scores) == NAMES
    assert all(s["value"] is None and s["n"] == 0 and s["reason"] for s in scores.values())


def test_only_positive_cases():
    scores = classification_scores([1, 1, 1, 1], [0.9, 0.8, 0.7, 0.1])
    undefined = {name for name, s in scores.items() if s["value"] is None}
    assert undefined == {"specificity", "balanced_accuracy", "mcc", "roc_auc", "average_precision"}
    assert scores["mcc"]["reason"] == "labels hold positive cases only"
    assert scores["sensitivity"]["value"] == 0.75 and scores["precision"]["value"] == 1


def test_only_negative_cases():
    scores = classification_scores([0, 0], [0.9, 0.1])
    undefined = {name for name, s in scores.items() if s["value"] is None}
    assert undefined == {"sensitivity", "balanced_accuracy", "mcc", "roc_auc", "average_precision"}
    assert scores["f1"]["value"] == 0 and scores["precision"]["value"] == 0
    assert classification_scores([0, 0], [0.2, 0.1])["f1"]["value"] is None


def test_nothing_called_positive():
    scores = classification_scores([0, 1, 1], [0.1, 0.2, 0.3])
    assert scores["precision"] == {"value": None, "n": 0, "reason": "no case is called positive"}
    assert scores["mcc"]["value"] == 0 and scores["f1"]["value"] == 0
    assert scores["roc_auc"]["value"] == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), max_size=15), st.randoms(use_true_random=False))
def test_bounds_order_and_json_for_any_input(cases, random):
    labels, probability = split(cases) if cases else (np.zeros(0), np.zeros(0))
    scores = classification_scores(labels, probability)
    for name, s in scores.items():
        assert (s["value"] is None) == ("reason" in s)
        if s["value"] is not None:
            low, high = s.get("interval", (-1 if name == "mcc" else 0, 1))
            assert -1 <= low <= s["value"] <= high <= 1
    order = random.sample(range(len(labels)), len(labels))
    assert classification_scores(labels[order], probability[order]) == scores
    json.dumps(scores, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_swapping_the_classes_swaps_the_rates(cases):
    labels, ranks = np.array(cases).T
    probability = (2 * ranks + 1) / 32  # never on the threshold, which belongs to the positive side
    here, there = values(labels, probability, 0.25), values(1 - labels, 1 - probability, 0.75)
    assert there["sensitivity"] == here["specificity"] and there["specificity"] == here["sensitivity"]
    for name in ("accuracy", "balanced_accuracy", "mcc", "roc_auc"):
        assert there[name] == pytest.approx(here[name], abs=1e-12)


def test_agrees_with_the_mergeable_counts():
    rng = np.random.default_rng(3)
    labels, probability = rng.integers(0, 2, 200), rng.random(200).astype(np.float32)
    called = (probability >= 0.5).astype(int)
    parts = [confusion_matrix(labels[i : i + 64], called[i : i + 64], 2) for i in range(0, 200, 64)]
    (tn, fp), (fn, tp) = np.sum([np.sum(part, axis=0) for part in parts], axis=0)
    got = values(labels, probability)
    assert got["accuracy"] == (tp + tn) / 200
    assert got["sensitivity"] == tp / (tp + fn) and got["precision"] == tp / (tp + fp)


@pytest.mark.parametrize(
    ("labels", "probability", "message"),
    [
        ([0, 1], [0.5, 1.5], "not logits"),
        ([0, 1], [-0.5, 0.5], "1 of 2 are outside"),
        ([0, 1], [np.nan, 0.5], "NaN"),
        ([0, 2], [0.5, 0.5], "not 0 or 1"),
        ([0], [0.5, 0.5], "one length"),
    ],
)
def test_bad_input_is_named(labels, probability, message):
    with pytest.raises(InputError, match=message):
        classification_scores(labels, probability)
