import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covjax.errors import InputError
from covjax.metrics import hanley_mcneil, score, wilson


def test_hanley_mcneil_published_case():
    low, high = hanley_mcneil(0.67, 74, 92)
    assert (round(low, 3), round(high, 3)) == (0.587, 0.753)


def test_hanley_mcneil_equals_the_variance_of_the_exponential_model():
    # Hanley and McNeil take scores as exponential: a case and a healthy score with rates a and b
    # give AUC = b / (a + b); simulated, the spread of the empirical area is their standard error.
    rng = np.random.default_rng(0)
    auc = 0.8
    n_positive = 30
    n_negative = 40
    positive = rng.exponential(auc, (3000, n_positive, 1))
    negative = rng.exponential(1 - auc, (3000, 1, n_negative))
    areas = (positive > negative).mean((1, 2))
    low, high = hanley_mcneil(auc, n_positive, n_negative)
    assert areas.mean() == pytest.approx(auc, abs=0.005)
    assert areas.std() == pytest.approx((high - low) / (2 * 1.96), rel=0.05)


def test_wilson_published_cases():
    # Newcombe, Statistics in Medicine 17 (1998), Table I, method 3.
    for (successes, n), expected in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert wilson(successes, n) == pytest.approx(expected, abs=6e-5)


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 10**6), data=st.data())
def test_wilson_is_the_inverted_score_test(n, data):
    k = data.draw(st.integers(0, n))
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert wilson(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    for end in (low, high):  # (p - end)^2 = z^2 end (1 - end) / n defines the ends
        assert (k / n - end) ** 2 == pytest.approx(
            1.96**2 * end * (1 - end) / n, rel=1e-6, abs=1e-15
        )


@settings(max_examples=100, deadline=None)
@given(auc=st.floats(0, 1), n_positive=st.integers(1, 10**5), n_negative=st.integers(1, 10**5))
def test_hanley_mcneil_is_bounded_and_narrows(auc, n_positive, n_negative):
    low, high = hanley_mcneil(auc, n_positive, n_negative)
    assert 0 <= low <= auc <= high <= 1
    narrow = hanley_mcneil(auc, 4 * n_positive, 4 * n_negative)
    assert narrow[0] >= low - 1e-12 and narrow[1] <= high + 1e-12


def test_perfect_area_has_a_point_interval():
    assert hanley_mcneil(1.0, 5, 5) == (1.0, 1.0)
    assert hanley_mcneil(0.0, 5, 5) == (0.0, 0.0)


@pytest.mark.parametrize("arguments", [(0, 0), (-1, 5), (6, 5)])
def test_wilson_rejects_impossible_counts(arguments):
    with pytest.raises(InputError, match="wilson"):
        wilson(*arguments)


@pytest.mark.parametrize(
    "arguments", [(1.1, 5, 5), (-0.1, 5, 5), (math.nan, 5, 5), (0.5, 0, 5), (0.5, 5, 0)]
)
def test_hanley_mcneil_rejects_impossible_input(arguments):
    with pytest.raises(InputError, match="hanley_mcneil"):
        hanley_mcneil(*arguments)


def test_score_is_json_safe():
    made = score(
        np.float64(0.5), np.int64(4), interval=(np.float64(0.1), np.float32(0.75)), reason="unused"
    )
    assert made == {"value": 0.5, "n": 4, "interval": [0.1, 0.75]}
    assert json.loads(json.dumps(made, allow_nan=False)) == made


@pytest.mark.parametrize("value", [None, math.nan, math.inf, np.float32("nan")])
def test_undefined_score_is_none_with_a_reason(value):
    assert score(value, 0, interval=(0, 1), reason="no cases") == {
        "value": None,
        "n": 0,
        "reason": "no cases",
    }
    with pytest.raises(InputError, match="give the reason"):
        score(value, 0)
