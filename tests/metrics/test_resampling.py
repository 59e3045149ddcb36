import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from covjax.errors import InputError
from covjax.metrics import bootstrap, mean_of
from covjax.metrics.classification import _Cases, _values
from covjax.metrics.curves import weighted_areas
from covjax.metrics.resampling import bca_limits, percentile_limits, resampled, units_of

pytestmark = pytest.mark.filterwarnings("error")


def unknown(n):
    return [""] * n


def jackknife_means(x):
    return np.array([[np.delete(x, i).mean()] for i in range(x.size)])


@pytest.mark.parametrize("seed", range(3))
def test_equals_scipy_on_the_same_resamples(seed):
    x = np.random.default_rng(seed).exponential(size=40)
    for method in ("percentile", "BCa"):
        there = stats.bootstrap(
            (x,), np.mean, n_resamples=999, method=method, rng=np.random.default_rng(seed)
        )
        drawn = there.bootstrap_distribution[:, None]
        if method == "percentile":
            got = percentile_limits(drawn)
        else:
            got = bca_limits(drawn, np.array([x.mean()]), jackknife_means(x))
        assert got[:, 0] == pytest.approx(tuple(there.confidence_interval), abs=1e-9)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_agrees_with_scipy_on_its_own_resamples(method):
    x = np.random.default_rng(1).exponential(size=60)
    there = stats.bootstrap(
        (x,), np.mean, n_resamples=20_000, method={"bca": "BCa"}.get(method, method), rng=1
    )
    low, high, text = bootstrap(mean_of(x), unknown(60), method=method, resamples=20_000)
    assert (low, high) == pytest.approx(tuple(there.confidence_interval), abs=0.02)
    assert text == f"{method} bootstrap over 60 images (patients unknown)"


def test_means_of_two_images_are_the_binomial_distribution():
    values = resampled(mean_of(np.array([0.0, 1.0])), np.arange(2), 40_000, 0)
    assert [np.mean(values == v) for v in (0, 0.5, 1)] == pytest.approx([0.25, 0.5, 0.25], abs=0.01)


def test_patients_are_drawn_whole():
    patients = list("aabbbccddddee")
    units = units_of(patients)
    assert units.text == "5 patients"
    weights = resampled(lambda w: w, units.groups, 500, 0)
    for patient in "abcde":
        of_patient = weights[:, [i for i, p in enumerate(patients) if p == patient]]
        assert np.all(of_patient == of_patient[:, :1])
    first = weights[:, [patients.index(p) for p in "abcde"]]
    assert np.all(first.sum(1) == 5)


def test_chunks_do_not_change_the_draws(monkeypatch):
    groups = np.arange(7)
    statistic = mean_of(np.arange(7.0))
    whole = resampled(statistic, groups, 300, 3)
    monkeypatch.setattr("covjax.metrics.resampling.CHUNK", 70)
    np.testing.assert_array_equal(resampled(statistic, groups, 300, 3), whole)
    monkeypatch.setattr("covjax.metrics.resampling.CHUNK", 2)
    low, high, _ = bootstrap(statistic, unknown(7), method="bca", resamples=300, seed=3)
    monkeypatch.undo()
    assert (low, high) == bootstrap(statistic, unknown(7), method="bca", resamples=300, seed=3)[:2]


def test_units():
    assert units_of(list("abcd")).text == "4 patients" and units_of(["a"] * 6).text == "1 patient"
    assert units_of([""] * 5).text == "5 images (patients unknown)"
    some = units_of([*"aabb", "", "c", ""])
    assert some.text == "5 patients (images where patients are unknown)"
    assert [np.sum(some.groups == group) for group in some.groups] == [2, 2, 2, 2, 1, 1, 1]
    np.testing.assert_array_equal(units_of(list("ecbad")).groups, [4, 2, 1, 0, 3])


