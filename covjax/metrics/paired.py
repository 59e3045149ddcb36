"""Tests of two classifiers or segmenters on the same images; two correlated ROC areas: see `delong_test`."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binom, chi2

from covjax.errors import InputError
from covjax.metrics.intervals import score
from covjax.metrics.resampling import RESAMPLES, Statistic, percentile_limits, resampled, resampling_units

EXACT_BELOW = 25  # discordant pairs


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict:
    """McNemar's two-sided test of two classifiers by the cases that only one of them calls right.

    Exact (binomial) below 25 such cases, else chi-square with Edwards' continuity correction. Cases count as
    independent.

    Args:
      first, second: bool [N], whether each classifier is right.

    Returns:
      score of the difference of the accuracies, first - second, with "p_value", "first_only" and "second_only" (numbers
      of cases that only the one or the other calls right) and "test".

    Raises:
      InputError: no cases or not two bool vectors of one length.

    Sources: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947); A. L. Edwards, "Note on the correction for continuity...", Psychometrika 13 (1948).
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.ndim != 1 or not first.size or first.dtype != bool or second.dtype != bool:
        raise InputError(f"mcnemar: {first.dtype} {first.shape} and {second.dtype} {second.shape}, give bool [N] twice")
    a, b = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    if a + b < EXACT_BELOW:
        p_value, test = min(1.0, 2 * binom.cdf(min(a, b), a + b, 0.5)), "McNemar, exact"
    else:
        p_value, test = chi2.sf(max(0, abs(a - b) - 1) ** 2 / (a + b), 1), "McNemar, chi-square, corrected"
    details = {"p_value": float(p_value), "first_only": a, "second_only": b, "test": test}
    return score((a - b) / first.size, first.size) | details


def paired_bootstrap(
    first: Statistic, second: Statistic, patients: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict:
    """Bootstrap interval and two-sided test of the difference of a statistic between two methods on the same images.

    Both are computed on the same resamples, of patients or of images as in `bootstrap`. The test inverts the
    percentile interval: twice the smaller share of resamples, counting the data as one, on either side of 0.

    Args:
      first, second: statistics over weights [R, N] -> [R], for example `mean_of` the Dice of every image.
      patients: [N], the patient of every image, "" where unknown.
      resamples: number of resamples.
      seed: of the draws.

    Returns:
      score of the difference first - second with its 95 % interval, and "p_value"; both None when the difference is
      undefined.
    """
    difference = lambda weights: first(weights) - second(weights)  # noqa: E731
    value = float(difference(np.ones((1, len(patients))))[0]) if len(patients) else np.nan
    if np.isnan(value):
        return score(None, len(patients), reason="one of the two is undefined") | {"p_value": None}
    groups, text = resampling_units(patients)
    drawn = resampled(difference, groups, resamples, seed)
    drawn = drawn[~np.isnan(drawn)]
    low, high = percentile_limits(drawn[:, None])[:, 0]
    sides = (1 + np.sum(drawn <= 0), 1 + np.sum(drawn >= 0))
    p_value = min(1.0, 2 * float(min(sides)) / (1 + drawn.size))
    return score(value, len(patients), (low, high), method=f"percentile bootstrap over {text}") | {"p_value": p_value}


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjustment of p-values for their number: each is the level at which its test, one of all, rejects.

    Undefined ones (None) stay so and do not count.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979).
    """
    adjusted: list[float | None] = list(p_values)
    order = sorted((i for i, p in enumerate(p_values) if p is not None), key=lambda i: p_values[i])
    least = 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = least
    return adjusted
