"""Scores of a binary classifier (0 healthy, 1 infected) from its labels and probabilities."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from covjax.errors import InputError
from covjax.metrics.checks import as_array, check_patients, check_real
from covjax.metrics.curves import check_binary, weighted_areas
from covjax.metrics.intervals import wilson
from covjax.metrics.jackknife import Limits, limited, share_limits, t_intervals
from covjax.metrics.registry import SCORES
from covjax.metrics.resampling import ratio
from covjax.metrics.roc_area import delong
from covjax.ops.checks import shown

BINS = 10  # of the expected calibration error
THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))  # of the threshold table
# Scores that are shares of the cases in some cells of the confusion matrix, tn fp fn tp: which of
# which.
PROPORTIONS = {
    "accuracy": ((1, 0, 0, 1), (1, 1, 1, 1)),
    "sensitivity": ((0, 0, 0, 1), (0, 0, 1, 1)),
    "specificity": ((1, 0, 0, 0), (1, 1, 0, 0)),
    "precision": ((0, 0, 0, 1), (0, 1, 0, 1)),
}
SCALE_OF = {score.name: score.scale for score in SCORES["classifier"] if score.scale}
# undefined with one class
TWO_CLASS = ("balanced_accuracy", "mcc", "kappa", "roc_auc", "average_precision")


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

    Give log-odds where they are known: probabilities near 1 are rounded to 1 (from log-odds of 17
    on in float32, of 37 on in float64), those near 0 are not, so that cases are tied on one side
    only.

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

    Intervals are 95 %, and each names its method or why there is none. With `patients`: t over
    patients, a case whose patient is unknown as one (see `covjax.metrics.jackknife.t_intervals`),
    none with fewer than 5 of them; Wilson for accuracy, sensitivity, specificity and precision
    where no patient is known, which takes cases as independent, or where all of them are alike.
    Without: Wilson, and DeLong for roc_auc. ece has none, because resampling adds to a mean of
    absolute values; with `patients`, beside it stand "by_chance", its mean where labels are drawn
    by the probabilities given, so that these are right, and "by_chance_high", what it then exceeds
    in 1 of 40 draws.

    Args:
      labels: [N], 0 or 1.
      probability: [N] of class 1, 0..1; or log_odds in its place.
      threshold: of the call, of probabilities or of log-odds, whichever is given; None: 0.5, or log-odds of 0.
      patients: [N], the patient of every case, "" where unknown. None: closed forms.
      called: bool [N], which cases were called positive, in place of a threshold, as when folds have each their own.
      log_odds: [N], ln of probability / (1 - probability) of class 1, any finite number.

    Returns:
      name -> score (see `score`): accuracy, sensitivity, specificity, precision, f1, balanced_accuracy, mcc, kappa,
      roc_auc, average_precision, brier, log_loss, ece.

    Raises:
      InputError: not two vectors of one length, a label other than 0 and 1, a probability that is NaN or
        outside 0..1, log-odds that are not finite, neither of the two or both, patients or called of another length.

    Source of ece: C. Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599; here
    of class 1.
    """
    cases, order = _ordered(_cases(labels, probability, log_odds, threshold, called))
    n = order.size
    if patients is not None:
        check_patients(patients, n)
    tn, fp, fn, tp = cells = _cells(cases.positive, cases.called)
    values = {k: v[0] for k, v in _values(np.ones((1, n)), cases).items()}
    one_class = _one_class(tp + fn, tn + fp)
    reasons = dict.fromkeys(TWO_CLASS, one_class) | {
        "sensitivity": "no positive cases",
        "specificity": "no negative cases",
        "precision": "no case is called positive",
        "f1": "no positive cases and none called positive",
    }
    limits = _without_patients(cells, values, cases) if patients is None else {}
    if patients is not None and n:
        limits = _over_patients([patients[i] for i in order], cells, cases)
    limits["ece"] = Limits(None, reason="resampling adds to it")
    scores = {}
    for name, value in values.items():
        count = int(np.dot(cells, PROPORTIONS[name][1])) if name in PROPORTIONS else n
        reason = reasons.get(name) if n else "no cases"
        scores[name] = limited(value, count, limits.get(name, Limits(None)), reason)
    if n and patients is not None:
        scores["ece"] |= ece_by_chance(cases.probability)
    return scores


