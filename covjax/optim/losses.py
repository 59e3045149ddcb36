"""Losses by name, and class weights: aware of padding and the ignore label, safe on empty masks.

Every loss is given per sample as (sum [N], weight [N]), float32, and the loss of a batch is
sum(sums) / sum(weights): so it is the same however a batch is divided over devices. Those that
count pixels weigh a sample by its pixels, those that compare regions are computed on every slice by
itself and averaged over the slices, never over the pixels of a whole batch.
"""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from covjax.errors import InputError, unknown
from covjax.optim.settings import CLASS_WEIGHTS, LOSSES, LossSettings

SampleLoss = tuple[jax.Array, jax.Array]


def sample_losses(
    config: LossSettings,
    logits: jax.Array,
    truth: jax.Array,
    valid: jax.Array,
    class_weights: jax.Array,
) -> SampleLoss:
    """The loss of each sample that `config`, the `loss` section of a stage, names."""
    match config.name:
        case "cross_entropy":
            return cross_entropy(logits, truth, valid, class_weights)
        case "focal":
            return focal(logits, truth, valid, class_weights, config.focal_gamma)
        case "dice":
            return dice(logits, truth, valid, config.smooth)
        case "generalized_dice":
            return generalized_dice(logits, truth, valid)
        case "tversky":
            return tversky(
                logits, truth, valid, config.tversky_alpha, config.tversky_beta, config.smooth
            )
        case "ce_dice":
            return ce_dice(logits, truth, valid, class_weights, config.smooth)
    raise unknown("loss.name", config.name, LOSSES)


def cross_entropy(
    logits: jax.Array, truth: jax.Array, valid: jax.Array, class_weights: jax.Array
) -> SampleLoss:
    """Weighted softmax cross entropy of each sample: batch loss = sum(sums) / sum(weights).

    Args:
      logits: [N, K] or [N, H, W, K].
      truth: int [N] or [N, H, W]; a label outside 0..K-1 (255: ignore) weighs nothing. Or as many
        axes as `logits`: the share of each class, of mixed samples, which then count as so many
        parts of a sample of each.
      valid: bool [N]; False for the padding of a last batch.
      class_weights: [K].

    Returns:
      Two float32 arrays [N]: weighted loss summed over a sample's pixels, and the sum of weights.
    """
    log_probability, counted = _compared(logits, truth, valid)
    return _summed(-log_probability, counted, class_weights)


def focal(
    logits: jax.Array, truth: jax.Array, valid: jax.Array, class_weights: jax.Array, gamma: float
) -> SampleLoss:
    """Focal loss -(1 - p)^gamma log p of the true class; called as `cross_entropy`.

    Class weights are the paper's alpha. Divided by the sum of the weights, as cross entropy is, not
    by the number of foreground samples as in the paper's detector: with gamma 0 it is cross
    entropy.

    Source: "Focal Loss for Dense Object Detection" (2017), arXiv:1708.02002.
    """
    log_probability, counted = _compared(logits, truth, valid)
    # Not quite 0, where the derivative of a power below 1 is infinite.
    missed = jnp.maximum(-jnp.expm1(log_probability), 1e-12)
    return _summed(-(missed**gamma) * log_probability, counted, class_weights)


def tversky(
    logits: jax.Array, truth: jax.Array, valid: jax.Array, alpha: float, beta: float, smooth: float
) -> SampleLoss:
    """1 - (TP + smooth) / (TP + alpha FP + beta FN + smooth), mean over the classes 1..K-1.

    TP, FP and FN are sums of probabilities over the sample's pixels; the background, class 0, does
    not count. On a slice without infection the loss is 0 where none is predicted.

    Args:
      logits: [N, H, W, K].
      truth: int [N, H, W]; a label outside 0..K-1 (255: ignore) counts nowhere.
      valid: bool [N]; False for the padding of a last batch.
      alpha, beta: what a false positive and a false negative weigh.
      smooth: pixels, above 0.

    Returns:
      Two float32 arrays [N]: the loss, and 1; both 0 for padding and for a sample of ignored
      pixels alone.

    Source: "Tversky loss function for image segmentation using 3D fully convolutional deep
    networks" (2017), arXiv:1706.05721.
    """
    hit, predicted, true = _overlap(logits, truth, valid)
    either = hit + alpha * (predicted - hit) + beta * (true - hit)
    index = (hit + smooth) / (either + smooth)
    return _each(1 - index[:, 1:].mean(-1), true)


def dice(logits: jax.Array, truth: jax.Array, valid: jax.Array, smooth: float) -> SampleLoss:
    """1 - (2 TP + smooth) / (predicted + true + smooth) of each sample; called as `tversky`.

    Source: "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation"
    (2016), arXiv:1606.04797; with plain sums in the denominator, as in arXiv:1707.03237, where
    V-Net has sums of squares.
    """
    return tversky(logits, truth, valid, 0.5, 0.5, smooth / 2)


