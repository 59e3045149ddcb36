"""Pooling over windows that may overlap, and to a fixed size, as PyTorch, TensorFlow and the networks built on them do.

Like `covjax.pooling` from shifted slices and selects, with the gradient of the maximum written by hand: on a CPU the
windowed reductions of XLA and their gradients are several times slower.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from covjax.convolution import Pair, same_padding

Around = tuple[Pair, Pair]  # pixels (above, below), (left, right)


def first_maximum(views: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Returns the maximum over the views and which of them, int8, has it first."""
    pooled = views[0]
    winner = jnp.zeros(pooled.shape, jnp.int8)
    for k, view in enumerate(views[1:], 1):
        better = view > pooled
        # NaN must not vanish here: the loss has to become non-finite for the run to stop.
        pooled, winner = jnp.maximum(pooled, view), jnp.where(better, jnp.int8(k), winner)
    return pooled, winner


def max_pool(x: jax.Array, window: int, stride: int, padding: int | str = 0, *, round_up: bool = False) -> jax.Array:
    """Max-pools [N, H, W, C] over windows that may overlap; padded pixels never win.

    `padding` is in pixels on every side, or "same": TensorFlow's. `round_up` also pools what fills no whole window
    (ceil_mode in PyTorch). The gradient goes to the first maximum of each window in row-major order, as in PyTorch.
    """
    sides = x.shape[1:3]
    if padding == "same":
        around = same_padding(sides, (window, window), stride)
    elif round_up:
        around = tuple((padding, _rounding_up(side, window, stride, padding)) for side in sides)
    else:
        around = ((padding, padding),) * 2
    return _max_pool(window, stride, around, sides, x)


def _rounding_up(side: int, window: int, stride: int, padding: int) -> int:
    """Pixels to pad after the last, so that the last window, if it starts inside, is whole."""
    outputs = -(-(side + 2 * padding - window) // stride) + 1
    if (outputs - 1) * stride >= side + padding:
        outputs -= 1
    return max(0, (outputs - 1) * stride + window - side - padding)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _max_pool(window: int, stride: int, around: Around, sides: Pair, x: jax.Array) -> jax.Array:
    return _winners(window, stride, around, x)[0]


def _winners(window: int, stride: int, around: Around, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    x = jnp.pad(x, ((0, 0), *around, (0, 0)), constant_values=-jnp.inf)
    height, width = (side - window + 1 for side in x.shape[1:3])
    return first_maximum(
        [x[:, i : i + height : stride, j : j + width : stride] for i in range(window) for j in range(window)]
    )


def _forward(window, stride, around, sides, x):
    return _winners(window, stride, around, x)


def _backward(window, stride, around, sides, winner, gradient):
    def edges(offset, padding, side, outputs):  # zeros that put the outputs on the inputs that won
        before = offset - padding[0]
        return before, side - before - (outputs - 1) * stride - 1, stride - 1

    total = jnp.zeros((), gradient.dtype)
    for k in range(window**2):
        rows, columns = map(edges, divmod(k, window), around, sides, winner.shape[1:3])
        won = jnp.where(winner == k, gradient, 0)
        total = total + lax.pad(won, jnp.zeros((), won.dtype), ((0, 0, 0), rows, columns, (0, 0, 0)))
    return (total,)


_max_pool.defvjp(_forward, _backward)


def average_pool(x: jax.Array, window: int, stride: int, padding: int = 0, *, count_padding: bool = True) -> jax.Array:
    """Averages [N, H, W, C] over windows that may overlap; adds up in float32 at least.

    The mean is over window squared pixels, padded zeros too (PyTorch's default), or without `count_padding` over the
    pixels inside the image (Keras).
    """
    total = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    counts = np.ones((1, 1, 1, 1), total.dtype) if count_padding else np.ones((1, *x.shape[1:3], 1), total.dtype)
    for axis in (1, 2):
        total = _window_sums(jnp, total, axis, window, stride, padding)
        counts = counts * window if count_padding else _window_sums(np, counts, axis, window, stride, padding)
    return (total / counts).astype(x.dtype)


def _window_sums(numpy, x, axis: int, window: int, stride: int, padding: int):
    """Sums windows along one axis."""
    x = numpy.pad(x, [(padding, padding) if a == axis else (0, 0) for a in range(4)])
    length, lead = x.shape[axis] - window + 1, (slice(None),) * axis
    return sum(x[(*lead, slice(k, k + length, stride))] for k in range(window))


def adaptive_average_pool(x: jax.Array, sides: Pair) -> jax.Array:
    """Averages [N, H, W, C] into [N, *sides, C]: bin i of O over L pixels is those from i L / O, rounded down, to
    (i + 1) L / O, rounded up, as in PyTorch; L may be smaller than O."""
    if x.shape[1:3] == sides:
        return x
    rows, columns = (jnp.asarray(_bins(side, bins), x.dtype) for side, bins in zip(x.shape[1:3], sides, strict=True))
    return jnp.einsum("hy,nyxc,wx->nhwc", rows, x, columns, precision=lax.Precision.HIGHEST)


def _bins(side: int, bins: int) -> np.ndarray:
    """Returns the matrix [bins, side] of means."""
    first, last = np.arange(bins) * side // bins, -(-(np.arange(bins) + 1) * side // bins)
    inside = (np.arange(side) >= first[:, None]) & (np.arange(side) < last[:, None])
    return inside / inside.sum(1, keepdims=True)
