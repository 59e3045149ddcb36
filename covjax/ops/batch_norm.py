"""BatchNorm with its activation, whose gradients keep nothing but the input and pass over the image
three times.

What autodiff makes of the same formula keeps and visits several images of that size: on a CPU,
where memory is what limits it, that takes up to twice as long.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

PIXELS = (0, 1, 2)
# the least and the largest value let through
ACTIVATIONS = {None: (None, None), "relu": (0, None), "relu6": (0, 6)}


def normalize(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    epsilon: float,
    activation: str | None,
) -> jax.Array:
    """Returns activation(scale * (x - mean) / sqrt(variance + epsilon) + bias), for x [N, H, W, C]
    and vectors [C].
    """
    gain = scale * lax.rsqrt(variance + epsilon)
    y = (x - mean) * gain + bias
    return jnp.clip(y, *ACTIVATIONS[activation]).astype(x.dtype)


def batch_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    epsilon: float,
    activation: str | None,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises x [N, H, W, C] by its own mean and (biased) variance, then activates it; returns
    (y, mean, variance).

    With `axis_name` the statistics are those of the batches of all devices along that mapped axis
    together. Computes in float32 at least, whatever the type of x, which y keeps. Has reverse-mode
    derivatives of any order; forward mode (jax.jvp) raises TypeError.

    Source: "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
    Shift", arXiv:1502.03167.
    """
    return _batch_norm(epsilon, activation, axis_name, x, scale, bias)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _batch_norm(epsilon, activation, axis_name, x, scale, bias):
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean, square = _over_devices(
        lax.pmean, axis_name, wide.mean(PIXELS), (wide * wide).mean(PIXELS)
    )
    variance = jnp.maximum(square - mean * mean, 0)
    return (
        normalize(x, mean, variance, scale, bias, epsilon=epsilon, activation=activation),
        mean,
        variance,
    )


def _forward(epsilon, activation, axis_name, *operands):
    x, scale, bias = (operand.value for operand in operands)
    y, mean, variance = _batch_norm(epsilon, activation, axis_name, x, scale, bias)
    return (y, mean, variance), (x, mean, variance, scale, bias)


def _backward(epsilon, activation, axis_name, kept, gradients):
    x, mean, variance, scale, bias = kept
    inverse = lax.rsqrt(variance + epsilon)
    normal = (x - mean) * inverse
    g = _materialised(gradients[0]).astype(normal.dtype)
    least, largest = ACTIVATIONS[activation]
    if least is not None:
        g = jnp.where(normal * scale + bias > least, g, 0)
    if largest is not None:
        g = jnp.where(normal * scale + bias < largest, g, 0)
    # The parameters' gradients are this device's part, as every parameter's; the input's needs the
    # whole sums.
    own = g.sum(PIXELS), (g * normal).sum(PIXELS)
    constant, slope = (
        scale * inverse * total for total in _over_devices(lax.psum, axis_name, *own)
    )
    # in second derivatives only
    if not all(isinstance(gradient, SymbolicZero) for gradient in gradients[1:]):
        of_mean, of_variance = _over_devices(
            lax.psum, axis_name, *map(_materialised, gradients[1:])
        )
        constant = constant - of_mean
        slope = slope - 2 * of_variance / inverse
    count = x.size // x.shape[-1] * (1 if axis_name is None else lax.axis_size(axis_name))
    x_gradient = scale * inverse * g - (constant + normal * slope) / count
    return x_gradient.astype(x.dtype), own[1].astype(scale.dtype), own[0].astype(bias.dtype)


_batch_norm.defvjp(_forward, _backward, symbolic_zeros=True)


def _materialised(gradient):
    return (
        jnp.zeros(gradient.shape, gradient.dtype)
        if isinstance(gradient, SymbolicZero)
        else gradient
    )


def _over_devices(combine, axis_name, *vectors):
    """Combines the vectors [C] over the devices, in one exchange."""
    if axis_name is None or lax.axis_size(axis_name) == 1:
        return vectors
    return tuple(combine(jnp.stack(vectors), axis_name))
