"""Every chosen threshold fulfils its rule on its own cases as a stage calls them, and is stored as
it is.
"""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn import metrics as sk

from covjax.errors import InputError
from covjax.metrics import choose_threshold
from covjax.metrics.thresholds import check_rule, threshold_from_json, threshold_to_json
from covjax.stages.settings import ClassifierSettings
from covjax.stages.stage import Calibration, Stage

pytestmark = pytest.mark.filterwarnings("error")

FEW = st.lists(st.tuples(st.integers(0, 1), st.integers(-10, 10)), min_size=2, max_size=40)
# As a network gives them: float32, and many so large that their probability is 1.
WIDE = st.lists(
    st.tuples(st.integers(0, 1), st.floats(-120, 120, width=32)), min_size=2, max_size=40
)


def both(cases):
    return len({label for label, _ in cases}) == 2


def stage(temperature=1.0, threshold=None, configured=0.5):
    config = ClassifierSettings(threshold=configured)
    return Stage("classifier", config, None, None, None, Calibration(temperature, threshold))


def rates(labels, called):
    return sk.recall_score(labels, called), sk.recall_score(labels, called, pos_label=0)


def values(labels, called):
    recall = rates(labels, called)
    return {
        "youden": sum(recall),
        "f1": sk.f1_score(labels, called),
        "mcc": sk.matthews_corrcoef(labels, called),
        "sensitivity": recall[0],
        "specificity": recall[1],
    }


@settings(max_examples=40, deadline=None)
@given(FEW.filter(both))
def test_no_threshold_does_better(cases):
    labels, log_odds = np.array(cases).T
    candidates = [values(labels, log_odds >= t) for t in [*np.unique(log_odds), np.inf]]
    for rule in ("youden", "f1", "mcc"):
        got = values(labels, log_odds >= choose_threshold(labels, log_odds=log_odds, rule=rule))
        assert got[rule] == pytest.approx(max(c[rule] for c in candidates[:-1]), abs=1e-9)
    for rule, other in (("sensitivity", "specificity"), ("specificity", "sensitivity")):
        got = values(
            labels, log_odds >= choose_threshold(labels, log_odds=log_odds, rule=f"{rule}:0.8")
        )
        assert got[rule] >= 0.8
        assert got[other] == pytest.approx(
            max(c[other] for c in candidates if c[rule] >= 0.8), abs=1e-12
        )


@settings(max_examples=80, deadline=None)
@given(
    WIDE.filter(both),
    st.floats(0.05, 20),
    st.floats(0.01, 1),
    st.sampled_from(["sensitivity", "specificity"]),
)
def test_rules_hold_in_use(cases, temperature, level, rule):
    """Fitted in float64 and applied to float32 probabilities, specificity:0.95 gave .82, at the
    probability 1 .70.
    """
    labels = np.array([c[0] for c in cases])
    log_odds = np.array([c[1] for c in cases], np.float32)
    calibrated = stage(temperature).calibrated(log_odds)
    threshold = choose_threshold(labels, log_odds=calibrated, rule=f"{rule}:{level}")
    stored = json.loads(json.dumps(threshold_to_json(threshold), allow_nan=False))
    in_use = stage(temperature, threshold_from_json(stored))
    called = in_use.calls(in_use.calibrated(log_odds))
    assert values(labels, called)[rule] >= level
    best = choose_threshold(labels, log_odds=calibrated, rule="youden")
    found = stage(temperature, threshold_from_json(threshold_to_json(best)))
    want = max(sum(rates(labels, calibrated >= t)) for t in np.unique(calibrated))
    assert sum(rates(labels, found.calls(found.calibrated(log_odds)))) == pytest.approx(
        want, abs=1e-12
    )


def test_threshold_lies_halfway():
    labels = [0, 0, 1, 1]
    log_odds = [-3, -1, 0, 2]
    assert choose_threshold(labels, log_odds=log_odds, rule="mcc") == -0.5
    assert choose_threshold(labels, log_odds=log_odds, rule="sensitivity:0.5") == 1
    assert choose_threshold(labels, log_odds=log_odds, rule="specificity:0.5") == -2
    lowest = choose_threshold(
        [1, 0], log_odds=[0.4, 0.9], rule="sensitivity:1"
    )  # half the probability of the lowest case
    assert special.expit(lowest) == pytest.approx(special.expit(0.4) / 2)
    close = [1.0, np.nextafter(1.0, 2)]
    assert choose_threshold([0, 1], log_odds=close, rule="mcc") == close[1]


def test_calling_nobody_can_be_stored():
    threshold = choose_threshold([1, 0], log_odds=[0.4, 0.9], rule="specificity:1")
    assert threshold == np.inf
    stored = threshold_to_json(threshold)
    assert stored == {"threshold": 1.0, "threshold_log_odds": "inf"}
    assert threshold_from_json(json.loads(json.dumps(stored, allow_nan=False))) == np.inf
    assert not stage(1.0, np.inf).calls([1e300, 88]).any()
    assert threshold_to_json(np.nan) == {"threshold": None, "threshold_log_odds": None}


@settings(max_examples=50, deadline=None)
@given(st.floats(-1e3, 1e3))
def test_stored_as_it_is(threshold):
    assert threshold_from_json(json.loads(json.dumps(threshold_to_json(threshold)))) == threshold


def test_configured_thresholds_are_probabilities():
    assert stage().threshold == 0 and stage(configured=0.9).threshold == pytest.approx(
        special.logit(0.9)
    )


@pytest.mark.parametrize(
    "rule", ["fixed", "youden", "f1", "mcc", "sensitivity:0.95", "specificity:1"]
)
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
        choose_threshold(labels, log_odds=np.zeros(len(labels)), rule="mcc")
