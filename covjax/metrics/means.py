"""Statistics of slices as scores, with their intervals."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from covjax.metrics.checks import ArrayLike, Floats, Numbers, check_patients
from covjax.metrics.intervals import score
from covjax.metrics.jackknife import Limits, limited, share_limits, t_intervals
from covjax.metrics.resampling import Statistic, mean_of
from covjax.scores import Scale


def mean_score(
    values: ArrayLike, patients: Sequence[str], reason: str, scale: Scale = "amount"
) -> dict[str, Any]:
    """The mean of values [N] as a score with its t interval on `scale` (see `t_intervals`).

    `reason` says why there is no mean when there are no values.
    """
    numbers = np.asarray(values, np.float64)
    if not numbers.size:
        return score(None, 0, reason=reason)
    return limited(float(numbers.mean()), numbers.size, _limits(numbers, patients, scale))


def share_score(hits: ArrayLike, patients: Sequence[str], reason: str) -> dict[str, Any]:
    """The share of hits, bool [N], as a score with its interval (see `share_limits`).

    `reason` says why there is no share when there are no cases.
    """
    truths = np.asarray(hits, bool)
    if not truths.size:
        return score(None, 0, reason=reason)
    by_t = _limits(truths.astype(np.float64), patients, "share")
    limits = share_limits(int(truths.sum()), truths.size, by_t, patients)
    return limited(float(truths.mean()), truths.size, limits)


def _limits(values: Floats, patients: Sequence[str], scale: Scale) -> Limits:
    return t_intervals(mean_of(values[:, None]), patients, np.ones((values.size, 1)), [scale])[0]


class Column(NamedTuple):
    """One score over images, as `scores_over_images` needs it."""

    name: str
    n: int  # images it is defined on
    reason: str  # why it is undefined, where it is
    scale: Scale = "share"


def scores_over_images(
    columns: Sequence[Column],
    statistic: Statistic,
    weights: Numbers,
    patients: Sequence[str] | None,
) -> dict[str, dict[str, Any]]:
    """Several statistics of images as scores, with t intervals where patients are given.

    Args:
      columns: S of them.
      statistic: weights float64 [R, N] -> [R, S], see `t_intervals`.
      weights: [N, S], what each image weighs in each statistic.
      patients: [N], the patient of every image, "" where unknown. None: no intervals.

    Raises:
      InputError: patients are not N names.
    """
    n = len(weights)
    values = statistic(np.ones((1, n)))[0].tolist()
    limits = [Limits(None)] * len(columns)
    if patients is not None:
        check_patients(patients, n, "image")
        limits = t_intervals(statistic, patients, weights, [column.scale for column in columns])
    return {
        column.name: limited(value, column.n, limit, column.reason if n else "no images")
        for column, value, limit in zip(columns, values, limits, strict=True)
    }
