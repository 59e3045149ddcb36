"""Intervals by t: against formulas, their coverage, and why there is none."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, logit

from covjax.metrics import classification_scores, mean_of, segmentation_scores, wilson
from covjax.metrics.jackknife import t_intervals
from covjax.metrics.means import mean_score, share_score
from tests.benchmarks.coverage import classification, coverage, segmentation

pytestmark = pytest.mark.filterwarnings("error")


def of_mean(values, patients, scale):
    return t_intervals(mean_of(values[:, None]), patients, np.ones((values.size, 1)), [scale])[0]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 40))
def test_of_a_mean_is_the_t_interval(seed, n):
    values = np.random.default_rng(seed).normal(size=n)
    want = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    found = of_mean(values, [f"p{i}" for i in range(n)], "difference")
    assert (
        found.interval == pytest.approx(want)
        and found.method == f"t over {n} patients, jackknife, its own scale"
    )
    assert of_mean(values, [""] * n, "difference").interval == pytest.approx(want)


def test_on_the_logit_scale_by_hand_with_patients_that_count_unlike():
    values = np.array([0.5, 0.9, 0.8, 0.7, 0.6, 0.95])
    sizes = np.array([1, 2, 3, 4, 5, 20])
    patients = np.repeat(list("abcdef"), sizes)
    each = np.repeat(values, sizes)
    without = np.array([each[patients != p].mean() for p in "abcdef"])
    error = np.sqrt(5 / 6 * np.sum((without - each.mean()) ** 2))
    freedom = sizes.sum() ** 2 / np.sum(sizes**2) - 1
    half = stats.t.ppf(0.975, max(freedom, 1)) * error / (each.mean() * (1 - each.mean()))
    want = expit(logit(each.mean()) + np.array([-half, half]))
    assert of_mean(each, list(patients), "share").interval == pytest.approx(tuple(want))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 6), st.booleans())
def test_every_score_has_an_interval_around_it_or_says_why_not(seed, patients, each, known):
    rng = np.random.default_rng(seed)
    owner = [f"p{i // each}" if known else "" for i in range(patients * each)]
    label = rng.integers(0, 2, len(owner))
    odds = 5 * rng.standard_normal(len(owner)) // 3
    confusions = rng.integers(0, 3, (len(owner), 2, 2)) * rng.integers(0, 2, (len(owner), 1, 1))
    scores = classification_scores(label, log_odds=odds, patients=owner)
    scores |= segmentation_scores(confusions, ("background", "infected"), owner)
    for name, score in scores.items():
        assert ("reason" in score) + ("interval" in score) + ("no_interval" in score) == 1, (
            name,
            score,
        )
        if "interval" in score:
            low, high = score["interval"]
            assert low < high and low - 1e-9 <= score["value"] <= high + 1e-9, (name, score)
            units = patients if known else len(owner)
            assert units >= 5 or score["interval_method"].startswith("Wilson, cases as independent")
            assert not known or "independent" not in score["interval_method"]
    json.dumps(scores, allow_nan=False)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 9), st.integers(2, 8), st.integers(1, 5))
def test_one_unknown_patient_does_not_set_the_slices_of_the_others_apart(
    seed, patients, each, unknown
):
    rng = np.random.default_rng(seed)
    values = np.append(np.repeat(rng.normal(size=patients), each), rng.normal(size=unknown))
    owner = [f"p{i // each}" for i in range(patients * each)]
    found = of_mean(values, owner + [""] * unknown, "difference")
    assert found.interval == pytest.approx(
        of_mean(values, owner + [f"q{i}" for i in range(unknown)], "difference")[0]
    )
    assert found.method.startswith(
        f"t over {patients + unknown} patients (images where patients are unknown)"
    )


def test_no_interval_where_nothing_varies():
    """An area of 1 from 5 slices had the interval 1 to 1, beside a sensitivity of 1 (.438 to 1)."""
    label = np.array([0, 0, 1, 1, 1])
    odds = np.array([-3.0, -2, 1, 2, 3])
    for patients in ([""] * 5, None):
        scores = classification_scores(label, log_odds=odds, patients=patients)
        assert scores["roc_auc"]["value"] == 1 and "interval" not in scores["roc_auc"]
        assert scores["roc_auc"]["no_interval"]
        assert scores["sensitivity"]["interval"] == list(wilson(3, 3))
    many = classification_scores(
        np.tile(label, 4), log_odds=np.tile(odds, 4), patients=[f"p{i // 2}" for i in range(20)]
    )
    assert many["roc_auc"]["no_interval"] == "the same without any of the 10 patients"
    # All patients agree: each says as much as one case.
    assert many["accuracy"]["interval"] == list(wilson(10, 10))
    assert many["accuracy"]["interval_method"] == "Wilson, every patient counted once"


def test_fewer_than_five_patients_have_no_interval_by_slices():
    """By slices it was narrower with 4 patients than with 5."""
    rng = np.random.default_rng(0)
    values = rng.random(40)
    for patients, each in ((4, 10), (1, 40)):
        found = mean_score(values, [f"p{i // each}" for i in range(40)], "none")
        assert found["no_interval"] == f"{patients} patient{'s' * (patients > 1)}: fewer than 5"
        assert share_score(values > 0.5, [f"p{i // each}" for i in range(40)], "none")[
            "no_interval"
        ]
    assert "interval" in mean_score(values, [f"p{i // 8}" for i in range(40)], "none")
    few = [f"p{i // 8}" for i in range(40)]
    confusions = rng.integers(1, 9, (40, 2, 2))
    confusions[16:] = [[9, 0], [0, 0]]  # only two of five patients have anything to segment
    found = segmentation_scores(confusions, ("background", "infected"), few)
    assert found["dice_infected"]["no_interval"] == "it rests on 2 patients: fewer than 5"
    assert "interval" in found["accuracy_background"]


def test_many_images_are_left_out_in_blocks():
    values = np.random.default_rng(1).random(5000)
    low, high = of_mean(values, [""] * 5000, "share").interval
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(5000), rel=0.1)


def test_the_calibration_error_stands_beside_what_chance_gives():
    """Its percentile interval did not hold its own estimate."""
    rng = np.random.default_rng(3)
    inside = 0
    means = []
    found = []
    for _ in range(60):
        odds = 2 * rng.standard_normal(40)
        labels = (rng.random(40) < expit(odds)).astype(int)
        score = classification_scores(
            labels, log_odds=odds, patients=[f"p{i // 4}" for i in range(40)]
        )["ece"]
        assert "interval" not in score and score["no_interval"]
        inside += score["value"] <= score["by_chance_high"]
        means.append(score["by_chance"])
        found.append(score["value"])
    assert inside >= 54  # of 60 calibrated classifiers, 97.5 % expected
    assert np.mean(found) == pytest.approx(np.mean(means), rel=0.15)
    worse = classification_scores(
        (expit(odds) < 0.5).astype(int), log_odds=odds, patients=[""] * 40
    )["ece"]
    assert worse["value"] > worse["by_chance_high"]


@pytest.mark.parametrize("patients", [5, 8, 20])
def test_coverage(patients):
    """Of 150 intervals 95 % would be outside 0.895 to 0.998 in one of 500 trials; see
    tests.benchmarks.coverage.
    """
    for name, (held, none) in coverage(patients, 150, ("segmentation",)).items():
        assert held >= 0.895 and none == 0, (name, held, none)


def test_coverage_of_classification():
    for name, (held, none) in coverage(12, 100, ("classification",)).items():
        assert held >= 0.88 and none < 0.2, (name, held, none)


def test_simulated_patients_are_those_described():
    rng = np.random.default_rng(0)
    confusion, owner = segmentation(rng, 400)
    dice = 2 * confusion[:, 1, 1] / (confusion[:, 1].sum(1) + confusion[:, :, 1].sum(1))
    assert dice.mean() == pytest.approx(0.75, abs=0.03) and len(set(owner)) == 400
    label, _, _ = classification(rng, 400)
    assert label.mean() == pytest.approx(0.5, abs=0.05)