def generalized_dice(logits: jax.Array, truth: jax.Array, valid: jax.Array) -> SampleLoss:
    """1 - 2 sum_k(w_k TP_k) / sum_k(w_k (predicted_k + true_k)) over all classes, background too.

    Of each sample; w_k = 1 / true_k^2; a class absent from the truth gets the largest weight among
    those present (the paper leaves it undefined; so does its authors' NiftyNet). Called as
    `tversky`.

    Source: "Generalised Dice overlap as a deep learning loss function for highly unbalanced
    segmentations" (2017), arXiv:1707.03237.
    """
    hit, predicted, true = _overlap(logits, truth, valid)
    # Only the ratio of the weights counts: relative to the rarest class they neither overflow nor
    # vanish.
    rarest = jnp.min(jnp.where(true > 0, true, jnp.inf), -1, keepdims=True)
    weights = jnp.where(true > 0, rarest / jnp.maximum(true, 1), 1) ** 2
    whole = (weights * (predicted + true)).sum(-1)
    return _each(1 - 2 * (weights * hit).sum(-1) / jnp.where(whole > 0, whole, 1), true)


def ce_dice(
    logits: jax.Array, truth: jax.Array, valid: jax.Array, class_weights: jax.Array, smooth: float
) -> SampleLoss:
    """Cross entropy, averaged over the pixels of each sample, plus `dice`.

    Class weights are for the former.

    Source: "Automated Design of Deep Learning Methods for Biomedical Image Segmentation" (2019),
    arXiv:1904.08128; there both are computed over a whole batch.
    """
    total, weight = cross_entropy(logits, truth, valid, class_weights)
    overlap, each = dice(logits, truth, valid, smooth)
    return each * total / jnp.where(weight > 0, weight, 1) + overlap, each


def _compared(logits: jax.Array, truth: jax.Array, valid: jax.Array) -> SampleLoss:
    """Log probabilities, and one-hot truth, 0 for what does not count, both float32 [N, .., K]."""
    chex.assert_rank(truth, {logits.ndim - 1, logits.ndim})
    chex.assert_shape(truth, logits.shape[: truth.ndim])
    chex.assert_shape(valid, logits.shape[:1])
    # One-hot rather than a gather of integer labels, which XLA turns into a slow scatter in the
    # gradient.
    shares = truth if truth.ndim == logits.ndim else jax.nn.one_hot(truth, logits.shape[-1])
    counted = shares * valid.reshape(-1, *[1] * (logits.ndim - 1))
    return jax.nn.log_softmax(logits.astype(jnp.float32)), counted


def _summed(loss: jax.Array, counted: jax.Array, class_weights: jax.Array) -> SampleLoss:
    chex.assert_shape(class_weights, counted.shape[-1:])
    weights = counted * class_weights
    axes = tuple(range(1, weights.ndim))
    return (weights * loss).sum(axes), weights.sum(axes)


def _overlap(
    logits: jax.Array, truth: jax.Array, valid: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Soft pixels [N, K] of each class: rightly predicted, predicted, true."""
    log_probability, true = _compared(logits, truth, valid)
    predicted = jnp.exp(log_probability) * true.sum(-1, keepdims=True)
    return (predicted * true).sum((1, 2)), predicted.sum((1, 2)), true.sum((1, 2))


def _each(loss: jax.Array, true: jax.Array) -> SampleLoss:
    weight = (true.sum(-1) > 0).astype(jnp.float32)
    return loss * weight, weight


def class_weights(
    rule: str | tuple[float, ...],
    counts: np.ndarray,
    names: Sequence[str] | None = None,
    image_pixels: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the weight of each class [K] by its samples or pixels in the training split.

    Args:
      rule: a name in CLASS_WEIGHTS, or the K weights themselves, as numbers or as "0.5,2".
      counts: samples or pixels of each class [K].
      names: of the classes, for errors.
      image_pixels: [K], all counted pixels of the images in which a class occurs, by which
        median_frequency divides; None for samples, and where each class occurs in each image: then
        the sum of `counts`.

    Raises:
      InputError: another rule, a wrong number of weights or a class that never occurs.

    Source of median_frequency: "Predicting Depth, Surface Normals and Semantic Labels with a Common
    Multi-Scale Convolutional Architecture" (2014), arXiv:1411.4734; the static attention of
    arXiv:2009.08864. The inverse rules are of frequencies over all pixels.
    """
    counts = np.asarray(counts, np.float64)
    if not isinstance(rule, str) or "," in rule:
        return _given_weights(rule, len(counts))
    if rule not in CLASS_WEIGHTS:
        raise unknown("class_weights", rule, CLASS_WEIGHTS)
    if rule == "none":
        return np.ones(len(counts), np.float32)
    if not counts.all():
        missing = int(np.flatnonzero(counts == 0)[0])
        raise InputError(
            f"class_weights: class {names[missing] if names else missing} never occurs in the "
            "training split, use class_weights='none'"
        )
    if rule == "median_frequency":
        frequency = counts / (counts.sum() if image_pixels is None else np.float64(image_pixels))
        return (np.median(frequency) / frequency).astype(np.float32)
    frequency = counts / counts.sum()
    weights = 1 / (np.sqrt(frequency) if rule == "sqrt_inverse_frequency" else frequency)
    return (weights / weights.mean()).astype(np.float32)


def _given_weights(rule: str | tuple[float, ...], classes: int) -> np.ndarray:
    try:
        weights = np.asarray(rule.split(",") if isinstance(rule, str) else rule, np.float32)
    except ValueError:
        raise InputError(
            f"class_weights: '{rule}' is not a list of numbers, write e.g. '0.5,2'"
        ) from None
    usable = weights.shape == (classes,) and np.isfinite(weights).all() and (weights >= 0).all()
    if not usable or not weights.any():
        raise InputError(f"class_weights: {rule} must be {classes} weights >= 0, not all zero")
    return weights
