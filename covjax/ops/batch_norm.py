"""BatchNorm with its activation; gradients keep the input alone and pass over it three times.

What autodiff makes of the same formula keeps and visits several images of that size: on a CPU,
where memory is what limits it, that takes up to twice as long.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero

from covjax.ops.synchronise import batch_axis, over_devices, shares

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
    """Returns activation(scale * (x - mean) / sqrt(variance + epsilon) + bias), x [N, H, W, C]."""
    chex.assert_shape((mean, variance, scale, bias), x.shape[-1:])
    gain = scale * lax.rsqrt(variance + epsilon)
    y = (x - mean) * gain + bias
    return jnp.clip(y, *ACTIVATIONS[activation]).astype(x.dtype)


def batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, *, epsilon: float, activation: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises x [N, H, W, C] by its own moments, then activates; returns (y, mean, variance).

    The variance is the biased one. Within `synchronised` the moments are those of the batches of
    all devices together. Computes in float32 at least, whatever the type of x, which y keeps. Has
    reverse-mode derivatives of any order; forward mode (jax.jvp) raises TypeError.

    Source: "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
    Shift", arXiv:1502.03167.
    """
    return _batch_norm(_Form(epsilon, activation, batch_axis()), x, scale, bias)


class _Form(NamedTuple):
    epsilon: float
    activation: str | None
    axis_name: str | None  # an argument: gradients are traced when the context is left


Outputs = tuple[jax.Array, jax.Array, jax.Array]


def _normalised(form: _Form, x: jax.Array, scale: jax.Array, bias: jax.Array) -> Outputs:
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean, square = over_devices(
        lax.pmean, form.axis_name, wide.mean(PIXELS), (wide * wide).mean(PIXELS)
    )
    variance = jnp.maximum(square - mean * mean, 0)
    y = normalize(x, mean, variance, scale, bias, epsilon=form.epsilon, activation=form.activation)
    return y, mean, variance


def _forward(form: _Form, *operands: CustomVJPPrimal) -> tuple[Outputs, tuple[jax.Array, ...]]:
    x, scale, bias = (operand.value for operand in operands)
    y, mean, variance = _batch_norm(form, x, scale, bias)
    return (y, mean, variance), (x, mean, variance, scale, bias)


def _backward(
    form: _Form, kept: tuple[jax.Array, ...], gradients: tuple[jax.Array | SymbolicZero, ...]
) -> Outputs:
    x, mean, variance, scale, bias = kept
    inverse = lax.rsqrt(variance + form.epsilon)
    normal = (x - mean) * inverse
    g = _materialised(gradients[0], x).astype(normal.dtype)
    least, largest = ACTIVATIONS[form.activation]
    if least is not None:
        g = jnp.where(normal * scale + bias > least, g, 0)
    if largest is not None:
        g = jnp.where(normal * scale + bias < largest, g, 0)
    # The parameters' gradients are this device's part, as every parameter's; the input's needs the
    # whole sums.
    own = g.sum(PIXELS), (g * normal).sum(PIXELS)
    totals = over_devices(lax.psum, form.axis_name, *own)
    constant, slope = (scale * inverse * total for total in totals)
    # in second derivatives only
    if not all(isinstance(gradient, SymbolicZero) for gradient in gradients[1:]):
        of_moments = map(_materialised, gradients[1:], (mean, variance))
        of_mean, of_variance = over_devices(lax.psum, form.axis_name, *of_moments)
        constant = constant - of_mean
        slope = slope - 2 * of_variance / inverse
    count = x.size // x.shape[-1] * shares(form.axis_name)
    x_gradient = scale * inverse * g - (constant + normal * slope) / count
    return x_gradient.astype(x.dtype), own[1].astype(scale.dtype), own[0].astype(bias.dtype)


_batch_norm = jax.custom_vjp(_normalised, nondiff_argnums=(0,))
_batch_norm.defvjp(_forward, _backward, symbolic_zeros=True)


def _materialised(gradient: jax.Array | SymbolicZero, value: jax.Array) -> jax.Array:
    """Returns the gradient to `value` as an array."""
    return jnp.zeros_like(value) if isinstance(gradient, SymbolicZero) else gradient
