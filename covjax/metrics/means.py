"""Means and shares of slices as scores, with their intervals."""

from collections.abc import Sequence

import numpy as np

from covjax.metrics.intervals import score, wilson
from covjax.metrics.resampling import MIN_UNITS, bootstrap, by_patient, mean_of


def mean_score(values: np.ndarray, patients: Sequence[str], reason: str) -> dict:
    """The mean of values [N] as a score with a bootstrap interval from 5 images on; see `bootstrap` for `patients`.

    `reason` says why there is no mean when there are no values.
    """
    values = np.asarray(values, np.float64)
    if not values.size:
        return score(None, 0, reason=reason)
    if values.size < MIN_UNITS:
        return score(values.mean(), values.size)
    low, high, method = bootstrap(mean_of(values), patients)
    return score(values.mean(), values.size, (low, high), method=method)


def share_score(hits: np.ndarray, patients: Sequence[str], reason: str) -> dict:
    """The share of hits, bool [N], as a score: its interval resamples patients where they are enough, else Wilson's."""
    hits = np.asarray(hits, bool)
    if not hits.size:
        return score(None, 0, reason=reason)
    if by_patient(patients):
        found = mean_score(hits, patients, reason)
        if found["interval"][0] < found["interval"][1]:
            return found
    return score(hits.mean(), hits.size, wilson(int(hits.sum()), hits.size), method="Wilson")
