"""Scores of a classifier's calls, as formulas over the four cells of its confusion matrix."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from covjax.errors import InputError
from covjax.metrics.checks import ArrayLike, Bools, Floats, check_real
from covjax.metrics.curves import check_binary
from covjax.metrics.resampling import ratio
from covjax.ops.checks import shown

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))  # of the threshold table


class Share(NamedTuple):
    """A share of cases: which cells, of tn fp fn tp, it counts, and among which."""

    part: tuple[int, int, int, int]
    whole: tuple[int, int, int, int]
    reason: str  # why there is none where no case is in the whole


SHARES = {
    "accuracy": Share((1, 0, 0, 1), (1, 1, 1, 1), "no cases"),
    "sensitivity": Share((0, 0, 0, 1), (0, 0, 1, 1), "no positive cases"),
    "specificity": Share((1, 0, 0, 0), (1, 1, 0, 0), "no negative cases"),
    "precision": Share((0, 0, 0, 1), (0, 1, 0, 1), "no case is called positive"),
}


def cells_of(positive: Bools, called: Bools) -> tuple[int, int, int, int]:
    """tn, fp, fn, tp of cases [N]."""
    tn, fp, fn, tp = np.bincount(2 * positive + called, minlength=4).tolist()
    return tn, fp, fn, tp


def confusion_scores(tn: Floats, fp: Floats, fn: Floats, tp: Floats) -> dict[str, Floats]:
    """Scores of confusion matrices given by their cells, each [R]; NaN where undefined."""
    cells = np.stack([tn, fp, fn, tp], 1)
    scores = {name: ratio(cells @ part, cells @ whole) for name, (part, whole, _) in SHARES.items()}
    scores["f1"] = ratio(2 * tp, 2 * tp + fp + fn)
    scores["balanced_accuracy"] = (scores["sensitivity"] + scores["specificity"]) / 2
    both = (tp + fn > 0) & (tn + fp > 0)
    scale = np.sqrt((tp + fp) * (tn + fn) * (tp + fn) * (tn + fp))
    chance = (tp + fp) * (fp + tn) + (tp + fn) * (fn + tn)
    mcc = np.clip(ratio(tp * tn - fp * fn, scale), -1, 1)  # rounding may go beyond
    kappa = ratio(2 * (tp * tn - fp * fn), chance)
    # 0 where both classes are there and one of them is called
    scores["mcc"] = np.where(both, np.nan_to_num(mcc), np.nan)
    scores["kappa"] = np.where(both, np.nan_to_num(kappa), np.nan)
    return scores


def threshold_table(
    labels: ArrayLike, probability: ArrayLike, thresholds: Sequence[float] = THRESHOLDS
) -> list[dict[str, float | int | None]]:
    """Counts and scores of a classifier at several thresholds, by default 0.05, 0.10 .. 0.95.

    Args:
      labels: [N], 0 or 1.
      probability: [N] of class 1; or any finite score that grows with it, as log-odds.
      thresholds: in the same unit; infinity calls no case positive.

    Returns:
      One dict per threshold: threshold, tp, fp, fn, tn, sensitivity, specificity, precision, f1,
      mcc; an undefined score is None, see `classification_scores`, which also states the errors.
    """
    positive, values = check_binary(labels, probability)
    if not np.iterable(thresholds) or isinstance(thresholds, str):
        raise InputError(f"thresholds: {shown(thresholds)}, give a list of numbers")
    rows: list[dict[str, float | int | None]] = []
    for k, threshold in enumerate(thresholds):
        check_threshold(f"thresholds[{k}]", threshold)
        tn, fp, fn, tp = cells = cells_of(positive, values >= threshold)
        scores = confusion_scores(*(np.array([float(cell)]) for cell in cells))
        row: dict[str, float | int | None] = {
            "threshold": float(threshold),
            "tp": tp,
            "fp": fp,
            "fn": fn,
            "tn": tn,
        }
        for name in ("sensitivity", "specificity", "precision", "f1", "mcc"):
            value = float(scores[name][0])
            row[name] = None if math.isnan(value) else value
        rows.append(row)
    return rows


def check_threshold(name: str, threshold: float) -> None:
    """Raises InputError unless `threshold` is a number; infinity is one."""
    check_real(name, threshold, -math.inf, math.inf, "the number from which cases are called")