def test_no_limits_where_rare_resamples_differ():
    def rare(weights):
        return (weights[:, 0] >= 4).astype(float)

    values = resampled(rare, np.arange(8), 2000, 0)
    assert 0 < values.mean() < 0.025
    limits = bootstrap(rare, unknown(8), resamples=2000)
    assert np.isnan(limits.low) and "both limits" in limits.method


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_no_limits_where_there_is_nothing_to_draw(method):
    few = bootstrap(mean_of(np.arange(8.0)), list("aabbccdd"), method=method, resamples=50)
    assert (
        np.isnan(few.low) and np.isnan(few.high) and few.method == "none: 4 patients: fewer than 5"
    )
    same = bootstrap(mean_of(np.full(6, 0.25)), unknown(6), method=method, resamples=50)
    assert (
        np.isnan(same.low)
        and same.method == "none: both limits over 6 images (patients unknown) are one value"
    )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=25
    )
)
def test_weighted_areas_equal_repeated_cases(cases):
    labels, ranks, weights = np.array(sorted(cases, key=lambda c: -c[1])).T
    auc, precision = weighted_areas(weights[None].astype(float), labels == 1, ranks / 6)
    labels = np.repeat(labels, weights)
    ranks = np.repeat(ranks, weights)
    if len(set(labels.tolist())) < 2:
        assert np.isnan(auc[0]) and np.isnan(precision[0])
    else:
        assert auc[0] == pytest.approx(sk.roc_auc_score(labels, ranks), abs=1e-12)
        assert precision[0] == pytest.approx(sk.average_precision_score(labels, ranks), abs=1e-12)


def test_weighted_scores_equal_scoring_every_resample():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 30)
    probability = rng.random(30)
    order = np.argsort(-probability)
    positive = labels[order] == 1
    p = probability[order]
    cases = _Cases(positive, p, p, -np.log(np.where(positive, p, 1 - p)), p >= 0.5)
    for w in resampled(lambda w: w, np.arange(30), 60, 0).astype(int):
        y = np.repeat(labels[order], w)
        q = np.repeat(probability[order], w)
        scores = _values(w[None].astype(float), cases)
        assert scores["mcc"][0] == pytest.approx(sk.matthews_corrcoef(y, q >= 0.5), abs=1e-9)
        assert scores["brier"][0] == pytest.approx(sk.brier_score_loss(y, q), abs=1e-9)
        assert scores["roc_auc"][0] == pytest.approx(sk.roc_auc_score(y, q), abs=1e-9)


def test_undefined_resamples_are_left_out():
    x = np.array([np.nan, np.nan, np.nan, 1.0, 2.0])
    low, high, _ = bootstrap(mean_of(x), unknown(5), resamples=2000)
    assert (low, high) == (1, 2)
    low, high, _ = bootstrap(mean_of(np.full(3, np.nan)), unknown(3), resamples=10)
    assert np.isnan(low) and np.isnan(high)


def test_same_seed_same_interval_and_several_at_once():
    x = np.random.default_rng(0).random((20, 3))
    together = bootstrap(mean_of(x), unknown(20), resamples=500, seed=5)
    again = bootstrap(mean_of(x), unknown(20), resamples=500, seed=5)
    alone = [bootstrap(mean_of(x[:, i]), unknown(20), resamples=500, seed=5) for i in range(3)]
    np.testing.assert_array_equal(together.low, again.low)
    np.testing.assert_allclose(together.low, [a.low for a in alone], atol=1e-12)
    np.testing.assert_allclose(together.high, [a.high for a in alone], atol=1e-12)


def covered(intervals, truth):
    return np.mean([low <= truth <= high for low, high in intervals])


def test_coverage_over_images():
    rng = np.random.default_rng(0)
    found = {"percentile": [], "bca": []}
    for x in rng.beta(2, 1.5, (400, 60)):  # Dice-like
        for method, intervals in found.items():
            intervals.append(bootstrap(mean_of(x), unknown(60), method=method, resamples=600)[:2])
    for method, intervals in found.items():
        assert 0.92 <= covered(intervals, 2 / 3.5) <= 0.975, method


def test_coverage_with_patients_needs_patients():
    rng = np.random.default_rng(1)
    by_patients = []
    by_images = []
    patients = [f"p{i // 8}" for i in range(30 * 8)]
    for _ in range(300):
        x = np.repeat(rng.normal(size=30), 8) + 0.5 * rng.normal(size=240)
        by_patients.append(bootstrap(mean_of(x), patients, resamples=400)[:2])
        by_images.append(bootstrap(mean_of(x), unknown(240), resamples=400)[:2])
    assert 0.90 <= covered(by_patients, 0) <= 0.98
    assert covered(by_images, 0) < 0.7


@pytest.mark.parametrize(
    "options", [{"method": "basic"}, {"confidence": 1}, {"resamples": 0}, {"patients": []}], ids=str
)
def test_bad_options_are_named(options):
    options = {"patients": unknown(3)} | options
    with pytest.raises(InputError, match="bootstrap:"):
        bootstrap(mean_of(np.arange(3.0)), **options)
