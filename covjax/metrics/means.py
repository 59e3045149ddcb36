"""Means and shares of slices as scores, with their intervals."""

from collections.abc import Sequence

import numpy as np

from covjax.metrics.intervals import score
from covjax.metrics.jackknife import Limits, limited, share_limits, t_intervals
from covjax.metrics.resampling import mean_of


def mean_score(
    values: np.ndarray, patients: Sequence[str], reason: str, scale: str = "amount"
) -> dict:
    """The mean of values [N] as a score with a t interval over patients; see `t_intervals`, of
    `scale` too.

    `reason` says why there is no mean when there are no values.
    """
    values = np.asarray(values, np.float64)
    if not values.size:
        return score(None, 0, reason=reason)
    return limited(values.mean(), values.size, _limits(values, patients, scale))


def share_score(hits: np.ndarray, patients: Sequence[str], reason: str) -> dict:
    """The share of hits, bool [N], as a score: its interval is t over patients, Wilson's where
    these are unknown.
    """
    hits = np.asarray(hits, bool)
    if not hits.size:
        return score(None, 0, reason=reason)
    limits = share_limits(
        int(hits.sum()), hits.size, _limits(hits.astype(np.float64), patients, "share"), patients
    )
    return limited(hits.mean(), hits.size, limits)


def _limits(values: np.ndarray, patients: Sequence[str], scale: str) -> Limits:
    return t_intervals(mean_of(values[:, None]), patients, np.ones((values.size, 1)), [scale])[0]