def ece_by_chance(probability: np.ndarray, draws: int = 200, seed: int = 0) -> dict[str, float]:
    """The calibration error that probabilities float64 [N] have by chance alone, where they are
    right.

    Labels are drawn by the probabilities given, independently. Returns "by_chance", the mean over
    the draws, and "by_chance_high", their 97.5 % quantile.

    Source: consistency resampling, J. Brocker, L. A. Smith, "Increasing the reliability of
    reliability diagrams", Weather and Forecasting 22 (2007); of the calibration error, J.
    Vaicenavicius et al., arXiv:1902.06977.
    """
    rng = np.random.default_rng(seed)
    place = _bins(probability)
    found = []
    for _ in range(draws):
        gap = np.bincount(place, probability - (rng.random(probability.size) < probability), BINS)
        found.append(np.abs(gap).sum() / probability.size)
    return {"by_chance": float(np.mean(found)), "by_chance_high": float(np.quantile(found, 0.975))}


def _bins(probability: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], probability)


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
    if not np.iterable(thresholds) or isinstance(thresholds, str):
        raise InputError(f"thresholds: {shown(thresholds)}, give a list of numbers")
    rows = []
    for k, threshold in enumerate(thresholds):
        check_real(
            f"thresholds[{k}]",
            threshold,
            -math.inf,
            math.inf,
            "the number from which cases are called",
        )
        tn, fp, fn, tp = cells = _cells(positive, probability >= threshold)
        scores = confusion_scores(*(np.array([float(c)]) for c in cells))
        row = {"threshold": float(threshold), "tp": tp, "fp": fp, "fn": fn, "tn": tn}
        for name in ("sensitivity", "specificity", "precision", "f1", "mcc"):
            value = float(scores[name][0])
            row[name] = None if math.isnan(value) else value
        rows.append(row)
    return rows


def confusion_scores(
    tn: np.ndarray, fp: np.ndarray, fn: np.ndarray, tp: np.ndarray
) -> dict[str, np.ndarray]:
    """Scores of confusion matrices given by their cells, each float64 [R]; NaN where undefined."""
    cells = np.stack([tn, fp, fn, tp], 1)
    scores = {
        name: ratio(cells @ part, cells @ whole) for name, (part, whole) in PROPORTIONS.items()
    }
    scores["f1"] = ratio(2 * tp, 2 * tp + fp + fn)
    scores["balanced_accuracy"] = (scores["sensitivity"] + scores["specificity"]) / 2
    both = (tp + fn > 0) & (tn + fp > 0)
    scale = np.sqrt((tp + fp) * (tn + fn) * (tp + fn) * (tn + fp))
    mcc = np.clip(ratio(tp * tn - fp * fn, scale), -1, 1)  # rounding may go beyond
    scores["mcc"] = _zero_where(mcc, both & (scale == 0), both)
    chance = (tp + fp) * (fp + tn) + (tp + fn) * (fn + tn)
    scores["kappa"] = _zero_where(
        ratio(2 * (tp * tn - fp * fn), chance), both & (chance == 0), both
    )
    return scores


def _zero_where(values: np.ndarray, zero: np.ndarray, defined: np.ndarray) -> np.ndarray:
    return np.where(defined, np.where(zero, 0.0, values), np.nan)


def _values(weights: np.ndarray, cases: _Cases) -> dict[str, np.ndarray]:
    """Every score when case i counts weights[r, i] times: name -> float64 [R]."""
    positive, rank, probability, loss, called = cases
    losses = [(probability - positive) ** 2, loss]
    bins = _bins(probability) == np.arange(BINS)[:, None]
    terms = [
        ~positive & ~called,
        ~positive & called,
        positive & ~called,
        positive & called,
        *losses,
    ]
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


