"""The form every score takes, and closed-form confidence intervals of proportions and ROC areas."""

import math
import numbers
from typing import Any

from covjax.errors import InputError
from covjax.metrics.checks import check_real, is_finite
from covjax.ops.checks import check_count


def score(
    value: float | None,
    n: int,
    interval: tuple[float, float] | None = None,
    reason: str | None = None,
    method: str | None = None,
    no_interval: str | None = None,
) -> dict[str, Any]:
    """Returns a JSON-safe score: {"value", "n"} and "interval" with its method, or "reason".

    Args:
      value: the score; None, NaN and infinities all mean undefined and become None.
      n: number of cases the score is computed over.
      interval: (low, high); kept for a defined value only, and where both limits are defined.
      reason: why the value is undefined; kept for an undefined value only, and required there.
      method: how the interval was made ("Wilson"), kept with it as "interval_method".
      no_interval: why a defined value has no interval, kept where there is none.

    Raises:
      InputError: an undefined value without a reason, a value that is no number, or an n that
        counts nothing.
    """
    if value is not None and not isinstance(value, numbers.Real):
        raise InputError(f"score: {value!r} is no number, give a number or None with the reason")
    check_count("score: n", n, 0, "the number of cases")
    if value is None or not math.isfinite(value):
        if not reason:
            raise InputError(f"score: the value is undefined ({value}), give the reason")
        return {"value": None, "n": int(n), "reason": reason}
    result: dict[str, Any] = {"value": float(value), "n": int(n)}
    if interval is not None and all(map(is_finite, interval)):
        result["interval"] = [float(interval[0]), float(interval[1])]
        if method:
            result["interval_method"] = method
    elif no_interval:
        result["no_interval"] = no_interval
    return result


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a proportion, a pair (low, high) within 0..1.

    Args:
      successes: number of successes, 0..n.
      n: number of independent trials, at least 1. Slices of one patient are not independent: the
        interval is then too narrow.
      z: normal quantile; 1.96 gives 95 %.

    Raises:
      InputError: n < 1 or successes outside 0..n.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22 (1927).
    """
    if not (is_finite(successes) and is_finite(n)) or n < 1 or not 0 <= successes <= n:
        raise InputError(
            f"wilson: successes={successes} of n={n}, give n >= 1 and successes in 0..n"
        )
    check_real("wilson: z", z, 0, math.inf, "a normal quantile, 1.96 for 95 %")
    share = successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    # At 0 and n successes one end is exactly 0 or 1; rounding must not say otherwise.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def hanley_mcneil(auc: float, n_positive: int, n_negative: int) -> tuple[float, float]:
    """Hanley and McNeil's 95 % interval of a ROC area, a pair (low, high) clipped to 0..1.

    The standard error is 0 at an area of 0 or 1, so there the interval is a point: read it with the
    counts.

    Args:
      auc: the area, 0..1.
      n_positive: number of positive cases, at least 1.
      n_negative: number of negative cases, at least 1.

    Raises:
      InputError: an area outside 0..1 or a class without cases.

    Source: J. A. Hanley, B. J. McNeil, "The meaning and use of the area under a receiver operating
    characteristic (ROC) curve", Radiology 143 (1982).
    """
    if not (is_finite(auc) and 0 <= auc <= 1):
        raise InputError(f"hanley_mcneil: auc={auc}, give an area in 0..1")
    if not all(is_finite(n) and n >= 1 for n in (n_positive, n_negative)):
        raise InputError(
            f"hanley_mcneil: n_positive={n_positive}, n_negative={n_negative}, "
            "give at least 1 of each"
        )
    square = auc * auc
    q1 = auc / (2 - auc)
    q2 = 2 * square / (1 + auc)
    spread = auc * (1 - auc) + (n_positive - 1) * (q1 - square) + (n_negative - 1) * (q2 - square)
    half = 1.96 * math.sqrt(max(0.0, spread) / (n_positive * n_negative))
    return max(0.0, auc - half), min(1.0, auc + half)
