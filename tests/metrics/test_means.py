import numpy as np
import pytest

from covjax.metrics import classification_scores, wilson
from covjax.metrics.means import mean_score, share_score

pytestmark = pytest.mark.filterwarnings("error")

PATIENTS = [f"p{i // 4}" for i in range(24)]


def test_share_resamples_patients_where_they_are_known():
    hits = np.arange(24) % 3 == 0
    assert (
        share_score(hits, PATIENTS, "none")["interval_method"]
        == "t over 6 patients, jackknife, logit scale"
    )
    few = share_score(hits, [""] * 24, "none")
    assert few["interval"] == list(wilson(8, 24)) and few["interval_method"].startswith(
        "Wilson, cases"
    )
    assert share_score(hits | True, PATIENTS, "none")["interval"] == list(wilson(6, 6))


def test_few_and_none():
    assert mean_score(np.array([1.0, 2.0]), ["", ""], "none")["value"] == 1.5
    assert mean_score(np.zeros(0), [], "no slice") == share_score(np.zeros(0), [], "no slice")
    assert share_score(np.zeros(0), [], "no slice") == {"value": None, "n": 0, "reason": "no slice"}


def test_calls_in_place_of_a_threshold():
    labels = np.array([0, 1, 1, 0])
    probability = np.array([0.6, 0.4, 0.9, 0.1])
    called = np.array([False, True, True, False])  # as two folds with thresholds of their own would
    scores = classification_scores(labels, probability, called=called)
    assert scores["accuracy"]["value"] == 1 and scores["roc_auc"]["value"] == 0.75
    assert classification_scores(labels, probability, 0.5) == classification_scores(
        labels, probability, called=probability >= 0.5
    )
