"""Cross entropy and its class weights, aware of padding and of the ignore label."""

import jax
import jax.numpy as jnp
import numpy as np

from covjax.errors import InputError, unknown

CLASS_WEIGHTS = {
    "none": "every class weighs 1",
    "median_frequency": "median(frequency) / frequency: the paper's static attention (arXiv:2009.08864)",
    "inverse_frequency": "1 / frequency, scaled to mean 1",
    "sqrt_inverse_frequency": "1 / sqrt(frequency), scaled to mean 1: gentler where lesions are a few per cent",
}


def cross_entropy(
    logits: jax.Array, truth: jax.Array, valid: jax.Array, class_weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Weighted softmax cross entropy of each sample, as (sum, weight): the batch loss is sum(sums) / sum(weights).

    Args:
      logits: [N, K] or [N, H, W, K].
      truth: int [N] or [N, H, W]; a label outside 0..K-1 (255: ignore) weighs nothing.
      valid: bool [N]; False for the padding of a last batch.
      class_weights: [K].

    Returns:
      Two float32 arrays [N]: weighted loss summed over a sample's pixels, and the sum of the weights.
    """
    log_probability = jax.nn.log_softmax(logits.astype(jnp.float32))
    # One-hot rather than a gather of integer labels, which XLA turns into a slow scatter in the gradient.
    weights = jax.nn.one_hot(truth, logits.shape[-1]) * class_weights
    weights = weights * valid.reshape(-1, *[1] * (weights.ndim - 1))
    axes = tuple(range(1, weights.ndim))
    return -(weights * log_probability).sum(axes), weights.sum(axes)


def _numbers(rule: str | tuple[float, ...]) -> np.ndarray:
    try:
        return np.asarray(rule.split(",") if isinstance(rule, str) else rule, np.float32)
    except ValueError:
        raise InputError(f"class_weights: '{rule}' is not a list of numbers, write e.g. '0.5,2'") from None


def class_weights(rule: str | tuple[float, ...], counts: np.ndarray) -> np.ndarray:
    """Returns the weight of each class [K] from its number of samples or pixels `counts` [K] in the training part.

    `rule` is a name in CLASS_WEIGHTS, or the K weights themselves, as numbers or as "0.5,2". Raises InputError for
    another name, a wrong number of weights or a class that never occurs.
    """
    counts = np.asarray(counts, np.float64)
    if not isinstance(rule, str) or "," in rule:
        weights = _numbers(rule)
        if weights.shape != counts.shape or not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise InputError(f"class_weights: {rule} must be {len(counts)} weights >= 0, not all zero")
        return weights
    if rule not in CLASS_WEIGHTS:
        raise unknown("class_weights", rule, CLASS_WEIGHTS)
    if rule == "none":
        return np.ones(len(counts), np.float32)
    if (counts == 0).any():
        missing = int(np.flatnonzero(counts == 0)[0])
        raise InputError(f"class_weights: class {missing} never occurs in the training part, use class_weights='none'")
    frequency = counts / counts.sum()
    if rule == "median_frequency":
        return (np.median(frequency) / frequency).astype(np.float32)
    weights = 1 / (np.sqrt(frequency) if rule == "sqrt_inverse_frequency" else frequency)
    return (weights / weights.mean()).astype(np.float32)
