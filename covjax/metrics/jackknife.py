"""Intervals of any score from its values without each patient: t on a scale without bounds."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit
from scipy.stats import t as student

from covjax.metrics.checks import Floats, Numbers
from covjax.metrics.intervals import score, wilson
from covjax.metrics.resampling import MIN_UNITS, Statistic, Units, jackknife, units_of
from covjax.scores import Scale

MAX_GROUPS = 1000  # units beyond are left out in blocks: each unit alone would cost N^2
NAMES = {"share": "logit", "correlation": "logit", "amount": "log", "difference": "its own"}


class Limits(NamedTuple):
    """The interval of one statistic and how it was made, or why there is none."""

    interval: tuple[float, float] | None
    method: str | None = None
    reason: str | None = None


def t_intervals(
    statistic: Statistic, patients: Sequence[str], weights: Numbers, scales: Sequence[Scale]
) -> list[Limits]:
    """95 % t intervals of several statistics by the jackknife over patients.

    An image of an unknown patient counts as one. The standard error is that of the values without
    each patient in turn; on its scale (logit of shares) the interval goes t standard errors to
    either side. The degrees of freedom are those of as many patients as count the same:
    (sum of w)^2 / sum of w^2 - 1 of the patients' weights w, for one that holds most of the lesion
    is nearly alone.

    There is none with fewer than 5 patients (or images, patients unknown), where all agree, at a
    bound of the scale, and where the statistic is undefined without one of the patients.

    Args:
      statistic: weights float64 [R, N] -> [R, S], row by row: the statistics when image i counts
        weights[r, i] times.
      patients: [N], the patient of every image, "" where unknown.
      weights: [N, S], what each image weighs in each statistic, as the pixels under a fraction
        line.
      scales: S names of scales.

    Returns:
      S limits.

    Sources: jackknife over clusters: J. G. MacKinnon et al., "Fast and reliable jackknife and
    bootstrap methods for cluster-robust inference", J. Appl. Econometrics 38 (2023). Effective
    number of clusters: A. V. Carter et al., "Asymptotic behavior of a t-test robust to cluster
    heterogeneity", Review of Economics and Statistics 99 (2017).
    """
    units = units_of(patients)
    if units.total < MIN_UNITS:
        return [Limits(None, reason=units.too_few)] * len(scales)
    groups = units.groups % MAX_GROUPS
    value = statistic(np.ones((1, groups.size)))[0]
    without = jackknife(statistic, groups)
    of_group = np.zeros((len(without), len(scales)))
    np.add.at(of_group, groups, weights)
    error, freedom = _error(value, without, of_group)
    counted = np.sum(of_group > 0, axis=0)
    return [
        _limits(float(value[k]), float(error[k]), float(freedom[k]), int(counted[k]), scale, units)
        for k, scale in enumerate(scales)
    ]


def _error(value: Floats, without: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Standard errors and degrees of freedom, [S] each.

    Args:
      value: [S].
      without: [G, S], the values without each group; NaN, and so is the error, where undefined.
      weights: [G, S], of the groups.
    """
    count = np.maximum(np.sum(weights > 0, axis=0), 1)
    error = np.sqrt((count - 1) / count * np.sum((without - value) ** 2, axis=0))
    squares = np.sum(weights**2, axis=0)
    return error, np.maximum(weights.sum(0) ** 2 / np.where(squares > 0, squares, 1) - 1, 1)


def _limits(
    value: float, error: float, freedom: float, counted: int, scale: Scale, units: Units
) -> Limits:
    if not np.isfinite(value):
        return Limits(None)
    if counted < MIN_UNITS:
        return Limits(None, reason=f"it rests on {units._replace(total=counted).too_few}")
    if not np.isfinite(error):
        return Limits(None, reason=f"undefined without one of the {units.name}")
    if error <= 1e-12 * max(1.0, abs(value)):
        return Limits(None, reason=f"the same without any of the {units.text}")
    interval = _on_scale(scale, value, float(student.ppf(0.975, freedom)) * error)
    if interval is None:
        return Limits(None, reason="at the bound of its scale")
    return Limits(interval, f"t over {units.text}, jackknife, {NAMES[scale]} scale")


def _on_scale(scale: Scale, value: float, half: float) -> tuple[float, float] | None:
    """Goes `half` of an interval to either side on a scale; None where the value is at its bound.

    `half` is taken along by the scale's slope at the value, and the ends are brought back.
    """
    if scale == "difference":
        return value - half, value + half
    bottom = -1.0 if scale == "correlation" else 0.0
    if value <= bottom or (value >= 1 and scale != "amount"):
        return None
    ends = np.array([-1.0, 1.0])
    if scale == "amount":
        limits = np.exp(np.log(value) + half * (1 / value) * ends)
    else:
        centre = np.log((value - bottom) / (1 - value))
        slope = (1 - bottom) / ((value - bottom) * (1 - value))
        limits = bottom + (1 - bottom) * np.asarray(expit(centre + half * slope * ends), np.float64)
    return float(limits[0]), float(limits[1])


def share_limits(hits: int, n: int, by_t: Limits, patients: Sequence[str]) -> Limits:
    """Limits of a share of cases: by t, and where all agree or no patient is known, Wilson's.

    Wilson's counts cases as independent. Where any patient is known but all are alike it is that of
    as many cases as patients: a patient's cases then say no more than one.
    """
    units = units_of(patients)
    if n and not units.known:
        return Limits(wilson(hits, n), "Wilson, cases as independent (patients unknown)")
    if n and hits in (0, n) and units.total >= MIN_UNITS:
        alike = wilson(units.total if hits else 0, units.total)
        return Limits(alike, "Wilson, every patient counted once")
    return by_t


def limited(value: float, n: int, limits: Limits, reason: str | None = None) -> dict[str, Any]:
    """Returns a score with its interval or why it has none; `reason` is that of no value."""
    return score(value, n, limits.interval, reason, limits.method, limits.reason)
