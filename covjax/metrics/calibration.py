"""What is fitted on validation data only: the temperature of a classifier, and the threshold of its calls."""

import math

import numpy as np
from scipy.optimize import minimize_scalar

from covjax.errors import InputError, unknown
from covjax.metrics.classification import confusion_scores
from covjax.metrics.curves import check_binary, cumulative_counts

TEMPERATURES = (0.05, 20.0)
RULES = {
    "fixed": "classifier.threshold, whatever the validation part says",
    "youden": "largest sensitivity + specificity",
    "f1": "largest F1",
    "mcc": "largest Matthews correlation",
    "sensitivity": "sensitivity:0.95 is the highest threshold with at least that sensitivity",
    "specificity": "specificity:0.95 is the lowest threshold with at least that specificity",
}


def fit_temperature(labels: np.ndarray, log_odds: np.ndarray) -> float:
    """Temperature by which to divide the log-odds of class 1 so that the log loss of these cases is least.

    Args:
      labels: [N], 0 or 1, both present.
      log_odds: [N], logit of class 1 minus logit of class 0.

    Returns:
      The temperature, within 0.05..20; above 1 the classifier was too sure of itself.

    Raises:
      InputError: one class only, or see `classification_scores`.

    Source: C. Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599.
    """
    positive, log_odds = check_binary(labels, log_odds)
    _check_classes(positive)
    toward_true = np.where(positive, log_odds, -log_odds)
    # The loss is convex in 1/T, so it has one minimum in log T too.
    loss = lambda log_t: np.mean(np.logaddexp(0, -toward_true / math.exp(log_t)))  # noqa: E731
    bounds = tuple(math.log(t) for t in TEMPERATURES)
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9}).x)


def check_rule(field: str, rule: str) -> None:
    """Raises InputError unless `rule` is a rule of RULES, where it needs one with its level, as sensitivity:0.95."""
    name, _, level = rule.partition(":")
    if name not in RULES:
        raise unknown(field, rule, RULES)
    if name in ("sensitivity", "specificity"):
        try:
            fits = 0 < float(level) <= 1
        except ValueError:
            fits = False
        if not fits:
            raise InputError(f"{field}: '{rule}' needs a level above 0 and up to 1, as in {name}:0.95")
    elif level:
        raise InputError(f"{field}: '{rule}', {name} takes no level, write {name}")


def choose_threshold(labels: np.ndarray, probability: np.ndarray, rule: str) -> float:
    """The threshold that a rule chooses: youden, f1, mcc, sensitivity:LEVEL or specificity:LEVEL (see RULES).

    It lies halfway between two neighbouring probabilities of these cases (between the outermost and 0 or 1); of
    several that are as good the lowest is taken.

    Args:
      labels: [N], 0 or 1, both present.
      probability: [N] of class 1, 0..1; cases with probability >= threshold are called positive.
      rule: one of RULES but "fixed".

    Raises:
      InputError: one class only, an unknown rule, or see `classification_scores`.
    """
    check_rule("rule", rule)
    positive, probability = check_binary(labels, probability)
    _check_classes(positive)
    levels, tp, fp = cumulative_counts(positive, probability)
    fn, tn = tp[-1] - tp, fp[-1] - fp
    scores = confusion_scores(*(cell.astype(np.float64) for cell in (tn, fp, fn, tp)))
    name, _, level = rule.partition(":")
    if name == "sensitivity":
        chosen = int(np.argmax(scores[name] >= float(level)))
    elif name == "specificity":
        chosen = int(np.flatnonzero(scores[name] >= float(level))[-1]) if (scores[name] >= float(level)).any() else -1
    else:
        values = scores["balanced_accuracy" if name == "youden" else name]
        chosen = int(np.flatnonzero(values == values.max())[-1])
    if chosen < 0:  # calling nobody is the only way to that specificity
        return float(levels[0] + 1) / 2
    below = levels[chosen + 1] if chosen + 1 < levels.size else 0.0
    return float(levels[chosen] + below) / 2


def _check_classes(positive: np.ndarray) -> None:
    if positive.all() or not positive.any():
        raise InputError(f"labels: {positive.size} cases of fewer than two classes, calibration needs both")
