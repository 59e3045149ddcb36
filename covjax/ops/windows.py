"""Pooling over windows that may overlap, and to a fixed size, as PyTorch and TensorFlow do.

Like `covjax.pooling` from shifted slices and selects, with the gradient of the maximum written by
hand: on a CPU the windowed reductions of XLA and their gradients are several times slower.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from covjax.ops.convolution import same_padding
from covjax.ops.grids import Grid, add_up, maximum
from covjax.ops.sides import Pair, sides_of


def max_pool(
    x: jax.Array,
    window: int,
    stride: int,
    padding: int | Literal["same"] = 0,
    *,
    round_up: bool = False,
) -> jax.Array:
    """Max-pools [N, H, W, C] over windows that may overlap; padded pixels never win.

    `padding` is in pixels on every side, or "same": TensorFlow's. `round_up` also pools what fills
    no whole window (ceil_mode in PyTorch). The gradient goes to the first maximum of each window in
    row-major order, as in PyTorch.
    """
    sides = sides_of(x)
    if padding == "same":
        around = same_padding(sides, (window, window), stride)
    else:
        rows, columns = (
            (padding, _rounding_up(side, window, stride, padding) if round_up else padding)
            for side in sides
        )
        around = (rows, columns)
    return maximum(Grid(sides, window, stride, around), x)[0]


def global_max_pool(x: jax.Array) -> jax.Array:
    """Returns the maximum over the pixels of [N, H, W, C], [N, C]; the first of a tie.

    Its gradient goes to that pixel. XLA's own looks for the pixels that equal the maximum, and if
    it computes them again, rounded otherwise, finds other ones or none.
    """
    pixels = x.reshape(x.shape[0], -1, x.shape[-1])
    place = jnp.arange(pixels.shape[1])[:, None] == pixels.argmax(1)[:, None]
    return jnp.where(place, pixels, 0).sum(1)


def _rounding_up(side: int, window: int, stride: int, padding: int) -> int:
    """Pixels to pad after the last, so that the last window, if it starts inside, is whole."""
    outputs = -(-(side + 2 * padding - window) // stride) + 1
    if (outputs - 1) * stride >= side + padding:
        outputs -= 1
    return max(0, (outputs - 1) * stride + window - side - padding)


def average_pool(
    x: jax.Array, window: int, stride: int, padding: int = 0, *, count_padding: bool = True
) -> jax.Array:
    """Averages [N, H, W, C] over windows that may overlap; adds up in float32 at least.

    The mean is over window squared pixels, padded zeros too (PyTorch's default), or without
    `count_padding` over the pixels inside the image (Keras).
    """
    total = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    for axis in (1, 2):
        total = _window_sums(total, axis, window, stride, padding)
    if count_padding:
        return (total / window**2).astype(x.dtype)
    rows, columns = (
        _inside(side, outputs, window, stride, padding)
        for side, outputs in zip(sides_of(x), sides_of(total), strict=True)
    )
    counts = np.outer(rows, columns)[..., None]
    return (total / counts.astype(total.dtype)).astype(x.dtype)


def _window_sums(x: jax.Array, axis: int, window: int, stride: int, padding: int) -> jax.Array:
    """Sums windows along one axis."""
    x = jnp.pad(x, [(padding, padding) if a == axis else (0, 0) for a in range(4)])
    length = x.shape[axis] - window + 1
    return add_up([lax.slice_in_dim(x, k, k + length, stride, axis) for k in range(window)])


def _inside(side: int, outputs: int, window: int, stride: int, padding: int) -> np.ndarray:
    """Returns how many pixels of each window along a side lie inside the image."""
    first = np.arange(outputs) * stride - padding
    return np.minimum(first + window, side) - np.maximum(first, 0)


def adaptive_average_pool(x: jax.Array, sides: Pair) -> jax.Array:
    """Averages [N, H, W, C] into [N, *sides, C], bins of about the same size, as PyTorch does.

    Bin i of O over L pixels is those from i L / O, rounded down, to (i + 1) L / O, rounded up; L
    may be smaller than O.
    """
    if sides_of(x) == sides:
        return x
    rows, columns = (
        jnp.asarray(_bins(side, bins), x.dtype)
        for side, bins in zip(sides_of(x), sides, strict=True)
    )
    return jnp.einsum("hy,nyxc,wx->nhwc", rows, x, columns, precision=lax.Precision.HIGHEST)


def _bins(side: int, bins: int) -> np.ndarray:
    """Returns the matrix [bins, side] of means."""
    first = np.arange(bins) * side // bins
    last = -(-(np.arange(bins) + 1) * side // bins)
    inside = (np.arange(side) >= first[:, None]) & (np.arange(side) < last[:, None])
    return inside / inside.sum(1, keepdims=True)
