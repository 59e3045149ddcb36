"""Scores that plug-ins registered, with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from covjax.errors import InputError
from covjax.metrics.checks import Floats, Numbers
from covjax.metrics.means import Column, scores_over_images
from covjax.metrics.resampling import mean_of
from covjax.scores import Score, registered

ROW = "score_"  # begins the names of their per-slice values, in rows and in per_image.csv
UNDEFINED = "the plug-in's function gives NaN"


def own_value(score: Score, *values: Any) -> float:
    """Returns what a registered score's function gives. Raises InputError unless it is a number."""
    assert score.function is not None
    value = score.function(*values)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"score '{score.name}': its function gave {type(value).__name__}, return one number"
        ) from error


def own_slice_scores(
    rows: Mapping[str, Numbers], patients: Sequence[str] | None
) -> dict[str, dict[str, Any]]:
    """Means of the segmenter's registered scores [N] over the slices where they are defined."""
    scores = [score for score in registered("segmenter") if ROW + score.name in rows]
    if not scores:
        return {}
    each = np.stack([np.asarray(rows[ROW + score.name], np.float64) for score in scores], 1)
    defined = ~np.isnan(each)
    columns = [
        Column(score.name, int(count), UNDEFINED, score.scale or "amount")
        for score, count in zip(scores, defined.sum(0), strict=True)
    ]
    return scores_over_images(columns, mean_of(each), defined, patients)


def own_case_scores(
    labels: Numbers, log_odds: Numbers, patients: Sequence[str] | None
) -> dict[str, dict[str, Any]]:
    """The classifier's registered scores of all cases, labels and log-odds [N]."""
    scores = registered("classifier")
    if not scores:
        return {}

    def statistic(weights: Floats) -> Floats:
        # weights are 1, or 0 of the patients left out
        return np.array(
            [
                [own_value(score, labels[chosen], log_odds[chosen]) for score in scores]
                for chosen in weights > 0
            ]
        )

    n = len(labels)
    columns = [Column(score.name, n, UNDEFINED, score.scale or "amount") for score in scores]
    return scores_over_images(columns, statistic, np.ones((n, len(scores))), patients)
