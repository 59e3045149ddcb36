import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from covjax.errors import InputError
from covjax.metrics import classification_scores, confusion_matrix, delong, threshold_table, wilson

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
    "kappa",
    "brier",
    "log_loss",
    "ece",
}
CASES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=2, max_size=40).filter(
    lambda cases: len({label for label, _ in cases}) == 2
)


def split(cases):
    labels, ranks = np.array(cases).T
    return labels, ranks / 8


def ece(labels, probability):
    """From scikit-learn's reliability curve, which leaves empty bins out and does not say how full
    the others are.
    """
    positive, mean = calibration_curve(labels, probability, n_bins=10)
    bins = np.searchsorted(np.linspace(0, 1, 11)[1:-1], probability)
    return np.sum(np.unique(bins, return_counts=True)[1] * np.abs(positive - mean)) / len(labels)


def values(labels, probability, threshold=0.5):
    return {
        name: s["value"]
        for name, s in classification_scores(labels, probability, threshold).items()
    }


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
        "kappa": sk.cohen_kappa_score(labels, called),
        "brier": sk.brier_score_loss(labels, probability),
        "log_loss": sk.log_loss(labels, probability),
        "ece": ece(labels, probability),
    }
    got = values(labels, probability, threshold)
    assert set(got) == NAMES
    for name, value in expected.items():
        assert got[name] == (None if value is None else pytest.approx(value, abs=1e-9)), name


def test_hand_computed_case():
    labels = [1, 1, 1, 0, 0, 0, 0]
    # TP 2, FN 1, FP 1, TN 3; 0.5 is called positive
    probability = [0.9, 0.5, 0.2, 0.6, 0.4, 0.2, 0.1]
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
        "kappa": ((5 / 7 - 25 / 49) / (1 - 25 / 49), 7),  # by chance 3 * 3 + 4 * 4 = 25 of 49 agree
        "brier": ((0.01 + 0.25 + 0.64 + 0.36 + 0.16 + 0.04 + 0.01) / 7, 7),
        "log_loss": (-np.log([0.9, 0.5, 0.2, 0.4, 0.6, 0.8, 0.9]).sum() / 7, 7),
        "ece": ((0.1 + 0.5 + abs(1 - 0.4) + 0.6 + 0.4 + 0.1) / 7, 7),
    }
    for name, (value, n) in expected.items():
        assert scores[name]["value"] == pytest.approx(value, abs=1e-12), name
        assert scores[name]["n"] == n, name
    assert scores["sensitivity"]["interval"] == pytest.approx(wilson(2, 3))
    assert scores["accuracy"]["interval"] == pytest.approx(wilson(5, 7))
    assert scores["roc_auc"]["interval"] == pytest.approx(delong(labels, probability))
    assert (
        scores["roc_auc"]["interval_method"] == "DeLong"
        and scores["accuracy"]["interval_method"] == "Wilson"
    )
    assert {name for name, s in scores.items() if "interval" in s} == {
        "accuracy",
        "sensitivity",
        "specificity",
        "precision",
        "roc_auc",
    }


def test_large_counts_do_not_overflow():
    labels = np.repeat([1, 0], 150_000)
    probability = np.concatenate(
        [np.full(149_999, 0.9), [0.1], np.full(149_000, 0.2), np.full(1000, 0.8)]
    )
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
    assert undefined == {
        "specificity",
        "balanced_accuracy",
        "mcc",
        "kappa",
        "roc_auc",
        "average_precision",
    }
    assert scores["mcc"]["reason"] == "labels hold positive cases only"
    assert scores["sensitivity"]["value"] == 0.75 and scores["precision"]["value"] == 1


def test_only_negative_cases():
    scores = classification_scores([0, 0], [0.9, 0.1])
    undefined = {name for name, s in scores.items() if s["value"] is None}
    assert undefined == {
        "sensitivity",
        "balanced_accuracy",
        "mcc",
        "kappa",
        "roc_auc",
        "average_precision",
    }
    assert scores["f1"]["value"] == 0 and scores["precision"]["value"] == 0
    assert classification_scores([0, 0], [0.2, 0.1])["f1"]["value"] is None


def test_nothing_called_positive():
    scores = classification_scores([0, 1, 1], [0.1, 0.2, 0.3])
    assert scores["precision"] == {"value": None, "n": 0, "reason": "no case is called positive"}
    assert scores["mcc"]["value"] == scores["kappa"]["value"] == scores["f1"]["value"] == 0
    assert (
        scores["roc_auc"]["value"] == 1
        and scores["roc_auc"]["no_interval"] == "a class with one case"
    )


def test_certain_and_wrong_has_a_finite_log_loss():
    got = values([1, 0], [0.0, 1.0])
    assert got["log_loss"] == pytest.approx(sk.log_loss([1, 0], [0.0, 1.0]), abs=1e-9)
    assert got["brier"] == got["ece"] == 1


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_threshold_table_equals_the_scores_at_each_threshold(cases):
    labels, probability = split(cases)
    table = threshold_table(labels, probability, (0.0, 0.25, 0.5, 1.0))
    for row in table:
        scores = values(labels, probability, row["threshold"])
        for name in ("sensitivity", "specificity", "precision", "f1", "mcc"):
            assert row[name] == scores[name]
        called = probability >= row["threshold"]
        expected = sk.confusion_matrix(labels, called, labels=[0, 1]).ravel()
        assert [row[name] for name in ("tn", "fp", "fn", "tp")] == expected.tolist()


