"""Pooling over windows that may overlap, and to a fixed size, as PyTorch, TensorFlow and the
networks built on them do.

Like `covjax.pooling` from shifted slices and selects, with the gradient of the maximum written by
hand: on a CPU the windowed reductions of XLA and their gradients are several times slower.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from covjax.ops.convolution import Pair, same_padding
from covjax.ops.grids import Grid, maximum


def max_pool(
    x: jax.Array, window: int, stride: int, padding: int | str = 0, *, round_up: bool = False
) -> jax.Array:
    """Max-pools [N, H, W, C] over windows that may overlap; padded pixels never win.

    `padding` is in pixels on every side, or "same": TensorFlow's. `round_up` also pools what fills
    no whole window (ceil_mode in PyTorch). The gradient goes to the first maximum of each window in
    row-major order, as in PyTorch.
    """
    sides = x.shape[1:3]
    if padding == "same":
        around = same_padding(sides, (window, window), stride)
    elif round_up:
        around = tuple((padding, _rounding_up(side, window, stride, padding)) for side in sides)
    else:
        around = ((padding, padding),) * 2
    return maximum(Grid(sides, window, stride, around), x)[0]


def global_max_pool(x: jax.Array) -> jax.Array:
    """Returns the maximum over the pixels of [N, H, W, C], [N, C]; its gradient goes to the first
    pixel that has it.

    XLA's own looks for the pixels that equal the maximum, and if it computes them again, rounded
    otherwise, finds other ones or none.
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
    counts = (
        np.ones((1, 1, 1, 1), total.dtype)
        if count_padding
        else np.ones((1, *x.shape[1:3], 1), total.dtype)
    )
    for axis in (1, 2):
        total = _window_sums(jnp, total, axis, window, stride, padding)
        counts = (
            counts * window
            if count_padding
            else _window_sums(np, counts, axis, window, stride, padding)
        )
    return (total / counts).astype(x.dtype)


def _window_sums(numpy, x, axis: int, window: int, stride: int, padding: int):
    """Sums windows along one axis."""
    x = numpy.pad(x, [(padding, padding) if a == axis else (0, 0) for a in range(4)])
    length = x.shape[axis] - window + 1
    lead = (slice(None),) * axis
    return sum(x[(*lead, slice(k, k + length, stride))] for k in range(window))


def adaptive_average_pool(x: jax.Array, sides: Pair) -> jax.Array:
    """Averages [N, H, W, C] into [N, *sides, C]: bin i of O over L pixels is those from i L / O,
    rounded down, to (i + 1) L / O, rounded up, as in PyTorch; L may be smaller than O.
    """
    if x.shape[1:3] == sides:
        return x
    rows, columns = (
        jnp.asarray(_bins(side, bins), x.dtype)
        for side, bins in zip(x.shape[1:3], sides, strict=True)
    )
    return jnp.einsum("hy,nyxc,wx->nhwc", rows, x, columns, precision=lax.Precision.HIGHEST)


def _bins(side: int, bins: int) -> np.ndarray:
    """Returns the matrix [bins, side] of means."""
    first = np.arange(bins) * side // bins
    last = -(-(np.arange(bins) + 1) * side // bins)
    inside = (np.arange(side) >= first[:, None]) & (np.arange(side) < last[:, None])
    return inside / inside.sum(1, keepdims=True)
