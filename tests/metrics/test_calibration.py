import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn import metrics as sk

from covjax.errors import InputError
from covjax.metrics import choose_threshold, classification_scores, fit_temperature
from covjax.metrics.calibration import check_rule

pytestmark = pytest.mark.filterwarnings("error")

CASES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=2, max_size=40).filter(
    lambda cases: len({label for label, _ in cases}) == 2
)


def test_temperature_recovers_the_one_that_was_applied():
    rng = np.random.default_rng(0)
    log_odds = 2 * rng.standard_normal(20_000)
    labels = (rng.random(20_000) < special.expit(log_odds)).astype(int)
    for temperature in (0.25, 1, 4):
        assert fit_temperature(labels, temperature * log_odds) == pytest.approx(temperature, rel=0.05)


def test_temperature_has_the_least_log_loss():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 50)
    log_odds = 5 * (labels - 0.5) + 6 * rng.standard_normal(50)
    fitted = fit_temperature(labels, log_odds)
    grid = np.geomspace(0.05, 20, 400)
    losses = [sk.log_loss(labels, special.expit(log_odds / t)) for t in grid]
    assert sk.log_loss(labels, special.expit(log_odds / fitted)) <= min(losses) + 1e-9
    before, after = (classification_scores(labels, special.expit(log_odds / t)) for t in (1, fitted))
    assert after["log_loss"]["value"] <= before["log_loss"]["value"]
    assert after["roc_auc"]["value"] == before["roc_auc"]["value"]


def test_temperature_stays_within_bounds():
    assert fit_temperature([0, 1], [-1, 1]) == pytest.approx(0.05, rel=1e-3)  # perfect: never sure enough
    assert fit_temperature([1, 0], [-9, 9]) == pytest.approx(20, rel=1e-3)  # wrong: never unsure enough


@settings(max_examples=30, deadline=None)
@given(CASES)
def test_no_threshold_does_better(cases):
    labels, ranks = np.array(cases).T
    probability = ranks / 20
    candidates = {}
    for threshold in [*np.unique(probability), 1.1]:
        called = probability >= threshold
        recall = sk.recall_score(labels, called), sk.recall_score(labels, called, pos_label=0)
        candidates[threshold] = {
            "youden": sum(recall),
            "f1": sk.f1_score(labels, called),
            "mcc": sk.matthews_corrcoef(labels, called),
            "sensitivity": recall[0],
            "specificity": recall[1],
        }
    for rule in ("youden", "f1", "mcc"):
        threshold = choose_threshold(labels, probability, rule)
        got = classification_scores(labels, probability, threshold)
        value = got[rule]["value"] if rule != "youden" else 2 * got["balanced_accuracy"]["value"]
        possible = [c[rule] for t, c in candidates.items() if t <= 1]
        assert value == pytest.approx(max(possible), abs=1e-9)
    sensitivity = choose_threshold(labels, probability, "sensitivity:0.8")
    assert 0 <= sensitivity <= 1
    got = classification_scores(labels, probability, sensitivity)
    assert got["sensitivity"]["value"] >= 0.8
    fitting = [c["specificity"] for t, c in candidates.items() if t <= 1 and c["sensitivity"] >= 0.8]
    assert got["specificity"]["value"] == pytest.approx(max(fitting), abs=1e-12)
    specificity = choose_threshold(labels, probability, "specificity:0.8")
    called = probability >= specificity
    fitting = [c["sensitivity"] for c in candidates.values() if c["specificity"] >= 0.8]
    if probability.max() < 1:  # a healthy slice at 1 is called by every threshold up to 1
        assert sk.recall_score(labels, called, pos_label=0) >= 0.8
        assert sk.recall_score(labels, called) == pytest.approx(max(fitting), abs=1e-12)


def test_threshold_lies_halfway():
    labels, probability = [0, 0, 1, 1], [0.1, 0.3, 0.5, 0.9]
    assert choose_threshold(labels, probability, "mcc") == pytest.approx(0.4)
    assert choose_threshold(labels, probability, "sensitivity:0.5") == pytest.approx(0.7)
    assert choose_threshold(labels, probability, "specificity:0.5") == pytest.approx(0.2)
    assert choose_threshold([1, 0], [0.4, 0.9], "specificity:1") == pytest.approx(0.95)


@pytest.mark.parametrize("rule", ["fixed", "youden", "f1", "mcc", "sensitivity:0.95", "specificity:1"])
def test_rules_that_there_are(rule):
    check_rule("classifier.threshold_rule", rule)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("yuden", "youden"),
        ("sensitivity", "needs a level"),
        ("sensitivity:2", "needs a level"),
        ("specificity:nan", "needs a level"),
        ("specificity:x", "needs a level"),
        ("f1:0.5", "takes no level"),
    ],
)
def test_rules_that_there_are_not(rule, message):
    with pytest.raises(InputError, match=message):
        check_rule("classifier.threshold_rule", rule)


@pytest.mark.parametrize("labels", [[], [1, 1], [0, 0]])
def test_both_classes_are_needed(labels):
    with pytest.raises(InputError, match="fewer than two classes"):
        fit_temperature(labels, np.zeros(len(labels)))
    with pytest.raises(InputError, match="fewer than two classes"):
        choose_threshold(labels, np.zeros(len(labels)), "mcc")
