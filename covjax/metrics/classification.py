"""Scores of a binary classifier (0 healthy, 1 infected) from its labels and probabilities."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from covjax.errors import InputError
from covjax.metrics.curves import check_binary, weighted_areas
from covjax.metrics.intervals import hanley_mcneil, score, wilson
from covjax.metrics.resampling import MIN_UNITS, bootstrap, by_patient, ratio
from covjax.metrics.roc_area import delong

BINS = 10  # of the expected calibration error
THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))  # of the threshold table
# Scores that are shares of the cases in some cells of the confusion matrix, tn fp fn tp: which of which.
PROPORTIONS = {
    "accuracy": ((1, 0, 0, 1), (1, 1, 1, 1)),
    "sensitivity": ((0, 0, 0, 1), (0, 0, 1, 1)),
    "specificity": ((1, 0, 0, 0), (1, 1, 0, 0)),
    "precision": ((0, 0, 0, 1), (0, 1, 0, 1)),
}
TWO_CLASS = ("balanced_accuracy", "mcc", "kappa", "roc_auc", "average_precision")  # undefined with one class


class _Cases(NamedTuple):
    """Cases from the most to the least infected, each [N]."""

    positive: np.ndarray  # bool
    rank: np.ndarray  # float64, falling: probability or log-odds
    probability: np.ndarray  # float64, of class 1
    loss: np.ndarray  # float64, -ln of the probability given to the true class
    called: np.ndarray  # bool


def classification_scores(
    labels: np.ndarray,
    probability: np.ndarray | None = None,
    threshold: float | None = None,
    patients: Sequence[str] | None = None,
    called: np.ndarray | None = None,
    *,
    log_odds: np.ndarray | None = None,
) -> dict[str, dict]:
    """Scores of a binary classifier, each with its n and, where there is one, a 95 % interval.

    Give log-odds where they are known: probabilities near 1 are rounded to 1 (from log-odds of 17 on in float32, of 37
    on in float64), those near 0 are not, so that cases are tied on one side only.

    A case is called positive when probability >= threshold. What is undefined has value None and a reason,
    never NaN, and gives no warning:
    - everything, without cases;
    - sensitivity without positive cases, specificity without negative ones;
    - precision when nothing is called positive;
    - f1 when there is no positive case and nothing is called positive. It is 2 TP / (2 TP + FP + FN), so it
      is 0 when positive cases exist and none is called;
    - balanced_accuracy, mcc, kappa, roc_auc and average_precision when labels hold one class only. With both
      classes in the labels and one in the calls the formula of mcc is 0/0 and the value 0, as in
      scikit-learn.
    kappa is Cohen's, of calls and labels. average_precision is the step-wise sum of (R_k - R_k-1) P_k, not the
    trapezoid area. brier is the mean of (probability - label)^2; log_loss the mean of -ln of the probability given
    to the true class, exact from log-odds, and of probabilities taken as at least 2.2e-16; ece, the expected
    calibration error, the mean over cases of |share positive - mean probability| of their bin, in 10 bins of equal
    width, (0.1 i, 0.1 (i + 1)], 0 in the first.

    Intervals, named in each score: Wilson for accuracy, sensitivity, specificity and precision, whose n is the
    denominator of the proportion; DeLong for roc_auc, or Hanley-McNeil where a class has one case only. Both take
    cases as independent, which slices of one patient are not. With `patients` and at least 5 cases all others get a
    percentile bootstrap interval; with at least 5 patients, all known, these too get one, resampling patients,
    unless all resamples give one value.

    Args:
      labels: [N], 0 or 1.
      probability: [N] of class 1, 0..1; or log_odds in its place.
      threshold: of the call, of probabilities or of log-odds, whichever is given; None: 0.5, or log-odds of 0.
      patients: [N], the patient of every case, "" where unknown. None: no bootstrap.
      called: bool [N], which cases were called positive, in place of a threshold, as when folds have each their own.
      log_odds: [N], ln of probability / (1 - probability) of class 1, any finite number.

    Returns:
      name -> score (see `score`): accuracy, sensitivity, specificity, precision, f1, balanced_accuracy, mcc, kappa,
      roc_auc, average_precision, brier, log_loss, ece.

    Raises:
      InputError: not two vectors of one length, a label other than 0 and 1, a probability that is NaN or
        outside 0..1, log-odds that are not finite, neither of the two or both, patients or called of another length.

    Source of ece: C. Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599; here of class 1.
    """
    cases, order = _ordered(_cases(labels, probability, log_odds, threshold, called))
    n = order.size
    if patients is not None and len(patients) != n:
        raise InputError(f"patients: {len(patients)} of {n} cases, give one per case")
    tn, fp, fn, tp = cells = _cells(cases.positive, cases.called)
    values = {k: v[0] for k, v in _values(np.ones((1, n)), cases).items()}
    one_class = _one_class(tp + fn, tn + fp)
    reasons = dict.fromkeys(TWO_CLASS, one_class) | {
        "sensitivity": "no positive cases",
        "specificity": "no negative cases",
        "precision": "no case is called positive",
        "f1": "no positive cases and none called positive",
    }
    intervals = _closed_form(cells, values["roc_auc"], cases)
    if patients is not None and n >= MIN_UNITS:
        of_cases = [patients[i] for i in order]
        intervals = _bootstrapped(of_cases, intervals, cases)
    scores = {}
    for name, value in values.items():
        count = int(np.dot(cells, PROPORTIONS[name][1])) if name in PROPORTIONS else n
        interval, method = intervals.get(name, (None, None))
        scores[name] = score(value, count, interval, reasons.get(name) if n else "no cases", method)
    return scores


def threshold_table(
    labels: np.ndarray, probability: np.ndarray, thresholds: Sequence[float] = THRESHOLDS
) -> list[dict[str, float | int | None]]:
    """Counts and scores of a classifier at several thresholds, by default 0.05, 0.10 .. 0.95.

    Args:
      labels: [N], 0 or 1.
      probability: [N] of class 1; or any finite score that grows with it, as log-odds.
      thresholds: in the same unit; infinity calls no case positive.

    Returns:
      One dict per threshold: threshold, tp, fp, fn, tn, sensitivity, specificity, precision, f1, mcc; an undefined
      score is None, see `classification_scores`, which also states the errors.
    """
    positive, probability = check_binary(labels, probability)
    rows = []
    for threshold in thresholds:
        tn, fp, fn, tp = cells = _cells(positive, probability >= threshold)
        scores = confusion_scores(*(np.array([float(c)]) for c in cells))
        row = {"threshold": float(threshold), "tp": tp, "fp": fp, "fn": fn, "tn": tn}
        for name in ("sensitivity", "specificity", "precision", "f1", "mcc"):
            value = float(scores[name][0])
            row[name] = None if math.isnan(value) else value
        rows.append(row)
    return rows


def confusion_scores(tn: np.ndarray, fp: np.ndarray, fn: np.ndarray, tp: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of confusion matrices given by their cells, each float64 [R]; NaN where undefined."""
    cells = np.stack([tn, fp, fn, tp], 1)
    scores = {name: ratio(cells @ part, cells @ whole) for name, (part, whole) in PROPORTIONS.items()}
    scores["f1"] = ratio(2 * tp, 2 * tp + fp + fn)
    scores["balanced_accuracy"] = (scores["sensitivity"] + scores["specificity"]) / 2
    both = (tp + fn > 0) & (tn + fp > 0)
    scale = np.sqrt((tp + fp) * (tn + fn) * (tp + fn) * (tn + fp))
    mcc = np.clip(ratio(tp * tn - fp * fn, scale), -1, 1)  # rounding may go beyond
    scores["mcc"] = _zero_where(mcc, both & (scale == 0), both)
    chance = (tp + fp) * (fp + tn) + (tp + fn) * (fn + tn)
    scores["kappa"] = _zero_where(ratio(2 * (tp * tn - fp * fn), chance), both & (chance == 0), both)
    return scores


