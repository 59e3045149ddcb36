"""Scores of a binary classifier (0 healthy, 1 infected) from its labels and probabilities."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from covjax.errors import InputError
from covjax.metrics.calls import SHARES, cells_of, check_threshold, confusion_scores
from covjax.metrics.checks import ArrayLike, Bools, Floats, Integers, as_array, check_patients
from covjax.metrics.curves import check_binary, weighted_areas
from covjax.metrics.intervals import wilson
from covjax.metrics.jackknife import Limits, limited, share_limits, t_intervals
from covjax.metrics.resampling import ratio
from covjax.metrics.roc_area import delong
from covjax.scores import SCORES, Scale

BINS = 10  # of the expected calibration error
SCALE_OF: dict[str, Scale] = {
    score.name: score.scale for score in SCORES["classifier"] if score.scale
}
# undefined with one class
TWO_CLASS = ("balanced_accuracy", "mcc", "kappa", "roc_auc", "average_precision")


class _Cases(NamedTuple):
    """Cases from the most to the least infected, each [N]."""

    positive: Bools
    rank: Floats  # falling: probability or log-odds
    probability: Floats  # of class 1
    loss: Floats  # -ln of the probability given to the true class
    called: Bools


def classification_scores(
    labels: ArrayLike,
    probability: ArrayLike | None = None,
    threshold: float | None = None,
    patients: Sequence[str] | None = None,
    called: ArrayLike | None = None,
    *,
    log_odds: ArrayLike | None = None,
) -> dict[str, dict[str, Any]]:
    """Scores of a binary classifier, each with its n and, where there is one, a 95 % interval.

    Give log-odds where they are known: probabilities near 1 are rounded to 1 (from log-odds of 17
    on in float32, of 37 on in float64), those near 0 are not, so that cases are tied on one side
    only.

    A case is called positive when probability >= threshold. What is undefined has value None and a
    reason, never NaN, and gives no warning:
    - everything, without cases;
    - sensitivity without positive cases, specificity without negative ones;
    - precision when nothing is called positive;
    - f1 when there is no positive case and nothing is called positive. It is
      2 TP / (2 TP + FP + FN), so it is 0 when positive cases exist and none is called;
    - balanced_accuracy, mcc, kappa, roc_auc and average_precision when labels hold one class only.
      With both classes in the labels and one in the calls the formula of mcc is 0/0 and the value
      0, as in scikit-learn.
    kappa is Cohen's, of calls and labels. average_precision is the step-wise sum of
    (R_k - R_k-1) P_k, not the trapezoid area. brier is the mean of (probability - label)^2;
    log_loss the mean of -ln of the probability given to the true class, exact from log-odds, and of
    probabilities taken as at least 2.2e-16; ece, the expected calibration error, the mean over
    cases of |share positive - mean probability| of their bin, in 10 bins of equal width,
    (0.1 i, 0.1 (i + 1)], 0 in the first.

    Intervals are 95 %, and each names its method or why there is none. With `patients`: t over
    patients, a case whose patient is unknown as one (see `covjax.metrics.jackknife.t_intervals`),
    none with fewer than 5 of them; Wilson for accuracy, sensitivity, specificity and precision
    where no patient is known, which takes cases as independent, or where all of them are alike.
    Without: Wilson, and DeLong for roc_auc. ece has none, because resampling adds to a mean of
    absolute values; with `patients` it also holds "by_chance", its mean where labels are drawn by
    the probabilities given, so that these are right, and "by_chance_high", what it then exceeds in
    1 of 40 draws.

    Args:
      labels: [N], 0 or 1.
      probability: [N] of class 1, 0..1; or log_odds in its place.
      threshold: of the call, of probabilities or of log-odds, whichever is given; None: 0.5, or
        log-odds of 0.
      patients: [N], the patient of every case, "" where unknown. None: closed forms.
      called: bool [N], which cases were called positive, in place of a threshold, as when folds
        have each their own.
      log_odds: [N], ln of probability / (1 - probability) of class 1, any finite number.

    Returns:
      name -> score (see `score`): accuracy, sensitivity, specificity, precision, f1,
      balanced_accuracy, mcc, kappa, roc_auc, average_precision, brier, log_loss, ece.

    Raises:
      InputError: not two vectors of one length, a label other than 0 and 1, a probability that is
        NaN or outside 0..1, log-odds that are not finite, neither of the two or both, patients or
        called of another length.

    Source of ece: C. Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599; here
    of class 1.
    """
    cases, order = _cases(labels, probability, log_odds, threshold, called)
    n = order.size
    cells = cells_of(cases.positive, cases.called)
    values = {name: float(value[0]) for name, value in _values(np.ones((1, n)), cases).items()}
    if patients is None:
        limits = _without_patients(cells, cases)
    else:
        check_patients(patients, n)
        ordered = np.asarray(patients, dtype=str)[order].tolist()
        limits = _over_patients(ordered, cells, cases) if n else {}
    limits["ece"] = Limits(None, reason="resampling adds to it")
    reasons = _reasons(cells)
    scores: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        count = int(np.dot(cells, SHARES[name].whole)) if name in SHARES else n
        reason = reasons.get(name) if n else "no cases"
        scores[name] = limited(value, count, limits.get(name, Limits(None)), reason)
    if n and patients is not None:
        scores["ece"] |= ece_by_chance(cases.probability)
    return scores


def ece_by_chance(probability: Floats, draws: int = 200, seed: int = 0) -> dict[str, float]:
    """The calibration error that probabilities [N] have by chance alone, where they are right.

    Labels are drawn by the probabilities given, independently. Returns "by_chance", the mean over
    the draws, and "by_chance_high", their 97.5 % quantile.

    Source: consistency resampling, J. Brocker, L. A. Smith, "Increasing the reliability of
    reliability diagrams", Weather and Forecasting 22 (2007); of the calibration error, J.
    Vaicenavicius et al., arXiv:1902.06977.
    """
    rng = np.random.default_rng(seed)
    place = _bins(probability)
    found: list[float] = []
    for _ in range(draws):
        gap = np.bincount(place, probability - (rng.random(probability.size) < probability), BINS)
        found.append(np.abs(gap).sum() / probability.size)
    return {"by_chance": float(np.mean(found)), "by_chance_high": float(np.quantile(found, 0.975))}


def _bins(probability: Floats) -> Integers:
    return np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], probability)


def _values(weights: Floats, cases: _Cases) -> dict[str, Floats]:
    """Every score when case i counts weights[r, i] times: name -> [R]."""
    positive, rank, probability, loss, called = cases
    bins = _bins(probability) == np.arange(BINS)[:, None]
    terms = [
        ~positive & ~called,
        ~positive & called,
        positive & ~called,
        positive & called,
        (probability - positive) ** 2,
        loss,
        *(bins * (probability - positive)),
    ]
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


def _without_patients(cells: tuple[int, ...], cases: _Cases) -> dict[str, Limits]:
    """Closed forms, which take cases as independent."""
    limits: dict[str, Limits] = {}
    for name, (part, whole, _) in SHARES.items():
        n = int(np.dot(cells, whole))
        if n:
            limits[name] = Limits(wilson(int(np.dot(cells, part)), n), "Wilson")
    fewer = min(cases.positive.sum(), np.sum(~cases.positive))
    if fewer >= 2:
        low, high = delong(cases.positive, cases.rank)
        alike = Limits(None, reason="its variance is 0")
        limits["roc_auc"] = Limits((low, high), "DeLong") if low < high else alike
    elif fewer == 1:
        limits["roc_auc"] = Limits(None, reason="a class with one case")
    return limits


def _over_patients(
    patients: Sequence[str], cells: tuple[int, ...], cases: _Cases
) -> dict[str, Limits]:
    """Intervals of all scores over patients, or over cases where patients are unknown."""

    def statistic(weights: Floats) -> Floats:
        values = _values(weights, cases)
        return np.stack([values[name] for name in SCALE_OF], 1)

    of = _weights_of(cases, patients)
    weights = np.stack([of[name] for name in SCALE_OF], 1)
    found = t_intervals(statistic, patients, weights, list(SCALE_OF.values()))
    limits = dict(zip(SCALE_OF, found, strict=True))
    for name, (part, _, _) in SHARES.items():
        counted = [patient for patient, weight in zip(patients, of[name], strict=True) if weight]
        limits[name] = share_limits(int(np.dot(cells, part)), len(counted), limits[name], counted)
    return limits


def _weights_of(cases: _Cases, patients: Sequence[str]) -> dict[str, Bools]:
    """Which cases count in every score.

    Scores of both classes are as uncertain as the class of fewer patients.
    """
    every = np.ones(cases.positive.size, bool)
    classes = (cases.positive, ~cases.positive)
    counts = [len({p for p, one in zip(patients, some, strict=True) if one}) for some in classes]
    fewer = classes[int(np.argmin(counts))]
    cell = 2 * cases.positive + cases.called
    return (
        dict.fromkeys(SCALE_OF, every)
        | dict.fromkeys(TWO_CLASS, fewer)
        | {name: np.array(share.whole, bool)[cell] for name, share in SHARES.items()}
        | {"f1": cases.positive | cases.called}
    )


def _reasons(cells: tuple[int, int, int, int]) -> dict[str, str]:
    """Why scores are undefined, where they are."""
    tn, fp, _, _ = cells
    only = "labels hold negative cases only" if tn + fp else "labels hold positive cases only"
    return (
        dict.fromkeys(TWO_CLASS, only)
        | {name: share.reason for name, share in SHARES.items()}
        | {"f1": "no positive cases and none called positive"}
    )


def _cases(
    labels: ArrayLike,
    probability: ArrayLike | None,
    log_odds: ArrayLike | None,
    threshold: float | None,
    called: ArrayLike | None,
) -> tuple[_Cases, Integers]:
    """Checks and sorts cases, because sums of floats must not depend on their order.

    Returns them and their order.
    """
    if probability is not None and log_odds is None:
        positive, rank = check_binary(labels, probability)
        outside = np.count_nonzero((rank < 0) | (rank > 1))
        if outside:
            raise InputError(
                f"probability: {outside} of {rank.size} are outside 0..1, "
                "give logits as log_odds=..."
            )
        likely = rank
        tiny = np.finfo(np.float64).eps
        loss = -np.log(np.clip(np.where(positive, rank, 1 - rank), tiny, 1 - tiny))
    elif log_odds is not None and probability is None:
        positive, rank = check_binary(labels, log_odds, "log_odds")
        likely = np.asarray(expit(rank))
        loss = np.logaddexp(0, np.where(positive, -rank, rank))
    else:
        raise InputError("probability: give either probability or log_odds, not both")
    if called is None:
        threshold = (0.5 if log_odds is None else 0.0) if threshold is None else threshold
        check_threshold("threshold", threshold)
        calls = rank >= threshold
    else:
        calls = _truths(called, rank.size)
    order = np.lexsort((calls, positive, -rank))
    cases = _Cases(positive[order], rank[order], likely[order], loss[order], calls[order])
    return cases, order


def _truths(called: ArrayLike, n: int) -> Bools:
    truths = as_array("called", called, "True or False for every case, [N]")
    if not np.isin(truths, (0, 1)).all():
        raise InputError(
            "called: values other than True and False, give comparisons, e.g. probability >= 0.5"
        )
    if truths.shape != (n,):
        raise InputError(f"called: shape {truths.shape}, give one per case, [{n}]")
    return truths.astype(bool)
