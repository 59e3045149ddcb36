"""The temperature: fitted where the cases say something of it, drawn to 1 by its prior where they
say little.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn import metrics as sk

from covjax.errors import InputError
from covjax.metrics import classification_scores, fit_temperature
from covjax.metrics.calibration import PRIOR, separable

pytestmark = pytest.mark.filterwarnings("error")


def test_temperature_recovers_the_one_that_was_applied():
    rng = np.random.default_rng(0)
    log_odds = 2 * rng.standard_normal(20_000)
    labels = (rng.random(20_000) < special.expit(log_odds)).astype(int)
    for temperature in (0.25, 1, 4):
        assert fit_temperature(labels, temperature * log_odds) == pytest.approx(
            temperature, rel=0.05
        )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60), st.floats(-5, 8), st.floats(0.01, 30))
def test_temperature_has_the_least_penalised_log_loss(seed, n, shift, spread):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    log_odds = shift * (labels - 0.5) + spread * rng.standard_normal(n)
    fitted = fit_temperature(labels, log_odds)
    if separable(labels, log_odds):
        assert fitted == 1
        return

    def cost(t):
        loss = np.logaddexp(0, -np.where(labels == 1, log_odds, -log_odds) / t).sum()
        return loss + 0.5 * (np.log(t) / PRIOR) ** 2

    assert cost(fitted) <= min(map(cost, np.geomspace(1e-3, 1e3, 600))) + 1e-6
    before, after = (classification_scores(labels, log_odds=log_odds / t) for t in (1, fitted))
    assert after["log_loss"]["value"] <= before["log_loss"]["value"] + 1e-12
    assert after["roc_auc"]["value"] == before["roc_auc"]["value"]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 40), st.floats(0.5, 4))
def test_cases_without_a_mistake_make_no_later_mistake_dear(seed, n, distance):
    """Fitted without a prior, T is the lower bound of its search: log loss of other cases goes from
    .53 to 5.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    log_odds = (2 * labels - 1) * distance * rng.uniform(0.2, 1, n)
    assert separable(labels, log_odds) and fit_temperature(labels, log_odds) == 1
    # The same with one mistake; of others as sure as these, an eighth is called wrong.
    log_odds[0] *= -1
    fitted = fit_temperature(labels, log_odds)
    sure = distance * rng.uniform(0.2, 1, 400) * np.where(np.arange(400) % 8, 1, -1)
    plain, after = (np.logaddexp(0, -sure / t).mean() for t in (1, fitted))
    assert not separable(labels, log_odds) and after < plain + 0.5


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.floats(-60, 60, width=32)), min_size=2, max_size=40
    ).filter(lambda cases: len({label for label, _ in cases}) == 2),
    st.floats(0.02, 50),
)
def test_ranks_know_neither_the_name_of_a_class_nor_a_temperature(cases, temperature):
    """From float32 probabilities 1 ties what 0 keeps apart: .808 or .835 by which class is called
    1.
    """
    labels = np.array([c[0] for c in cases])
    log_odds = np.array([c[1] for c in cases], np.float32)
    log_odds = log_odds.astype(np.float64)
    here = classification_scores(labels, log_odds=log_odds)
    mirrored = classification_scores(1 - labels, log_odds=-log_odds)
    warm = classification_scores(labels, log_odds=log_odds / temperature)
    expected = sk.roc_auc_score(labels, log_odds)
    for scores in (here, mirrored, warm):
        assert scores["roc_auc"]["value"] == pytest.approx(expected, abs=1e-12)
    assert here["roc_auc"]["value"] == warm["roc_auc"]["value"]
    assert here["log_loss"]["value"] == pytest.approx(mirrored["log_loss"]["value"], rel=1e-12)
    toward = np.where(labels == 1, log_odds, -log_odds)
    assert here["log_loss"]["value"] == pytest.approx(np.logaddexp(0, -toward).mean(), rel=1e-12)


def test_probabilities_and_log_odds_give_the_same_scores_where_nothing_is_rounded():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 80)
    log_odds = 3 * rng.standard_normal(80)
    by_odds = classification_scores(labels, log_odds=log_odds)
    by_probability = classification_scores(labels, special.expit(log_odds))
    for name, score in by_odds.items():
        assert score["value"] == pytest.approx(by_probability[name]["value"], abs=1e-12), name
    for wrong in ({}, {"probability": log_odds, "log_odds": log_odds}):
        with pytest.raises(InputError, match="either probability or log_odds"):
            classification_scores(labels, **wrong)
    with pytest.raises(InputError, match="log_odds: 1 of 80 are NaN or infinite"):
        classification_scores(labels, log_odds=np.append(log_odds[1:], np.inf))


@pytest.mark.parametrize("labels", [[], [1, 1], [0, 0]])
def test_both_classes_are_needed(labels):
    with pytest.raises(InputError, match="fewer than two classes"):
        fit_temperature(labels, np.zeros(len(labels)))