def _zero_where(values: np.ndarray, zero: np.ndarray, defined: np.ndarray) -> np.ndarray:
    return np.where(defined, np.where(zero, 0.0, values), np.nan)


def _values(weights: np.ndarray, cases: _Cases) -> dict[str, np.ndarray]:
    """Every score when case i counts weights[r, i] times: name -> float64 [R]."""
    positive, rank, probability, loss, called = cases
    losses = [(probability - positive) ** 2, loss]
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], probability) == np.arange(BINS)[:, None]
    terms = [~positive & ~called, ~positive & called, positive & ~called, positive & called, *losses]
    terms += [*(bins * (probability - positive))]
    sums = weights @ np.stack(terms, 1).astype(np.float64)
    n = weights.sum(1)
    auc, precision = weighted_areas(weights, positive, rank)
    return confusion_scores(*sums[:, :4].T) | {
        "roc_auc": auc,
        "average_precision": precision,
        "brier": ratio(sums[:, 4], n),
        "log_loss": ratio(sums[:, 5], n),
        "ece": ratio(np.abs(sums[:, 6:]).sum(1), n),
    }


def _closed_form(cells: tuple[int, ...], auc: float, cases: _Cases) -> dict:
    """name -> (interval, its method) of the scores that have one."""
    intervals = {}
    for name, (part, whole) in PROPORTIONS.items():
        if np.dot(cells, whole):
            intervals[name] = wilson(int(np.dot(cells, part)), int(np.dot(cells, whole))), "Wilson"
    n_positive = int(cases.positive.sum())
    n_negative = cases.positive.size - n_positive
    if min(n_positive, n_negative) >= 2:
        intervals["roc_auc"] = delong(cases.positive.astype(int), cases.rank), "DeLong"
    elif n_positive and n_negative:
        intervals["roc_auc"] = hanley_mcneil(float(auc), n_positive, n_negative), "Hanley-McNeil"
    return intervals


