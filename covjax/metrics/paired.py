"""Tests of two classifiers or segmenters on the same images; of ROC areas, see `delong_test`."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.stats import binom, chi2

from covjax.errors import InputError
from covjax.metrics.checks import ArrayLike, Floats, as_array, check_real, check_statistic
from covjax.metrics.intervals import score
from covjax.metrics.jackknife import limited, t_intervals
from covjax.metrics.resampling import Statistic, Units, blocks, units_of
from covjax.ops.checks import check_count, shown

EXACT_BELOW = 25  # discordant pairs
EXACT_UNITS = 13  # patients: up to 8,192 exchanges
FLIPS = 9_999


def mcnemar(first: ArrayLike, second: ArrayLike) -> dict[str, Any]:
    """McNemar's two-sided test of two classifiers by the cases that only one of them calls right.

    Exact (binomial) below 25 such cases, else chi-square with Edwards' continuity correction. Cases
    count as independent.

    Args:
      first, second: bool [N], whether each classifier is right.

    Returns:
      score of the difference of the accuracies, first - second, with "p_value", "first_only" and
      "second_only" (numbers of cases that only the one or the other calls right) and "test".

    Raises:
      InputError: no cases or not two bool vectors of one length.

    Sources: Q. McNemar, "Note on the sampling error of the difference between correlated
    proportions or percentages", Psychometrika 12 (1947); A. L. Edwards, "Note on the correction for
    continuity...", Psychometrika 13 (1948).
    """
    one = np.asarray(first)
    other = np.asarray(second)
    vectors = one.shape == other.shape and one.ndim == 1 and one.size
    if not vectors or one.dtype != bool or other.dtype != bool:
        raise InputError(
            f"mcnemar: {one.dtype} {one.shape} and {other.dtype} {other.shape}, give bool [N] twice"
        )
    a = int(np.sum(one & ~other))
    b = int(np.sum(other & ~one))
    if a + b < EXACT_BELOW:
        p_value = min(1.0, 2 * float(binom.cdf(min(a, b), a + b, 0.5)))
        test = "McNemar, exact"
    else:
        p_value = float(chi2.sf(max(0, abs(a - b) - 1) ** 2 / (a + b), 1))
        test = "McNemar, chi-square, corrected"
    details = {"p_value": p_value, "first_only": a, "second_only": b, "test": test}
    return score((a - b) / one.size, one.size) | details


def paired_test(
    statistic: Statistic,
    patients: Sequence[str],
    weights: ArrayLike,
    *,
    flips: int = FLIPS,
    seed: int = 0,
) -> dict[str, Any]:
    """Difference of a statistic between two methods on the same images, tested by exchange.

    If the methods were alike, exchanging what they say of a patient would change nothing but
    chance. p is the share of all exchanges, patient by patient, that make a difference as large as
    the one found: all 2^n of up to 13 patients, so that it is at least 2 / 2^n, else of random
    ones, counting the one found. An image whose patient is unknown is exchanged alone.

    Args:
      statistic: weights float64 [R, 2N] -> [R] over the images of both, the first method's first;
        for example `mean_of` the Dice of every image, [2N].
      patients: [N], the patient of every image, "" where unknown.
      weights: [N], what each image weighs, see `t_intervals`.
      flips: number of random exchanges.
      seed: of the exchanges.

    Returns:
      score of the difference first - second with its 95 % t interval (see `t_intervals`) or why it
      has none, "p_value", and "test", its name; p_value is None when the difference is undefined.

    Sources: E. J. G. Pitman, "Significance tests which may be applied to samples from any
    populations", J. R. Stat. Soc. Suppl. 4 (1937); whole blocks: A. M. Winkler et al., "Multi-level
    block permutation", NeuroImage 123 (2015); never 0: B. Phipson, G. K. Smyth, "Permutation
    p-values should never be zero", Stat. Appl. Genet. Mol. Biol. 9 (2010).
    """
    check_statistic(statistic, patients)
    check_count("flips", flips, 1, "a number of exchanges, 1 or more")
    n = len(patients)
    weighed = as_array("weights", weights, "a number for every image, [N]")
    if weighed.shape != (n,) or not (np.isfinite(weighed) & (weighed >= 0)).all():
        raise InputError(
            f"weights: shape {weighed.shape}, give {n} finite numbers of 0 or more, one per image"
        )

    def difference(first: Floats) -> Floats:
        """Of the method that counts images `first` [R, 2N] times, minus the other."""
        return statistic(first) - statistic(np.roll(first, n, axis=1))

    def of_first(some: Floats) -> Floats:
        return difference(np.concatenate([some, np.zeros_like(some)], 1))

    value = float(of_first(np.ones((1, n)))[0]) if n else np.nan
    if np.isnan(value):
        return score(None, n, reason="one of the two is undefined") | {"p_value": None, "test": ""}
    limits = t_intervals(
        lambda some: of_first(some)[:, None], patients, weighed[:, None], ["difference"]
    )
    units = units_of(patients)
    found = np.concatenate([
        difference(np.concatenate([1 - flip, flip], 1)) for flip in _exchanges(units, flips, seed)
    ])  # fmt: skip
    p_value = float(np.mean(np.abs(found[~np.isnan(found)]) >= abs(value) - 1e-12))
    kind = "all" if units.total <= EXACT_UNITS else "random"
    test = f"{kind} exchanges of {units.text}"
    return limited(value, n, limits[0]) | {"p_value": p_value, "test": test}


def _exchanges(units: Units, flips: int, seed: int) -> Iterator[Floats]:
    """Which images are exchanged, [r, N] of 0 and 1; none in the first row, for what was found."""
    rng = np.random.default_rng(seed)
    exact = units.total <= EXACT_UNITS
    for rows in blocks(2**units.total if exact else flips + 1, 2 * units.groups.size):
        if exact:
            drawn = rows[:, None] >> np.arange(units.total) & 1
        else:
            drawn = rng.integers(0, 2, (rows.size, units.total))
        drawn[rows == 0] = 0
        yield drawn[:, units.groups].astype(np.float64)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjustment of p-values for their number.

    Each is the level at which its test, one of all, rejects. Undefined ones (None) stay so and do
    not count. Raises InputError for anything else than numbers in 0..1 and None.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6
    (1979).
    """
    if not np.iterable(p_values) or isinstance(p_values, str):
        raise InputError(f"p_values: {shown(p_values)}, give a list of them")
    for k, p in enumerate(p_values):
        if p is not None:
            check_real(f"p_values[{k}]", p, 0, 1, "a p-value in 0..1, or None where there is none")
    adjusted = list(p_values)
    known = [(p, k) for k, p in enumerate(p_values) if p is not None]
    least = 0.0
    for rank, (p, k) in enumerate(sorted(known)):
        least = max(least, min(1.0, (len(known) - rank) * p))
        adjusted[k] = least
    return adjusted