def _without_patients(
    cells: tuple[int, ...], values: dict[str, float], cases: _Cases
) -> dict[str, Limits]:
    """Closed forms, which take cases as independent."""
    limits = {}
    for name, (part, whole) in PROPORTIONS.items():
        if np.dot(cells, whole):
            limits[name] = Limits(
                wilson(int(np.dot(cells, part)), int(np.dot(cells, whole))), "Wilson"
            )
    positive = int(cases.positive.sum())
    if min(positive, cases.positive.size - positive) >= 2:
        low, high = delong(cases.positive.astype(int), cases.rank)
        alike = Limits(None, reason="its variance is 0")
        limits["roc_auc"] = Limits((low, high), "DeLong") if low < high else alike
    elif 0 < positive < cases.positive.size:
        limits["roc_auc"] = Limits(None, reason="a class with one case")
    return limits


def _over_patients(patients: list[str], cells: tuple[int, ...], cases: _Cases) -> dict[str, Limits]:
    """Intervals of all scores over patients, or over cases where patients are unknown."""
    names = list(SCALE_OF)

    def statistic(weights: np.ndarray) -> np.ndarray:
        values = _values(weights, cases)
        return np.stack([values[name] for name in names], 1)

    of = _weights_of(cases, patients)
    weights = np.stack([of[name] for name in names], 1)
    found = t_intervals(statistic, patients, weights, [SCALE_OF[name] for name in names])
    limits = dict(zip(names, found, strict=True))
    for name, (part, whole) in PROPORTIONS.items():
        counted = [patient for patient, weight in zip(patients, of[name], strict=True) if weight]
        hits = int(np.dot(cells, part)), int(np.dot(cells, whole))
        limits[name] = share_limits(*hits, limits[name], counted)
    return limits


def _weights_of(cases: _Cases, patients: list[str]) -> dict[str, np.ndarray]:
    """What every case weighs in every score: scores of both classes are as uncertain as the class
    of fewer patients.
    """
    of = dict.fromkeys(SCALE_OF, np.ones(cases.positive.size))
    of |= {"sensitivity": cases.positive, "specificity": ~cases.positive, "precision": cases.called}
    classes = (cases.positive, ~cases.positive)
    counts = [len({p for p, one in zip(patients, some, strict=True) if one}) for some in classes]
    fewer = classes[int(np.argmin(counts))]
    return of | dict.fromkeys(TWO_CLASS, fewer) | {"f1": cases.positive | cases.called}


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
        probability = rank
        tiny = np.finfo(np.float64).eps
        loss = -np.log(np.clip(np.where(positive, rank, 1 - rank), tiny, 1 - tiny))
    else:
        positive, rank = check_binary(labels, log_odds, "log_odds")
        probability = expit(rank)
        loss = np.logaddexp(0, np.where(positive, -rank, rank))
    if called is None:
        threshold = (0.5 if log_odds is None else 0.0) if threshold is None else threshold
        check_real(
            "threshold", threshold, -math.inf, math.inf, "the number from which cases are called"
        )
        called = rank >= threshold
    called = _truths(called)
    if called.shape != positive.shape:
        raise InputError(f"called: shape {called.shape}, give one per case, [{positive.size}]")
    return _Cases(positive, rank, probability, loss, called)


def _truths(called: np.ndarray) -> np.ndarray:
    called = as_array("called", called, "True or False for every case, [N]")
    if not np.isin(called, (0, 1)).all():
        raise InputError(
            "called: values other than True and False, give comparisons, e.g. probability >= 0.5"
        )
    return called.astype(bool)


def _ordered(cases: _Cases) -> tuple[_Cases, np.ndarray]:
    """Sorts cases, because sums of floats must not depend on their order; returns the order too."""
    order = np.lexsort((cases.called, cases.positive, -cases.rank))
    return _Cases(*(values[order] for values in cases)), order


def _check(labels: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    positive, probability = check_binary(labels, probability)
    outside = np.count_nonzero((probability < 0) | (probability > 1))
    if outside:
        raise InputError(
            f"probability: {outside} of {probability.size} are outside 0..1, give logits as log_odds=..."
        )
    return positive, probability
