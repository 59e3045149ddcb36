"""Confusion matrices on the device: the counts every overlap score is a formula over."""

import math
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from covjax.errors import InputError
from covjax.metrics.checks import Numbers, as_array
from covjax.ops.checks import check_count

Sums = Callable[..., jax.Array]


def confusion_matrix(
    truth: jax.Array | Numbers,
    predicted: jax.Array | Numbers,
    num_classes: int,
    ignore: int = 255,
) -> jax.Array:
    """Counts the pixels of every (true, predicted) pair of classes, one matrix per image.

    Matrices add up: over images, batches and devices. Counts are exact: integers throughout.

    Args:
      truth: integer labels [N, ...], for example masks [N, H, W] or class labels [N].
      predicted: integer labels of the same shape.
      num_classes: K; static under jit.
      ignore: true label whose pixels are left out; static under jit.

    Returns:
      int32 [N, K, K], row = truth, column = predicted. A pixel whose true or predicted label is
      outside 0..K-1 is in no cell, so a padded image labelled `ignore` throughout counts nothing.

    Raises:
      InputError: the shapes differ, have no batch axis, the labels are not integers, or num_classes
        is no number of classes.
    """
    check_count("num_classes", num_classes, 1, "the number of classes")
    truth = _labels("truth", truth)
    predicted = _labels("predicted", predicted)
    if truth.shape != predicted.shape or truth.ndim == 0:
        raise InputError(
            f"confusion_matrix: truth has shape {truth.shape} and predicted {predicted.shape}, "
            "give both the same shape [N, ...]"
        )
    return _jitted(truth, predicted, int(num_classes), ignore)


def _labels(name: str, labels: jax.Array | Numbers) -> jax.Array | Numbers:
    array = labels
    if not isinstance(labels, jax.Array):
        array = as_array(f"confusion_matrix: {name}", labels, "integer labels")
    if array.dtype.kind not in "biu":
        raise InputError(f"confusion_matrix: {name} is {array.dtype}, give integer labels")
    return array


def _counted(truth: jax.Array, predicted: jax.Array, num_classes: int, ignore: int) -> jax.Array:
    flat = (truth.shape[0], 1, math.prod(truth.shape[1:]))
    truth = truth.astype(np.int32).reshape(flat)
    predicted = predicted.astype(np.int32).reshape(flat)
    classes = np.arange(num_classes, dtype=np.int32)[None, :, None]
    # int8 one-hot operands with an int32 accumulator: exact up to 2**31 pixels per image, where
    # float32 stops at 2**24, and several times faster on a CPU than K*K masked sums.
    true_hot = ((truth == classes) & (truth != ignore)).astype(np.int8)
    predicted_hot = (predicted == classes).astype(np.int8)
    einsum = cast(Sums, jnp.einsum)  # pyright: ignore[reportUnknownMemberType]
    return einsum("nip,njp->nij", true_hot, predicted_hot, preferred_element_type=np.int32)


_jitted: Sums = jax.jit(  # pyright: ignore[reportUnknownMemberType]
    _counted, static_argnums=(2, 3)
)
