import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from covjax.errors import InputError
from covjax.metrics import holm, mcnemar, mean_of, paired_test
from tests.benchmarks.coverage import false_alarms

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
    assert (
        test["value"] == pytest.approx((a - b) / (13 + a + b)) and test["test"] == "McNemar, exact"
    )
    assert (test["first_only"], test["second_only"]) == (a, b)


def test_mcnemar_published_case():
    # A. Agresti's approval ratings: 86 and 150 discordant, z^2 = 17.36 without the correction.
    test = mcnemar(*right(794, 150, 86, 570))
    assert (
        test["p_value"] == pytest.approx(stats.chi2.sf(63**2 / 236, 1)) and test["p_value"] < 1e-4
    )
    assert test["test"] == "McNemar, chi-square, corrected"
    assert mcnemar(*right(0, 20, 20, 0))["p_value"] == 1


def test_mcnemar_exact_and_corrected_agree_where_they_meet():
    exact = mcnemar(*right(0, 16, 8, 0))["p_value"]
    approximate = mcnemar(*right(0, 17, 8, 0))["p_value"]
    assert exact == pytest.approx(0.1516, abs=1e-3) and approximate == pytest.approx(
        0.1096, abs=1e-3
    )


@pytest.mark.parametrize("pair", [([], []), ([True], [True, False]), ([1], [0])])
def test_mcnemar_rejects_other_input(pair):
    with pytest.raises(InputError, match="mcnemar"):
        mcnemar(*pair)


def brute(first, second, groups):
    """p of the difference of two means over images, over every exchange of groups."""
    found = []
    for flips in itertools.product([0, 1], repeat=groups.max() + 1):
        flip = np.array(flips)[groups] == 1
        found.append(
            np.nanmean(np.where(flip, second, first)) - np.nanmean(np.where(flip, first, second))
        )
    return found[0], np.mean(np.abs(found) >= abs(found[0]) - 1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 4))
def test_exchange_of_patients_is_that_of_every_one_by_hand(seed, patients, each):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), each)
    both = rng.random((2, groups.size))
    both[1, rng.random(groups.size) < 0.2] = np.nan  # slices that only the first marks, say
    if np.isnan(both).any(1).all() or np.isnan(both[1]).all():
        return
    test = paired_test(
        mean_of(np.concatenate(both)), [f"p{k}" for k in groups], np.ones(groups.size)
    )
    assert test["test"].startswith("all exchanges")
    defined = ~np.isnan(both[1])
    if defined.all() or patients == 1:
        value, p = brute(*both, groups)
        assert test["value"] == pytest.approx(value) and test["p_value"] == pytest.approx(p)
    assert test["value"] == pytest.approx(both[0].mean() - both[1][defined].mean())
    assert test["p_value"] >= 2 / 2**patients - 1e-12
    json.dumps(test, allow_nan=False)


def test_the_smallest_p_is_two_in_all_exchanges():
    for patients in (1, 4, 5, 8, 13):
        first = np.linspace(0.8, 0.9, 2 * patients)
        owners = [f"p{i // 2}" for i in range(2 * patients)]
        test = paired_test(
            mean_of(np.concatenate([first, first - 0.3])), owners, np.ones(first.size)
        )
        assert test["p_value"] == pytest.approx(2 / 2**patients)
    many = [f"p{i}" for i in range(30)]
    test = paired_test(mean_of(np.repeat([0.9, 0.5], 30)), many, np.ones(30), flips=999)
    assert test["p_value"] == 1 / 1000 and test["test"] == "random exchanges of 30 patients"


def test_four_slices_of_one_patient_prove_nothing():
    """They gave p <0.001."""
    values = np.concatenate([np.full(4, 0.9), np.full(4, 0.5)])
    test = paired_test(mean_of(values), ["a"] * 4, np.ones(4))
    assert (
        test["p_value"] == 1
        and "interval" not in test
        and test["no_interval"] == "1 patient: fewer than 5"
    )


def test_exchange_of_slices_is_mcnemar():
    rng = np.random.default_rng(4)
    first, second = rng.random((2, 12)) < 0.6
    values = np.concatenate([first, second]).astype(float)
    test = paired_test(mean_of(values), [""] * 12, np.ones(12))
    assert test["p_value"] == pytest.approx(mcnemar(first, second)["p_value"])
    assert test["test"] == "all exchanges of 12 images (patients unknown)"


def test_equals_and_undefined():
    x = np.arange(6.0)
    same = paired_test(mean_of(np.tile(x, 2)), list("abcdef"), np.ones(6))
    assert same["value"] == 0 and same["p_value"] == 1
    assert same["no_interval"] == "the same without any of the 6 patients"
    none = paired_test(mean_of(np.append(x, np.full(6, np.nan))), [""] * 6, np.ones(6))
    assert none["value"] is None and none["p_value"] is None and none["reason"]
    assert paired_test(mean_of(x[:0]), [], np.ones(0))["value"] is None


@pytest.mark.parametrize("patients", [5, 7, 20])
def test_false_alarms(patients):
    """p is below 0.05 in at most 5 % of comparisons of equals: of 300 at most 27, with 20 patients
    at least 5 too.
    """
    share = false_alarms(patients, 300, flips=399)
    assert share <= 27 / 300 and (patients < 20 or share >= 5 / 300)
    assert patients != 5 or share == 0


def test_holm_by_hand():
    # Of 4: the smallest times 4, the next times 3, .., none below one before it, none above 1.
    found = holm([0.04, 0.01, None, 0.03, 0.5])
    assert found[2] is None
    np.testing.assert_allclose(found[:2] + found[3:], [0.09, 0.04, 0.09, 0.5])
    assert (
        holm([0.7, 0.6]) == [1.0, 1.0]
        and holm([0.2]) == [0.2]
        and holm([None]) == [None]
        and holm([]) == []
    )
