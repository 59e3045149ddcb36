"""Scores of a binary classifier (0 healthy, 1 infected) from its labels and probabilities."""

import math

import numpy as np

from covjax.errors import InputError
from covjax.metrics.curves import area_under_roc, average_precision, check_binary, cumulative_counts
from covjax.metrics.intervals import hanley_mcneil, score, wilson


def classification_scores(labels: np.ndarray, probability: np.ndarray, threshold: float = 0.5) -> dict[str, dict]:
    """Scores of a binary classifier, each with its n and, where there is a closed form, a 95 % interval.

    A case is called positive when probability >= threshold. What is undefined has value None and a reason,
    never NaN, and gives no warning:
    - everything, without cases;
    - sensitivity without positive cases, specificity without negative ones;
    - precision when nothing is called positive;
    - f1 when there is no positive case and nothing is called positive. It is 2 TP / (2 TP + FP + FN), so it
      is 0 when positive cases exist and none is called;
    - balanced_accuracy, mcc, roc_auc and average_precision when labels hold one class only. With both
      classes in the labels and one in the calls the formula of mcc is 0/0 and the value 0, as in
      scikit-learn.
    average_precision is the step-wise sum of (R_k - R_k-1) P_k, not the trapezoid area. Intervals: Wilson
    for accuracy, sensitivity, specificity and precision, whose n is the denominator of the proportion;
    Hanley-McNeil for roc_auc. Both take cases as independent, which slices of one patient are not.

    Args:
      labels: [N], 0 or 1.
      probability: [N] of class 1, 0..1.
      threshold: of the call, in units of probability.

    Returns:
      name -> score (see `score`): accuracy, sensitivity, specificity, precision, f1, balanced_accuracy, mcc,
      roc_auc, average_precision.

    Raises:
      InputError: not two vectors of one length, a label other than 0 and 1, a probability that is NaN or
        outside 0..1.
    """
    positive, probability = check_binary(labels, probability)
    outside = np.count_nonzero((probability < 0) | (probability > 1))
    if outside:
        raise InputError(
            f"probability: {outside} of {probability.size} are outside 0..1, give probabilities, not logits"
        )
    called = probability >= threshold
    tp, fp = int(np.sum(positive & called)), int(np.sum(~positive & called))
    fn, tn = int(np.sum(positive & ~called)), int(np.sum(~positive & ~called))
    return _threshold_scores(tn, fp, fn, tp) | _ranking_scores(positive, probability)


def _threshold_scores(tn: int, fp: int, fn: int, tp: int) -> dict[str, dict]:
    n = tn + fp + fn + tp
    scores = {
        "accuracy": _proportion(tp + tn, n, "no cases"),
        "sensitivity": _proportion(tp, tp + fn, "no positive cases"),
        "specificity": _proportion(tn, tn + fp, "no negative cases"),
        "precision": _proportion(tp, tp + fp, "no case is called positive"),
    }
    overlap = 2 * tp + fp + fn
    f1 = 2 * tp / overlap if overlap else None
    scores["f1"] = score(f1, n, reason="no positive cases and none called positive" if n else "no cases")

    one_class = _one_class(tp + fn, tn + fp)
    balanced = mcc = None
    if not one_class:
        balanced = (scores["sensitivity"]["value"] + scores["specificity"]["value"]) / 2
        scale = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        mcc = (tp * tn - fp * fn) / scale if scale else 0.0
    scores["balanced_accuracy"] = score(balanced, n, reason=one_class)
    scores["mcc"] = score(mcc, n, reason=one_class)
    return scores


def _ranking_scores(positive: np.ndarray, probability: np.ndarray) -> dict[str, dict]:
    n, n_positive = positive.size, int(positive.sum())
    one_class = _one_class(n_positive, n - n_positive)
    if one_class:
        return {name: score(None, n, reason=one_class) for name in ("roc_auc", "average_precision")}
    _, tp, fp = cumulative_counts(positive, probability)
    auc = area_under_roc(tp, fp)
    return {
        "roc_auc": score(auc, n, interval=hanley_mcneil(auc, n_positive, n - n_positive)),
        "average_precision": score(average_precision(tp, fp), n),
    }


def _proportion(successes: int, n: int, reason: str) -> dict:
    return score(successes / n, n, interval=wilson(successes, n)) if n else score(None, 0, reason=reason)


def _one_class(n_positive: int, n_negative: int) -> str | None:
    if n_positive and n_negative:
        return None
    if n_positive:
        return "labels hold positive cases only"
    return "labels hold negative cases only" if n_negative else "no cases"
