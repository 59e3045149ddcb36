import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from covjax.errors import InputError
from covjax.metrics import delong, delong_test, hanley_mcneil

pytestmark = pytest.mark.filterwarnings("error")


def placements(labels, probability):
    """DeLong's structural components by all pairs."""
    positive = probability[labels == 1, None]
    negative = probability[None, labels == 0]
    wins = (positive > negative) + 0.5 * (positive == negative)
    return wins.mean(1), wins.mean(0)


def covariance(labels, first, second):
    pairs = zip(placements(labels, first), placements(labels, second), strict=True)
    return sum(np.cov(a, b)[0, 1] / a.size for a, b in pairs)


def draw(seed, n, shift=1.0, correlation=0.6):
    rng = np.random.default_rng(seed)
    labels = np.repeat([1, 0], n)
    noise = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], 2 * n).T
    return labels, *(noise + shift * labels)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=30
    ).filter(lambda cases: 2 <= sum(c[0] for c in cases) <= len(cases) - 2)
)
def test_equals_all_pairs_with_ties(cases):
    labels, first, second = np.array(cases).T
    areas = [sk.roc_auc_score(labels, p) for p in (first, second)]
    error = np.sqrt(max(0, covariance(labels, first, first)))
    expected = np.clip([areas[0] - 1.96 * error, areas[0] + 1.96 * error], 0, 1)
    assert delong(labels, first) == pytest.approx(tuple(expected), abs=1e-9)
    test = delong_test(labels, first, second)
    assert test["value"] == pytest.approx(areas[0] - areas[1], abs=1e-9)
    spread = covariance(labels, first, first) + covariance(labels, second, second)
    spread = np.sqrt(max(0, spread - 2 * covariance(labels, first, second)))
    half = (test["interval"][1] - test["interval"][0]) / 2
    assert half == pytest.approx(1.96 * spread, abs=1e-6)
    swapped = delong_test(labels, second, first)
    assert swapped["value"] == pytest.approx(-test["value"], abs=1e-12)
    assert swapped["p_value"] == (
        None if test["p_value"] is None else pytest.approx(test["p_value"], abs=1e-9)
    )


def test_hand_computed_case():
    # Positives 4, 3, 1; negatives 2, 0: shares won 1, 1, 1/2 and 2/3, 1.
    labels = np.array([1, 1, 1, 0, 0])
    probability = np.array([4, 3, 1, 2, 0])
    variance = np.var([1, 1, 0.5], ddof=1) / 3 + np.var([2 / 3, 1], ddof=1) / 2
    assert delong(labels, probability) == pytest.approx((5 / 6 - 1.96 * np.sqrt(variance), 1))


def test_identical_and_perfect():
    labels, first, _ = draw(0, 20)
    assert delong_test(labels, first, 2 * first + 1)["p_value"] is None
    assert delong(labels, labels) == (1, 1)


def test_coverage_of_delong_and_hanley_mcneil():
    inside = {"delong": 0, "hanley_mcneil": 0}
    draws = 400
    for seed in range(draws):
        labels, probability, _ = draw(seed, 40)
        area = sk.roc_auc_score(labels, probability)
        for name, (low, high) in {
            "delong": delong(labels, probability),
            "hanley_mcneil": hanley_mcneil(area, 40, 40),
        }.items():
            inside[name] += low <= 0.7602 <= high  # normal distribution at 1 / sqrt(2)
    for name, count in inside.items():
        assert 0.92 <= count / draws <= 0.975, name


def test_false_alarms_of_the_test_and_its_power():
    rejected = np.mean([delong_test(*draw(seed, 40))["p_value"] < 0.05 for seed in range(400)])
    assert 0.025 <= rejected <= 0.08
    labels, first, _ = draw(0, 200)
    assert delong_test(labels, first, np.random.default_rng(0).random(400))["p_value"] < 1e-4


@pytest.mark.parametrize("labels", [[1, 0, 0], [1, 1, 0], [0, 0, 0]])
def test_too_few_cases(labels):
    with pytest.raises(InputError, match="at least 2 of each"):
        delong(labels, [0.1, 0.2, 0.3])
