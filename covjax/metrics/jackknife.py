"""Intervals of any score from its values without each patient: t on a scale on which the score has
no bounds.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit
from scipy.stats import t as student

from covjax.metrics.intervals import score, wilson
from covjax.metrics.resampling import MIN_UNITS, Statistic, Units, jackknife, units_of

MAX_GROUPS = 1000  # units beyond are left out in blocks: each unit alone would cost N^2


class Scale(NamedTuple):
    """A scale without bounds: there, its inverse, and its slope at a value."""

    there: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]


def _logit(low: float, high: float) -> Scale:
    return Scale(
        lambda x: np.log((x - low) / (high - x)),
        lambda y: low + (high - low) * expit(y),
        lambda x: (high - low) / ((x - low) * (high - x)),
    )


SCALES = {
    "share": _logit(0, 1),  # 0..1
    "correlation": _logit(-1, 1),
    "amount": Scale(np.log, np.exp, lambda x: 1 / x),  # above 0
    "difference": Scale(np.array, np.array, np.ones_like),
}
NAMES = {"share": "logit", "correlation": "logit", "amount": "log", "difference": "its own"}


class Limits(NamedTuple):
    """The interval of one statistic and how it was made, or why there is none."""

    interval: tuple[float, float] | None
    method: str | None = None
    reason: str | None = None


def t_intervals(
    statistic: Statistic,
    patients: Sequence[str],
    weights: np.ndarray,
    scales: Sequence[str],
) -> list[Limits]:
    """95 % t intervals of several statistics by the jackknife over patients, an image of an unknown
    one as one.

    The standard error is that of the values without each patient in turn; on its scale (logit of
    shares) the interval goes t standard errors to either side. The degrees of freedom are those of
    as many patients as count the same: (sum of w)^2 / sum of w^2 - 1 of the patients' weights w,
    for one that holds most of the lesion is nearly alone.

    There is none with fewer than 5 patients (or images, patients unknown), where all agree, at a
    bound of the scale, and where the statistic is undefined without one of the patients.

    Args:
      statistic: weights float64 [R, N] -> [R, S], row by row: the statistics when image i counts weights[r, i] times.
      patients: [N], the patient of every image, "" where unknown.
      weights: [N, S], what each image weighs in each statistic, as the pixels under a fraction line.
      scales: S names of SCALES.

    Returns:
      S limits.

    Sources: jackknife over clusters: J. G. MacKinnon et al., "Fast and reliable jackknife and
    bootstrap methods for cluster-robust inference", J. Appl. Econometrics 38 (2023). Effective
    number of clusters: A. V. Carter et al., "Asymptotic behavior of a t-test robust to cluster
    heterogeneity", Review of Economics and Statistics 99 (2017).
    """
    units = units_of(patients)
    if units.count < MIN_UNITS:
        return [Limits(None, reason=units.too_few)] * len(scales)
    groups = units.groups % MAX_GROUPS
    value = statistic(np.ones((1, groups.size)))[0]
    without = jackknife(statistic, groups)
    of_group = np.zeros((len(without), len(scales)))
    np.add.at(of_group, groups, weights)
    error, freedom = _error(value, without, of_group)
    few = [units._replace(count=int(count)) for count in np.sum(of_group > 0, axis=0)]
    columns = zip(value.tolist(), error.tolist(), freedom.tolist(), few, scales, strict=True)
    return [_limits(*each, units) for each in columns]


def _error(
    value: np.ndarray, without: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Standard errors and degrees of freedom, [S] each, from the values [S], those without each
    group [G, S] and the groups' weights [G, S]. An error is NaN where the value is undefined
    without one of the groups.
    """
    count = np.maximum(np.sum(weights > 0, axis=0), 1)
    error = np.sqrt((count - 1) / count * np.sum((without - value) ** 2, axis=0))
    squares = np.sum(weights**2, axis=0)
    return error, np.maximum(weights.sum(0) ** 2 / np.where(squares > 0, squares, 1) - 1, 1)


def _limits(
    value: float, error: float, freedom: float, counted: Units, name: str, units: Units
) -> Limits:
    if not np.isfinite(value):
        return Limits(None)
    if counted.count < MIN_UNITS:
        return Limits(None, reason=f"it rests on {counted.too_few}")
    if not np.isfinite(error):
        return Limits(None, reason=f"undefined without one of the {units.name}")
    if error <= 1e-12 * max(1.0, abs(value)):
        return Limits(None, reason=f"the same without any of the {units.text}")
    scale = SCALES[name]
    text = units.text
    with np.errstate(divide="ignore"):
        centre = scale.there(np.float64(value))
        half = student.ppf(0.975, freedom) * error * scale.slope(np.float64(value))
    if not (np.isfinite(centre) and np.isfinite(half)):
        return Limits(None, reason="at the bound of its scale")
    low = scale.back(centre - half)
    high = scale.back(centre + half)
    return Limits((float(low), float(high)), f"t over {text}, jackknife, {NAMES[name]} scale")


def share_limits(hits: int, n: int, by_t: Limits, patients: Sequence[str]) -> Limits:
    """Limits of a share of cases: by t over patients, and where all agree or no patient is known,
    Wilson's.

    Wilson's counts cases as independent. Where any patient is known but all are alike it is that of
    as many cases as patients: a patient's cases then say no more than one.
    """
    units = units_of(patients)
    if n and not units.by_patient:
        return Limits(wilson(hits, n), "Wilson, cases as independent (patients unknown)")
    if n and hits in (0, n) and units.count >= MIN_UNITS:
        return Limits(
            wilson(units.count if hits else 0, units.count), "Wilson, every patient counted once"
        )
    return by_t


def limited(value: float, n: int, limits: Limits, reason: str | None = None) -> dict:
    """Returns a score with its interval or why it has none; `reason` says why the value is
    undefined.
    """
    return score(value, n, limits.interval, reason, limits.method, limits.reason)