def test_threshold_table_by_default_and_without_cases():
    table = threshold_table([], [])
    assert [row["threshold"] for row in table] == [round(0.05 * i, 2) for i in range(1, 20)]
    assert all(row["tp"] == 0 and row["f1"] is None and row["mcc"] is None for row in table)
    json.dumps(threshold_table([0, 1], [0.2, 0.7]), allow_nan=False)


def cases_of_patients(patients, each, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, patients * each)
    probability = np.clip(0.3 * labels + 0.7 * rng.random(labels.size), 0, 1)
    return labels, probability, [f"p{i // each}" for i in range(labels.size)]


def test_intervals_are_over_patients_where_they_are_known():
    labels, probability, patients = cases_of_patients(6, 5)
    scores = classification_scores(labels, probability, patients=patients)
    methods = {s["interval_method"] for s in scores.values() if "interval" in s}
    # of 6, 4 have healthy cases
    assert scores["roc_auc"]["no_interval"] == "it rests on 4 patients: fewer than 5"
    assert methods == {f"t over 6 patients, jackknife, {scale} scale" for scale in ("log", "logit")}
    plain = classification_scores(labels, probability)
    assert {name: s["value"] for name, s in plain.items()} == {
        name: s["value"] for name, s in scores.items()
    }


def test_intervals_take_images_where_patients_are_unknown_and_say_so():
    labels, probability, patients = cases_of_patients(3, 10)
    scores = classification_scores(labels, probability, patients=[""] * 30)
    assert (
        scores["accuracy"]["interval_method"] == "Wilson, cases as independent (patients unknown)"
    )
    assert scores["brier"]["interval_method"].startswith("t over 30 images (patients unknown)")
    scores = classification_scores(labels, probability, patients=["", *patients[1:]])
    for name in ("accuracy", "brier"):
        assert (
            scores[name]["no_interval"]
            == "4 patients (images where patients are unknown): fewer than 5"
        )


@pytest.mark.parametrize("labels", [[], [1], [1, 1, 1, 1, 1, 1], [0, 1], [0, 0, 0, 0, 0, 1]])
def test_tiny_and_one_class_input_with_patients(labels):
    probability = np.linspace(0.2, 0.8, len(labels))
    scores = classification_scores(
        labels, probability, patients=[f"p{i}" for i in range(len(labels))]
    )
    json.dumps(scores, allow_nan=False)
    assert all(("reason" in s) == (s["value"] is None) for s in scores.values())


def test_one_patient_per_case():
    with pytest.raises(InputError, match="patients: 1 of 2"):
        classification_scores([0, 1], [0.1, 0.2], patients=["a"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), max_size=15),
    st.randoms(use_true_random=False),
)
def test_bounds_order_and_json_for_any_input(cases, random):
    labels, probability = split(cases) if cases else (np.zeros(0), np.zeros(0))
    scores = classification_scores(labels, probability)
    for name, s in scores.items():
        assert (s["value"] is None) == ("reason" in s)
        if s["value"] is not None:
            low, high = s.get(
                "interval", (-1 if name in ("mcc", "kappa") else 0, 37 if name == "log_loss" else 1)
            )
            assert low <= s["value"] <= high
    order = random.sample(range(len(labels)), len(labels))
    assert classification_scores(labels[order], probability[order]) == scores
    json.dumps(scores, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_swapping_the_classes_swaps_the_rates(cases):
    labels, ranks = np.array(cases).T
    probability = (2 * ranks + 1) / 32  # never on the threshold, which belongs to the positive side
    here = values(labels, probability, 0.25)
    there = values(1 - labels, 1 - probability, 0.75)
    assert (
        there["sensitivity"] == here["specificity"] and there["specificity"] == here["sensitivity"]
    )
    for name in ("accuracy", "balanced_accuracy", "mcc", "roc_auc"):
        assert there[name] == pytest.approx(here[name], abs=1e-12)


def test_agrees_with_the_mergeable_counts():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 200)
    probability = rng.random(200).astype(np.float32)
    called = (probability >= 0.5).astype(int)
    parts = [confusion_matrix(labels[i : i + 64], called[i : i + 64], 2) for i in range(0, 200, 64)]
    (tn, fp), (fn, tp) = np.sum([np.sum(part, axis=0) for part in parts], axis=0)
    got = values(labels, probability)
    assert got["accuracy"] == (tp + tn) / 200
    assert got["sensitivity"] == tp / (tp + fn) and got["precision"] == tp / (tp + fp)


@pytest.mark.parametrize(
    ("labels", "probability", "message"),
    [
        ([0, 1], [0.5, 1.5], "log_odds="),
        ([0, 1], [-0.5, 0.5], "1 of 2 are outside"),
        ([0, 1], [np.nan, 0.5], "NaN"),
        ([0, 2], [0.5, 0.5], "not 0 or 1"),
        ([0], [0.5, 0.5], "one length"),
    ],
)
def test_bad_input_is_named(labels, probability, message):
    with pytest.raises(InputError, match=message):
        classification_scores(labels, probability)
