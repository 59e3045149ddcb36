"""Decimating filters by convolution, and the adjoint of them: what accelerators run.

[P, size, Q] is a picture of one channel, both filters are kernels of one column.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from covjax.ops.subbands.axis import Axis, Filters


def _convolution(
    x: jax.Array, kernel: jax.Array, place: Axis, stride: int, dilation: int, padding: int
) -> jax.Array:
    """Convolves x [..., size, ..., channels] along an axis counted without the channels."""
    before = x.shape[: place.axis - 1]
    size, *after, channels = x.shape[place.axis - 1 :]
    y = lax.conv_general_dilated(
        x.reshape(math.prod(before), size, math.prod(after), channels),
        kernel,
        window_strides=(stride, 1),
        padding=((padding, padding), (0, 0)),
        lhs_dilation=(dilation, 1),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        # the default of an accelerator (TF32) would spoil the reconstruction
        precision=lax.Precision.HIGHEST,
    )
    return y.reshape(*before, y.shape[1], *after, y.shape[-1])


def _kernel(filters: Filters, dtype: jnp.dtype) -> jax.Array:
    # [taps, 1, 1, band]
    return jnp.stack([jnp.asarray(taps, dtype) for taps in filters], -1)[:, None, None]


def convolve(x: jax.Array, place: Axis) -> list[jax.Array]:
    """Correlates an extended x with both filters and keeps every second value."""
    y = _convolution(
        x[..., None], _kernel(place.filters, x.dtype), place, stride=2, dilation=1, padding=0
    )
    return [y[..., 0], y[..., 1]]


def convolve_back(low: jax.Array, high: jax.Array, place: Axis) -> jax.Array:
    """The adjoint of `convolve`."""
    kernel = _kernel(place.filters, low.dtype)[::-1].swapaxes(2, 3)
    bands = jnp.stack([low, high], -1)
    return _convolution(bands, kernel, place, stride=1, dilation=2, padding=len(kernel) - 1)[..., 0]