def _bootstrapped(patients: list[str], closed: dict, cases: _Cases) -> dict:
    """Adds bootstrap intervals; they replace the closed forms when patients are drawn and the resamples differ."""
    names: list[str] = []

    def statistic(weights):
        values = _values(weights, cases)
        names[:] = values
        return np.stack(list(values.values()), 1)

    low, high, method = bootstrap(statistic, patients)
    intervals = dict(closed)
    for i, name in enumerate(names):
        if (name not in closed and np.isfinite(low[i])) or (by_patient(patients) and low[i] < high[i]):
            intervals[name] = (low[i], high[i]), method
    return intervals


def _cells(positive: np.ndarray, called: np.ndarray) -> tuple[int, int, int, int]:
    """tn, fp, fn, tp."""
    pairs = ((~positive, ~called), (~positive, called), (positive, ~called), (positive, called))
    return tuple(int(np.sum(truth & call)) for truth, call in pairs)


def _one_class(n_positive: int, n_negative: int) -> str | None:
    if n_positive and n_negative:
        return None
    if n_positive:
        return "labels hold positive cases only"
    return "labels hold negative cases only" if n_negative else "no cases"


def _cases(
    labels: np.ndarray,
    probability: np.ndarray | None,
    log_odds: np.ndarray | None,
    threshold: float | None,
    called: np.ndarray | None,
) -> _Cases:
    if (probability is None) == (log_odds is None):
        raise InputError("probability: give either probability or log_odds, not both")
    if log_odds is None:
        positive, rank = _check(labels, probability)
        probability, tiny = rank, np.finfo(np.float64).eps
        loss = -np.log(np.clip(np.where(positive, rank, 1 - rank), tiny, 1 - tiny))
    else:
        positive, rank = check_binary(labels, log_odds, "log_odds")
        probability, loss = expit(rank), np.logaddexp(0, np.where(positive, -rank, rank))
    if called is None:
        called = rank >= ((0.5 if log_odds is None else 0.0) if threshold is None else threshold)
    called = np.asarray(called, bool)
    if called.shape != positive.shape:
        raise InputError(f"called: shape {called.shape}, give one per case, [{positive.size}]")
    return _Cases(positive, rank, probability, loss, called)


def _ordered(cases: _Cases) -> tuple[_Cases, np.ndarray]:
    """Sorts cases, because sums of floats must not depend on their order; returns the order too."""
    order = np.lexsort((cases.called, cases.positive, -cases.rank))
    return _Cases(*(values[order] for values in cases)), order


def _check(labels: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    positive, probability = check_binary(labels, probability)
    outside = np.count_nonzero((probability < 0) | (probability > 1))
    if outside:
        raise InputError(f"probability: {outside} of {probability.size} are outside 0..1, give logits as log_odds=...")
    return positive, probability
