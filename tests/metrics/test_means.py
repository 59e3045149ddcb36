import numpy as np
import pytest

from covjax.metrics import bootstrap, classification_scores, mean_of, wilson
from covjax.metrics.means import mean_score, share_score

pytestmark = pytest.mark.filterwarnings("error")

PATIENTS = [f"p{i // 4}" for i in range(24)]


def test_mean_has_the_interval_of_the_bootstrap():
    values = np.random.default_rng(0).random(24)
    found, expected = mean_score(values, PATIENTS, "none"), bootstrap(mean_of(values), PATIENTS)
    assert found["value"] == pytest.approx(values.mean()) and found["n"] == 24
    assert found["interval"] == [expected.low, expected.high] and found["interval_method"] == expected.method


def test_share_resamples_patients_where_they_are_enough():
    hits = np.arange(24) % 3 == 0
    assert share_score(hits, PATIENTS, "none")["interval_method"] == "percentile bootstrap over 6 patients"
    few = share_score(hits, [""] * 24, "none")
    assert few["interval"] == list(wilson(8, 24)) and few["interval_method"] == "Wilson"
    assert share_score(hits | True, PATIENTS, "none")["interval"] == list(wilson(24, 24))  # resamples cannot differ


def test_few_and_none():
    assert mean_score(np.array([1.0, 2.0]), ["", ""], "none") == {"value": 1.5, "n": 2}
    assert mean_score(np.zeros(0), [], "no slice") == share_score(np.zeros(0), [], "no slice")
    assert share_score(np.zeros(0), [], "no slice") == {"value": None, "n": 0, "reason": "no slice"}


def test_calls_in_place_of_a_threshold():
    labels, probability = np.array([0, 1, 1, 0]), np.array([0.6, 0.4, 0.9, 0.1])
    called = np.array([False, True, True, False])  # as two folds with thresholds of their own would
    scores = classification_scores(labels, probability, called=called)
    assert scores["accuracy"]["value"] == 1 and scores["roc_auc"]["value"] == 0.75
    assert classification_scores(labels, probability, 0.5) == classification_scores(
        labels, probability, called=probability >= 0.5
    )
