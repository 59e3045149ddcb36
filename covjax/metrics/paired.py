"""Tests of two classifiers or segmenters on the same images; two correlated ROC areas: see
`delong_test`.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.stats import binom, chi2

from covjax.errors import InputError
from covjax.metrics.checks import as_array, check_real, check_statistic
from covjax.metrics.intervals import score
from covjax.metrics.jackknife import limited, t_intervals
from covjax.metrics.resampling import CHUNK, Statistic, Units, units_of
from covjax.ops.checks import check_count, shown

EXACT_BELOW = 25  # discordant pairs
EXACT_UNITS = 13  # patients: up to 8,192 exchanges
FLIPS = 9_999


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict:
    """McNemar's two-sided test of two classifiers by the cases that only one of them calls right.

    Exact (binomial) below 25 such cases, else chi-square with Edwards' continuity correction. Cases
    count as independent.

    Args:
      first, second: bool [N], whether each classifier is right.

    Returns:
      score of the difference of the accuracies, first - second, with "p_value", "first_only" and "second_only" (numbers
      of cases that only the one or the other calls right) and "test".

    Raises:
      InputError: no cases or not two bool vectors of one length.

    Sources: Q. McNemar, "Note on the sampling error of the difference between correlated
    proportions or percentages", Psychometrika 12 (1947); A. L. Edwards, "Note on the correction for
    continuity...", Psychometrika 13 (1948).
    """
    first = np.asarray(first)
    second = np.asarray(second)
    if (
        first.shape != second.shape
        or first.ndim != 1
        or not first.size
        or first.dtype != bool
        or second.dtype != bool
    ):
        raise InputError(
            f"mcnemar: {first.dtype} {first.shape} and {second.dtype} {second.shape}, give bool [N] twice"
        )
    a = int(np.sum(first & ~second))
    b = int(np.sum(second & ~first))
    if a + b < EXACT_BELOW:
        p_value = min(1.0, 2 * binom.cdf(min(a, b), a + b, 0.5))
        test = "McNemar, exact"
    else:
        p_value = chi2.sf(max(0, abs(a - b) - 1) ** 2 / (a + b), 1)
        test = "McNemar, chi-square, corrected"
    details = {"p_value": float(p_value), "first_only": a, "second_only": b, "test": test}
    return score((a - b) / first.size, first.size) | details


def paired_test(
    statistic: Statistic,
    patients: Sequence[str],
    weights: np.ndarray,
    *,
    flips: int = FLIPS,
    seed: int = 0,
) -> dict:
    """Difference of a statistic between two methods on the same images, with its interval and a
    test by exchange.

    If the methods were alike, exchanging what they say of a patient would change nothing but
    chance. p is the share of all exchanges, patient by patient, that make a difference as large as
    the one found: all 2^n of up to 13 patients, so that it is at least 2 / 2^n, else of random
    ones, counting the one found. An image whose patient is unknown is exchanged alone.

    Args:
      statistic: weights float64 [R, 2N] -> [R] over the images of both, the first method's first; for example `mean_of`
        the Dice of every image, [2N].
      patients: [N], the patient of every image, "" where unknown.
      weights: [N], what each image weighs, see `t_intervals`.
      flips: number of random exchanges.
      seed: of the exchanges.

    Returns:
      score of the difference first - second with its 95 % t interval (see `t_intervals`) or why it has none, "p_value",
      and "test", its name; p_value is None when the difference is undefined.

    Sources: E. J. G. Pitman, "Significance tests which may be applied to samples from any
    populations", J. R. Stat. Soc. Suppl. 4 (1937); whole blocks: A. M. Winkler et al., "Multi-level
    block permutation", NeuroImage 123 (2015); never 0: B. Phipson, G. K. Smyth, "Permutation
    p-values should never be zero", Stat. Appl. Genet. Mol. Biol. 9 (2010).
    """
    check_statistic(statistic, patients)
    check_count("flips", flips, 1, "a number of exchanges, 1 or more")
    n = len(patients)
    weights = as_array("weights", weights, "a number for every image, [N]")
    if weights.shape != (n,) or not (np.isfinite(weights) & (weights >= 0)).all():
        raise InputError(
            f"weights: shape {weights.shape}, give {n} finite numbers of 0 or more, one per image"
        )
    units = units_of(patients)

    def difference(first: np.ndarray) -> np.ndarray:
        """Of the method that counts images `first` [R, 2N] times, minus the other."""
        return statistic(first) - statistic(np.roll(first, n, axis=1))

    def of_first(some: np.ndarray) -> np.ndarray:
        return difference(np.concatenate([some, np.zeros_like(some)], 1))

    value = float(of_first(np.ones((1, n)))[0]) if n else np.nan
    if np.isnan(value):
        return score(None, n, reason="one of the two is undefined") | {"p_value": None, "test": ""}
    limits = t_intervals(
        lambda some: of_first(some)[:, None], patients, np.reshape(weights, (n, 1)), ["difference"]
    )
    found = [
        difference(np.concatenate([1 - flip, flip], 1)) for flip in _exchanges(units, flips, seed)
    ]
    found = np.concatenate(found)
    defined = found[~np.isnan(found)]
    p_value = np.mean(np.abs(defined) >= abs(value) - 1e-12)
    kind = "all" if units.count <= EXACT_UNITS else "random"
    test = f"{kind} exchanges of {units.text}"
    return limited(value, n, limits[0]) | {"p_value": float(p_value), "test": test}


def _exchanges(units: Units, flips: int, seed: int) -> Iterator[np.ndarray]:
    """Which images are exchanged, float64 [r, N] of 0 and 1; none at all is the first, for the
    difference found.
    """
    rng = np.random.default_rng(seed)
    exact = units.count <= EXACT_UNITS
    total = 2**units.count if exact else flips + 1
    step = max(1, CHUNK // (2 * units.groups.size))
    for start in range(0, total, step):
        rows = np.arange(start, min(start + step, total))
        drawn = (
            rows[:, None] >> np.arange(units.count) & 1
            if exact
            else rng.integers(0, 2, (rows.size, units.count))
        )
        if start == 0:
            drawn[0] = 0
        yield drawn[:, units.groups].astype(np.float64)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjustment of p-values for their number: each is the level at which its test, one of
    all, rejects.

    Undefined ones (None) stay so and do not count. Raises InputError for anything else than numbers
    in 0..1 and None.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6
    (1979).
    """
    if not np.iterable(p_values) or isinstance(p_values, str):
        raise InputError(f"p_values: {shown(p_values)}, give a list of them")
    for k, p in enumerate(p_values):
        if p is not None:
            check_real(f"p_values[{k}]", p, 0, 1, "a p-value in 0..1, or None where there is none")
    adjusted: list[float | None] = list(p_values)
    order = sorted((i for i, p in enumerate(p_values) if p is not None), key=lambda i: p_values[i])
    least = 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = least
    return adjusted
