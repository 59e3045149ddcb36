"""ROC and precision-recall curves from exact integer counts, ties included."""

from typing import Any

import numpy as np

from covjax.errors import InputError
from covjax.metrics.checks import ArrayLike, Bools, Floats, Integers, as_array
from covjax.metrics.resampling import ratio


def check_binary(
    labels: ArrayLike, probability: ArrayLike, name: str = "probability"
) -> tuple[Bools, Floats]:
    """Returns labels [N], whether 1, and probability, or what else `name` calls it, [N].

    Raises:
      InputError: not two vectors of one length, a label other than 0 and 1, or a value that is not
        finite.
    """
    truth = as_array("labels", labels, "0 or 1 for every case, [N]")
    values = as_array(name, probability, "a number for every case, [N]").astype(np.float64)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise InputError(
            f"labels: shape {truth.shape}, {name}: {values.shape}, give vectors of one length"
        )
    wrong = truth[(truth != 0) & (truth != 1)]
    if wrong.size:
        raise InputError(
            f"labels: {wrong.size} of {truth.size} are not 0 or 1 (first: {wrong[0]}), "
            "leave them out"
        )
    undefined = np.count_nonzero(~np.isfinite(values))
    if undefined:
        raise InputError(
            f"{name}: {undefined} of {values.size} are NaN or infinite, did training diverge?"
        )
    return truth == 1, values


def cumulative_counts(positive: Bools, values: Floats) -> tuple[Floats, Integers, Integers]:
    """Counts the positives and negatives at or above every distinct value, highest first.

    Args:
      positive: [N].
      values: [N], finite.

    Returns:
      thresholds [T], true positives [T], false positives [T]; tied cases share one entry.
    """
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    last = _last_of_tie(ranked)
    true_positive = np.cumsum(positive[order], dtype=np.int64)[last]
    return ranked[last], true_positive, last + 1 - true_positive


def _last_of_tie(ranked: Floats) -> Integers:
    return np.flatnonzero(np.append(ranked[1:] != ranked[:-1], [True] * min(1, ranked.size)))


def weighted_areas(weights: Floats, positive: Bools, ranked: Floats) -> tuple[Floats, Floats]:
    """Areas under the ROC curve and average precisions of weighted cases.

    Args:
      weights: [R, N], how often each case counts; integers make the areas exact.
      positive: [N], cases by falling probability.
      ranked: [N], falling: probabilities, or anything that ranks cases as they do.

    Returns:
      [R], [R]; both NaN where the weights leave one class without cases. The first is of trapezoids
      (a tied pair counts half), the second the step-wise sum of (R_k - R_k-1) P_k.
    """
    if not ranked.size:
        return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    last = _last_of_tie(ranked)
    called = np.cumsum(weights, axis=1)[:, last]
    tp = np.cumsum(weights * positive, axis=1)[:, last]
    fp = called - tp
    rise = np.diff(tp, axis=1, prepend=0)
    run = np.diff(fp, axis=1, prepend=0)
    area = ratio(np.sum(run * (2 * tp - rise), axis=1), 2 * tp[:, -1] * fp[:, -1])
    precision = np.divide(tp, called, out=np.zeros_like(tp), where=called > 0)
    average = ratio(np.sum(rise * precision, axis=1), tp[:, -1])
    return area, np.where(fp[:, -1] > 0, average, np.nan)


def roc_curve(labels: ArrayLike, probability: ArrayLike) -> dict[str, list[Any]]:
    """The ROC curve without points on a straight line between others, so its area is exact.

    Args:
      labels: [N], 0 or 1.
      probability: [N] of class 1; any finite score that grows with it will do.

    Returns:
      "false_positive_rate", "true_positive_rate" and "threshold", JSON-safe lists of one length,
      from (0, 0) to (1, 1). A case is called positive when probability >= threshold; the first
      threshold is None (nothing is called). The lists are empty when labels hold one class only.

    Raises:
      InputError: see `classification_scores`.
    """
    thresholds, tp, fp = cumulative_counts(*check_binary(labels, probability))
    if not tp.size or not tp[-1] or not fp[-1]:
        return {"false_positive_rate": [], "true_positive_rate": [], "threshold": []}
    tp = np.append(0, tp)
    fp = np.append(0, fp)
    rise = np.diff(tp)
    run = np.diff(fp)
    # Integers, so collinear means collinear.
    keep = np.concatenate([[True], rise[:-1] * run[1:] != rise[1:] * run[:-1], [True]])
    return {
        "false_positive_rate": (fp / fp[-1])[keep].tolist(),
        "true_positive_rate": (tp / tp[-1])[keep].tolist(),
        "threshold": [None, *thresholds[keep[1:]].tolist()],
    }


def precision_recall_curve(labels: ArrayLike, probability: ArrayLike) -> dict[str, list[Any]]:
    """The precision-recall curve without the inner points of its vertical and horizontal runs.

    The step-wise area (average precision) of the points kept is that of all points; this is why
    points on an oblique line stay.

    Args:
      labels: [N], 0 or 1.
      probability: [N] of class 1; any finite score that grows with it will do.

    Returns:
      "recall", "precision" and "threshold", JSON-safe lists of one length in order of growing
      recall. The first point is (recall 0, precision 1) with threshold None by convention. The
      lists are empty when labels hold one class only.

    Raises:
      InputError: see `classification_scores`.
    """
    thresholds, tp, fp = cumulative_counts(*check_binary(labels, probability))
    if not tp.size or not tp[-1] or not fp[-1]:
        return {"recall": [], "precision": [], "threshold": []}
    # The first point calls nothing: 1/1 stands for its precision of 0/0, by convention.
    hits = np.append(1, tp)
    called = np.append(1, tp + fp)
    recalled = np.append(0, tp)
    vertical = np.diff(recalled) == 0
    horizontal = hits[1:] * called[:-1] == hits[:-1] * called[1:]
    inner = (vertical[:-1] & vertical[1:]) | (horizontal[:-1] & horizontal[1:])
    keep = np.concatenate([[True], ~inner, [True]])
    return {
        "recall": (recalled / tp[-1])[keep].tolist(),
        "precision": (hits / called)[keep].tolist(),
        "threshold": [None, *thresholds[keep[1:]].tolist()],
    }
