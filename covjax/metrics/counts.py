"""Confusion matrices on the device: the counts every overlap score is a formula over."""

import functools
import math

import jax
import jax.numpy as jnp

from covjax.errors import InputError
from covjax.metrics.checks import as_array
from covjax.ops.checks import check_count


def confusion_matrix(
    truth: jax.Array, predicted: jax.Array, num_classes: int, ignore: int = 255
) -> jax.Array:
    """Counts the pixels of every (true, predicted) pair of classes, one matrix per image.

    Matrices add up: over images, batches and devices. Counts are exact (integer arithmetic
    throughout).

    Args:
      truth: integer labels [N, ...], for example masks [N, H, W] or class labels [N].
      predicted: integer labels of the same shape.
      num_classes: K; static under jit.
      ignore: true label whose pixels are left out; static under jit.

    Returns:
      int32 [N, K, K], row = truth, column = predicted. A pixel whose true or predicted label is outside
      0..K-1 is in no cell, so a padded image labelled `ignore` throughout counts nothing.

    Raises:
      InputError: the shapes differ, have no batch axis, the labels are not integers, or num_classes is no number of
        classes.
    """
    check_count("num_classes", num_classes, 1, "the number of classes")
    truth = _labels("truth", truth)
    predicted = _labels("predicted", predicted)
    if truth.shape != predicted.shape or truth.ndim == 0:
        raise InputError(
            f"confusion_matrix: truth has shape {truth.shape} and predicted {predicted.shape}, "
            "give both the same shape [N, ...]"
        )
    return _counted(truth, predicted, int(num_classes), ignore)


def _labels(name: str, labels: jax.Array) -> jax.Array:
    if not isinstance(labels, jax.Array):
        labels = as_array(f"confusion_matrix: {name}", labels, "integer labels")
    if not (jnp.issubdtype(labels.dtype, jnp.integer) or labels.dtype == bool):
        raise InputError(f"confusion_matrix: {name} is {labels.dtype}, give integer labels")
    return jnp.asarray(labels)


@functools.partial(jax.jit, static_argnames=("num_classes", "ignore"))
def _counted(truth: jax.Array, predicted: jax.Array, num_classes: int, ignore: int) -> jax.Array:
    flat = (truth.shape[0], 1, math.prod(truth.shape[1:]))
    truth = truth.astype(jnp.int32).reshape(flat)
    predicted = predicted.astype(jnp.int32).reshape(flat)
    classes = jnp.arange(num_classes)[None, :, None]
    # int8 one-hot operands with an int32 accumulator: exact up to 2**31 pixels per image, where
    # float32 stops at 2**24, and several times faster on a CPU than K*K masked sums.
    true_hot = ((truth == classes) & (truth != ignore)).astype(jnp.int8)
    predicted_hot = (predicted == classes).astype(jnp.int8)
    return jnp.einsum("nip,njp->nij", true_hot, predicted_hot, preferred_element_type=jnp.int32)
