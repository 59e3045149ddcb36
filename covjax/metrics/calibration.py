"""The temperature of a classifier, fitted on validation data only."""

import math

import numpy as np
from scipy.optimize import minimize_scalar

from covjax.errors import InputError
from covjax.metrics.checks import ArrayLike, Bools, Floats
from covjax.metrics.curves import check_binary

PRIOR = 0.5  # standard deviation of ln(temperature) around 0: 95 % lie within a factor of 2.7 of 1
REACH = 8.0  # of ln(temperature) on either side of 0, where the prior alone outweighs any loss


def fit_temperature(labels: ArrayLike, log_odds: ArrayLike) -> float:
    """Temperature by which to divide the log-odds of class 1: the likeliest, given a prior.

    The prior, a normal distribution of ln(temperature) around 0 with standard deviation PRIOR,
    weighs as much as a few cases. Without it few cases, or hardly any that are wrong, make
    probabilities of any sureness, and one later mistake costs any log loss. Cases without a mistake
    (see `separable`) say nothing of how sure to be: their temperature is 1.

    Args:
      labels: [N], 0 or 1, both present.
      log_odds: [N], logit of class 1 minus logit of class 0.

    Returns:
      The temperature; above 1 the classifier was too sure of itself.

    Raises:
      InputError: one class only, or see `classification_scores`.

    Source: C. Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599; the prior
    is not in it.
    """
    toward_true = _toward_true(labels, log_odds)
    if np.all(toward_true >= 0):
        return 1.0

    def cost(log_t: float) -> float:
        return np.logaddexp(0, -toward_true / math.exp(log_t)).sum() + 0.5 * (log_t / PRIOR) ** 2

    # Two basins are possible: one of the loss, one of the prior. The better of a coarse search is
    # then refined.
    grid = np.linspace(-REACH, REACH, 161)
    best = int(np.argmin([cost(log_t) for log_t in grid]))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)])
    found = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    return math.exp(found.x)


def separable(labels: ArrayLike, log_odds: ArrayLike) -> bool:
    """Whether log-odds call every case right at 0.

    The surer they were, the smaller their log loss would be. Arguments and errors: see
    `fit_temperature`.
    """
    return bool(np.all(_toward_true(labels, log_odds) >= 0))


def _toward_true(labels: ArrayLike, log_odds: ArrayLike) -> Floats:
    """Log-odds of the class that each case is of, [N]."""
    positive, values = check_binary(labels, log_odds, "log_odds")
    check_classes(positive)
    return np.where(positive, values, -values)


def check_classes(positive: Bools) -> None:
    """Raises InputError unless both classes are present."""
    if positive.all() or not positive.any():
        raise InputError(
            f"labels: {positive.size} cases of fewer than two classes, calibration needs both"
        )
