"""DeLong's variance of ROC areas: the interval of one, and the test of two on the same cases."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtr
from scipy.stats import rankdata

from covjax.errors import InputError
from covjax.metrics.checks import ArrayLike, Floats
from covjax.metrics.curves import check_binary
from covjax.metrics.intervals import score


def delong(labels: ArrayLike, probability: ArrayLike, z: float = 1.96) -> tuple[float, float]:
    """DeLong's interval of an area under the ROC curve, a pair (low, high) clipped to 0..1.

    Its standard error is 0 where all cases of both classes are ranked alike, as at an area of 1:
    the interval is then a point. Cases count as independent.

    Args:
      labels: [N], 0 or 1, at least 2 of each.
      probability: [N] of class 1; any finite score that grows with it will do.
      z: normal quantile; 1.96 gives 95 %.

    Raises:
      InputError: fewer than 2 cases of a class, or see `classification_scores`.

    Sources: E. R. DeLong et al., "Comparing the areas under two or more correlated receiver
    operating characteristic curves: a nonparametric approach", Biometrics 44 (1988); by midranks:
    X. Sun, W. Xu, "Fast implementation of DeLong's algorithm", IEEE Signal Processing Letters 21
    (2014).
    """
    areas, covariance = _areas(labels, [probability])
    half = z * math.sqrt(covariance[0, 0])
    return max(0.0, areas[0] - half), min(1.0, areas[0] + half)


def delong_test(labels: ArrayLike, first: ArrayLike, second: ArrayLike) -> dict[str, Any]:
    """DeLong's two-sided test of two areas under the ROC curve on the same cases.

    Args:
      labels: [N], 0 or 1, at least 2 of each.
      first, second: [N], probabilities of class 1 by two classifiers.

    Returns:
      score of the difference first - second with its 95 % interval, and "p_value"; that is None
      where the standard error is 0, as for two identical classifiers. Sources and errors: see
      `delong`.
    """
    areas, covariance = _areas(labels, [first, second])
    difference = areas[0] - areas[1]
    error = math.sqrt(max(0.0, covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))
    # what rounding leaves of two classifiers that rank alike
    error = 0.0 if error < 1e-12 else error
    interval = (difference - 1.96 * error, difference + 1.96 * error)
    p_value = float(2 * ndtr(-abs(difference) / error)) if error else None
    return score(difference, np.size(labels), interval, method="DeLong") | {"p_value": p_value}


def _areas(labels: ArrayLike, classifiers: Sequence[ArrayLike]) -> tuple[list[float], Floats]:
    """Areas [M] of M classifiers and their covariance [M, M]."""
    positive, values = zip(*(check_binary(labels, one) for one in classifiers), strict=True)
    sick = positive[0]
    n_positive = int(sick.sum())
    n_negative = sick.size - n_positive
    if min(n_positive, n_negative) < 2:
        raise InputError(
            f"delong: {n_positive} positive, {n_negative} negative cases, give at least 2 of each"
        )
    # Share of the other class that each case is ranked on the right side of, ties counting half.
    of_positives: list[Floats] = []
    of_negatives: list[Floats] = []
    for one in values:
        rank = _rank(one)
        of_positives.append((rank[sick] - _rank(one[sick])) / n_negative)
        of_negatives.append(1 - (rank[~sick] - _rank(one[~sick])) / n_positive)
    covariance = np.cov(of_positives) / n_positive + np.cov(of_negatives) / n_negative
    areas = [float(shares.mean()) for shares in of_positives]
    return areas, np.reshape(covariance, (len(areas), len(areas)))


def _rank(values: Floats) -> Floats:
    return np.asarray(rankdata(values), np.float64)
