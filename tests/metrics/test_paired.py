import json

import numpy as np
import pytest
from scipy import stats

from covjax.errors import InputError
from covjax.metrics import holm, mcnemar, mean_of, paired_bootstrap

pytestmark = pytest.mark.filterwarnings("error")


def right(both, first_only, second_only, neither):
    first = np.repeat([True, True, False, False], [both, first_only, second_only, neither])
    second = np.repeat([True, False, True, False], [both, first_only, second_only, neither])
    return first, second


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 0), (9, 3), (5, 5), (20, 4)])
def test_mcnemar_is_the_binomial_test_for_few(a, b):
    test = mcnemar(*right(10, a, b, 3))
    expected = stats.binomtest(a, a + b).pvalue if a + b else 1
    assert test["p_value"] == pytest.approx(expected, abs=1e-12)
    assert test["value"] == pytest.approx((a - b) / (13 + a + b)) and test["test"] == "McNemar, exact"
    assert (test["first_only"], test["second_only"]) == (a, b)


def test_mcnemar_published_case():
    # A. Agresti's approval ratings: 86 and 150 discordant, z^2 = 17.36 without the correction.
    test = mcnemar(*right(794, 150, 86, 570))
    assert test["p_value"] == pytest.approx(stats.chi2.sf(63**2 / 236, 1)) and test["p_value"] < 1e-4
    assert test["test"] == "McNemar, chi-square, corrected"
    assert mcnemar(*right(0, 20, 20, 0))["p_value"] == 1


def test_mcnemar_exact_and_corrected_agree_where_they_meet():
    exact, approximate = mcnemar(*right(0, 16, 8, 0))["p_value"], mcnemar(*right(0, 17, 8, 0))["p_value"]
    assert exact == pytest.approx(0.1516, abs=1e-3) and approximate == pytest.approx(0.1096, abs=1e-3)


@pytest.mark.parametrize("pair", [([], []), ([True], [True, False]), ([1], [0])])
def test_mcnemar_rejects_other_input(pair):
    with pytest.raises(InputError, match="mcnemar"):
        mcnemar(*pair)


def test_paired_bootstrap_is_the_bootstrap_of_the_difference():
    rng = np.random.default_rng(0)
    first = rng.random(50)
    second = first - 0.05 + 0.1 * rng.random(50)
    test = paired_bootstrap(mean_of(first), mean_of(second), [""] * 50)
    there = stats.bootstrap((first - second,), np.mean, n_resamples=20_000, method="percentile", rng=0)
    assert test["interval"] == pytest.approx(tuple(there.confidence_interval), abs=1e-3)
    assert test["value"] == pytest.approx(np.mean(first - second))
    swapped = paired_bootstrap(mean_of(second), mean_of(first), [""] * 50)
    assert swapped["p_value"] == pytest.approx(test["p_value"], abs=1e-12)
    json.dumps(test, allow_nan=False)


def test_paired_bootstrap_of_equals_and_of_undefined():
    x = np.arange(6.0)
    same = paired_bootstrap(mean_of(x), mean_of(x), list("abcdef"))
    assert same["value"] == 0 and same["p_value"] == 1 and same["interval"] == [0, 0]
    assert same["interval_method"] == "percentile bootstrap over 6 patients"
    none = paired_bootstrap(mean_of(x), mean_of(np.full(6, np.nan)), [""] * 6)
    assert none["value"] is None and none["p_value"] is None and none["reason"]
    assert paired_bootstrap(mean_of(x[:0]), mean_of(x[:0]), [])["value"] is None


def test_false_alarms_of_the_paired_bootstrap():
    rng, alarms = np.random.default_rng(2), 0
    for _ in range(300):
        first, second = rng.beta(2, 2, (2, 40))
        alarms += paired_bootstrap(mean_of(first), mean_of(second), [""] * 40, resamples=400)["p_value"] < 0.05
    assert 0.02 <= alarms / 300 <= 0.1


def test_holm_by_hand():
    # Of 4: the smallest times 4, the next times 3, .., none below one before it, none above 1.
    found = holm([0.04, 0.01, None, 0.03, 0.5])
    assert found[2] is None
    np.testing.assert_allclose(found[:2] + found[3:], [0.09, 0.04, 0.09, 0.5])
    assert holm([0.7, 0.6]) == [1.0, 1.0] and holm([0.2]) == [0.2] and holm([None]) == [None] and holm([]) == []
