import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from covjax.errors import InputError
from covjax.metrics import precision_recall_curve, roc_curve

CASES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=2, max_size=40).filter(
    lambda cases: len({label for label, _ in cases}) == 2
)


def split(cases, levels=8):
    labels, ranks = np.array(cases).T
    return labels, ranks / levels


def step_area(curve):
    return float(np.sum(np.diff(curve["recall"]) * np.array(curve["precision"])[1:]))


@settings(max_examples=150, deadline=None)
@given(CASES)
def test_roc_points_lie_on_scikit_learns_curve_and_keep_its_area(cases):
    labels, probability = split(cases)
    curve = roc_curve(labels, probability)
    fpr, tpr, thresholds = sk.roc_curve(labels, probability, drop_intermediate=False)
    at = {t: i for i, t in enumerate(thresholds)} | {None: 0}
    kept = [at[t] for t in curve["threshold"]]
    assert kept[0] == 0 and kept[-1] == len(thresholds) - 1 and kept == sorted(set(kept))
    np.testing.assert_allclose(curve["false_positive_rate"], fpr[kept], atol=1e-12)
    np.testing.assert_allclose(curve["true_positive_rate"], tpr[kept], atol=1e-12)
    area = np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"])
    assert area == pytest.approx(sk.roc_auc_score(labels, probability), abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(CASES)
def test_roc_has_no_three_collinear_neighbours(cases):
    labels, probability = split(cases)
    curve = roc_curve(labels, probability)
    x = np.rint(np.array(curve["false_positive_rate"]) * np.sum(labels == 0)).astype(int)
    y = np.rint(np.array(curve["true_positive_rate"]) * np.sum(labels == 1)).astype(int)
    cross = np.diff(x)[:-1] * np.diff(y)[1:] - np.diff(x)[1:] * np.diff(y)[:-1]
    assert (cross != 0).all()


@settings(max_examples=150, deadline=None)
@given(CASES)
def test_precision_recall_points_and_area_are_scikit_learns(cases):
    labels, probability = split(cases)
    curve = precision_recall_curve(labels, probability)
    precision, recall, thresholds = sk.precision_recall_curve(
        labels, probability, drop_intermediate=False
    )
    at = {t: i for i, t in enumerate(thresholds)} | {None: len(thresholds)}
    kept = [at[t] for t in curve["threshold"]]
    assert kept[0] == len(thresholds) and kept[-1] == 0 and kept == sorted(set(kept), reverse=True)
    np.testing.assert_allclose(curve["precision"], precision[kept], atol=1e-12)
    np.testing.assert_allclose(curve["recall"], recall[kept], atol=1e-12)
    assert step_area(curve) == pytest.approx(
        sk.average_precision_score(labels, probability), abs=1e-9
    )
    trapezoid = np.trapezoid(curve["precision"], curve["recall"])
    assert trapezoid == pytest.approx(np.trapezoid(precision[::-1], recall[::-1]), abs=1e-9)


def test_hand_computed_curves_with_a_tie():
    labels = [1, 1, 0, 1, 0, 0]
    probability = [0.9, 0.8, 0.7, 0.7, 0.2, 0.1]
    assert roc_curve(labels, probability) == {
        "false_positive_rate": [0.0, 0.0, 1 / 3, 1.0],
        "true_positive_rate": [0.0, 2 / 3, 1.0, 1.0],
        "threshold": [None, 0.8, 0.7, 0.1],
    }
    assert precision_recall_curve(labels, probability) == {
        "recall": [0.0, 2 / 3, 1.0, 1.0],
        "precision": [1.0, 1.0, 0.75, 0.5],
        "threshold": [None, 0.8, 0.7, 0.1],
    }


def test_perfect_ranking_of_many_cases_stays_small():
    labels = np.repeat([0, 1], 1000)
    probability = np.linspace(0, 1, 2000)
    assert roc_curve(labels, probability)["threshold"] == [None, probability[1000], 0.0]
    assert len(precision_recall_curve(labels, probability)["recall"]) == 3


@pytest.mark.parametrize("curve", [roc_curve, precision_recall_curve])
def test_curves_go_to_json_and_are_empty_for_one_class(curve):
    json.dumps(curve([0, 1, 1], np.array([0.1, 0.1, 0.9], np.float32)), allow_nan=False)
    for labels in ([], [1, 1], [0]):
        assert set(map(tuple, curve(labels, [0.5] * len(labels)).values())) == {()}


@settings(max_examples=50, deadline=None)
@given(CASES, st.randoms(use_true_random=False))
def test_order_and_monotone_maps_do_not_matter(cases, random):
    labels, probability = split(cases)
    order = random.sample(range(len(labels)), len(labels))
    for curve in (roc_curve, precision_recall_curve):
        plain = curve(labels, probability)
        assert curve(labels[order], probability[order]) == plain
        mapped = curve(labels, 8 * probability - 4)
        assert {k: v for k, v in mapped.items() if k != "threshold"} == {
            k: v for k, v in plain.items() if k != "threshold"
        }


def test_extreme_scores_give_no_warning(recwarn):
    assert roc_curve([0, 1], [-1.7e308, 1.7e308])["threshold"] == [None, 1.7e308, -1.7e308]
    assert not recwarn.list


@pytest.mark.parametrize("curve", [roc_curve, precision_recall_curve])
@pytest.mark.parametrize(
    ("labels", "probability", "message"),
    [
        ([0, 1], [0.5], "one length"),
        ([[0, 1]], [[0.5, 0.5]], "one length"),
        ([0, 255], [0.5, 0.5], "1 of 2 are not 0 or 1"),
        ([0, 1], [0.5, np.nan], "1 of 2 are NaN"),
    ],
)
def test_bad_input_is_named(curve, labels, probability, message):
    with pytest.raises(InputError, match=message):
        curve(labels, probability)
