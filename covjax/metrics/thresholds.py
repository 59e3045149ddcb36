"""The threshold of a classifier's calls: the rules that choose it, and how it is stored."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import expit

from covjax.errors import InputError, unknown
from covjax.metrics.calibration import check_classes
from covjax.metrics.calls import confusion_scores
from covjax.metrics.checks import ArrayLike, Floats
from covjax.metrics.curves import check_binary, cumulative_counts

RULES = {
    "fixed": "classifier.threshold, whatever the validation split says",
    "youden": "largest sensitivity + specificity",
    "f1": "largest F1",
    "mcc": "largest Matthews correlation",
    "sensitivity": "sensitivity:0.95 is the highest threshold with at least that sensitivity",
    "specificity": "specificity:0.95 is the lowest threshold with at least that specificity",
}


def check_rule(field: str, rule: object) -> None:
    """Raises InputError unless `rule` is one of RULES, with its level where it needs one."""
    name, _, level = rule.partition(":") if isinstance(rule, str) else ("", "", "")
    if name not in RULES:
        raise unknown(field, rule, RULES)
    if name in ("sensitivity", "specificity"):
        if not _is_level(level):
            raise InputError(
                f"{field}: '{rule}' needs a level above 0 and up to 1, as in {name}:0.95"
            )
    elif level:
        raise InputError(f"{field}: '{rule}', {name} takes no level, write {name}")


def _is_level(text: str) -> bool:
    try:
        return 0 < float(text) <= 1
    except ValueError:
        return False


def choose_threshold(labels: ArrayLike, *, log_odds: ArrayLike, rule: str) -> float:
    """The threshold that a rule of RULES chooses: youden, f1, mcc, sensitivity:LEVEL or the like.

    It lies halfway between two neighbouring log-odds of these cases; below the lowest of them,
    where it halves that one's probability. Of several that are as good the lowest is taken. Calling
    these very cases by log-odds >= threshold fulfils the rule.

    Args:
      labels: [N], 0 or 1, both present.
      log_odds: [N] of class 1, any finite number; not probabilities, of which those near 1 are
        rounded to 1.
      rule: one of RULES but "fixed".

    Returns:
      The threshold, of log-odds; infinity where only calling no case positive reaches the
      specificity.

    Raises:
      InputError: one class only, an unknown rule, or see `classification_scores`.
    """
    check_rule("rule", rule)
    if rule == "fixed":
        raise InputError("rule: 'fixed' chooses nothing, give a rule that does, e.g. youden")
    positive, values = check_binary(labels, log_odds, "log_odds")
    check_classes(positive)
    levels, tp, fp = cumulative_counts(positive, values)
    fn = tp[-1] - tp
    tn = fp[-1] - fp
    scores = confusion_scores(*(cell.astype(np.float64) for cell in (tn, fp, fn, tp)))
    name, _, level = rule.partition(":")
    if name == "sensitivity":
        return _below(levels, int(np.argmax(scores[name] >= float(level))))
    if name == "specificity":
        fitting = np.flatnonzero(scores[name] >= float(level))
        return _below(levels, int(fitting[-1])) if fitting.size else np.inf
    values = scores["balanced_accuracy" if name == "youden" else name]
    return _below(levels, int(np.flatnonzero(values == values.max())[-1]))


def _below(levels: Floats, chosen: int) -> float:
    """A threshold that the levels (falling) up to `chosen` reach, and no other."""
    level = float(levels[chosen])
    if chosen + 1 == levels.size:
        return -float(np.logaddexp(0, np.log(2) - level))  # log-odds of half the probability
    middle = (level + float(levels[chosen + 1])) / 2
    return middle if levels[chosen + 1] < middle <= level else level


def threshold_to_json(log_odds: float) -> dict[str, Any]:
    """Returns a threshold of log-odds as JSON: as it is, and as the probability to show.

    Infinity, which calls nobody, becomes "inf"; NaN, of runs with different ones, None.
    """
    if np.isnan(log_odds):
        return {"threshold": None, "threshold_log_odds": None}
    stored = float(log_odds) if np.isfinite(log_odds) else str(float(log_odds))
    return {"threshold": float(expit(log_odds)), "threshold_log_odds": stored}


def threshold_from_json(values: Mapping[str, Any]) -> float:
    """Returns the log-odds that `threshold_to_json` wrote."""
    return float(values["threshold_log_odds"])
