"""ROC and precision-recall curves from exact integer counts, ties included."""

import numpy as np

from covjax.errors import InputError
from covjax.metrics.checks import as_array


def check_binary(
    labels: np.ndarray, probability: np.ndarray, name: str = "probability"
) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels as bool [N] and probability, or what else `name` calls it, as float64 [N].

    Raises:
      InputError: not two vectors of one length, a label other than 0 and 1, or a value that is not finite.
    """
    labels = as_array("labels", labels, "0 or 1 for every case, [N]")
    probability = as_array(name, probability, "a number for every case, [N]").astype(np.float64)
    if labels.ndim != 1 or labels.shape != probability.shape:
        raise InputError(
            f"labels: shape {labels.shape}, {name}: {probability.shape}, give vectors of one length"
        )
    wrong = labels[(labels != 0) & (labels != 1)]
    if wrong.size:
        raise InputError(
            f"labels: {wrong.size} of {labels.size} are not 0 or 1 (first: {wrong[0]}), leave them out"
        )
    undefined = np.count_nonzero(~np.isfinite(probability))
    if undefined:
        raise InputError(
            f"{name}: {undefined} of {probability.size} are NaN or infinite, did training diverge?"
        )
    return labels == 1, probability


def cumulative_counts(
    positive: np.ndarray, probability: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts the positives and negatives at or above every distinct probability, highest first.

    Args:
      positive: bool [N].
      probability: float64 [N], finite.

    Returns:
      thresholds float64 [T], true positives int64 [T], false positives int64 [T]; tied cases share one entry.
    """
    order = np.argsort(-probability, kind="stable")
    ranked = probability[order]
    last_of_tie = np.flatnonzero(
        np.append(ranked[1:] != ranked[:-1], np.ones(min(1, ranked.size), bool))
    )
    true_positive = np.cumsum(positive[order], dtype=np.int64)[last_of_tie]
    return ranked[last_of_tie], true_positive, last_of_tie + 1 - true_positive


def weighted_areas(
    weights: np.ndarray, positive: np.ndarray, probability: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Areas under the ROC curve (trapezoids: a tied pair counts half) and average precisions of
    weighted cases.

    Args:
      weights: float64 [R, N], how often each case counts; integers make the areas exact.
      positive: bool [N], cases by falling probability.
      probability: float64 [N], falling.

    Returns:
      float64 [R], [R]; both NaN where the weights leave one class without cases. The second is the step-wise sum of
      (R_k - R_k-1) P_k.
    """
    if not probability.size:
        return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    last_of_tie = np.flatnonzero(np.append(probability[1:] != probability[:-1], True))
    called = np.cumsum(weights, axis=1)[:, last_of_tie]
    tp = np.cumsum(weights * positive, axis=1)[:, last_of_tie]
    fp = called - tp
    rise = np.diff(tp, axis=1, prepend=0)
    run = np.diff(fp, axis=1, prepend=0)
    both = (tp[:, -1] > 0) & (fp[:, -1] > 0)
    twice = np.sum(run * (2 * tp - rise), axis=1)
    precision = np.divide(tp, called, out=np.zeros_like(tp), where=called > 0)
    return (
        np.divide(twice, 2 * tp[:, -1] * fp[:, -1], out=np.full(len(weights), np.nan), where=both),
        np.divide(
            np.sum(rise * precision, axis=1),
            tp[:, -1],
            out=np.full(len(weights), np.nan),
            where=both,
        ),
    )


def roc_curve(labels: np.ndarray, probability: np.ndarray) -> dict[str, list]:
    """The ROC curve without points on a straight line between their neighbours, so its area is
    exact.

    Args:
      labels: [N], 0 or 1.
      probability: [N] of class 1; any finite score that grows with it will do.

    Returns:
      "false_positive_rate", "true_positive_rate" and "threshold", JSON-safe lists of one length, from
      (0, 0) to (1, 1). A case is called positive when probability >= threshold; the first threshold is None
      (nothing is called). The lists are empty when labels hold one class only.

    Raises:
      InputError: see `classification_scores`.
    """
    thresholds, tp, fp = cumulative_counts(*check_binary(labels, probability))
    if not tp.size or tp[-1] == 0 or fp[-1] == 0:
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


def precision_recall_curve(labels: np.ndarray, probability: np.ndarray) -> dict[str, list]:
    """The precision-recall curve without the inner points of its vertical and horizontal runs.

    The step-wise area (average precision) of the points kept is that of all points; this is why
    points on an oblique line stay.

    Args:
      labels: [N], 0 or 1.
      probability: [N] of class 1; any finite score that grows with it will do.

    Returns:
      "recall", "precision" and "threshold", JSON-safe lists of one length in order of growing recall. The
      first point is (recall 0, precision 1) with threshold None by convention. The lists are empty when
      labels hold one class only.

    Raises:
      InputError: see `classification_scores`.
    """
    thresholds, tp, fp = cumulative_counts(*check_binary(labels, probability))
    if not tp.size or tp[-1] == 0 or fp[-1] == 0:
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
