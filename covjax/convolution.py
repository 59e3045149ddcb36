"""Convolution with gradients that are fast on a CPU too.

XLA:CPU computes the weight gradient of a convolution over a large image at a fraction of the speed of a matrix product.
Here it becomes one: blocks of rows, small enough to stay in the cache, are laid out as matrices and their products
summed. On other platforms, and for shapes at which XLA is as fast, its own weight gradient stays.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

SMALL_IMAGE = 32 * 32  # pixels, below which XLA's own weight gradient is as fast
FEW_CHANNELS = 16  # channels on both sides, up to which it is as fast
NARROW = 40  # channels, up to which every shift of the narrow side costs less than shifting both sides

WeightGradient = Callable[[jax.Array, jax.Array], jax.Array]


def conv2d(
    x: jax.Array, kernel: jax.Array, *, stride: int = 1, dilation: int = 1, padding: int | None = None
) -> jax.Array:
    """Convolves x [N, H, W, C] with kernel [k, k, C, F]; pads k//2 * dilation on every side, as PyTorch does.

    Has reverse-mode derivatives of any order; forward mode (jax.jvp) raises TypeError.
    """
    padding = kernel.shape[0] // 2 * dilation if padding is None else padding
    return _conv(stride, dilation, padding, x, kernel)


def _xla_conv(stride: int, dilation: int, padding: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((padding, padding),) * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


_conv = jax.custom_vjp(_xla_conv, nondiff_argnums=(0, 1, 2))


def _forward(stride, dilation, padding, x, kernel):
    return _xla_conv(stride, dilation, padding, x, kernel), (x, kernel)


def _backward(stride, dilation, padding, inputs, g):
    x, kernel = inputs
    to_x = _input_gradient(stride, dilation, padding, x, kernel, g)
    return to_x, _weight_gradient(stride, dilation, padding, x, kernel, g)


_conv.defvjp(_forward, _backward)


def _input_gradient(stride, dilation, padding, x, kernel, g):
    if stride == 1:  # a plain convolution, the form that XLA's fast paths recognise
        flipped = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
        return _xla_conv(1, dilation, (kernel.shape[0] - 1) * dilation - padding, g, flipped)
    return jax.vjp(lambda x: _xla_conv(stride, dilation, padding, x, kernel), x)[1](g)[0]


def _weight_gradient(stride, dilation, padding, x, kernel, g):
    def by_xla(x, g):
        return jax.vjp(lambda k: _xla_conv(stride, dilation, padding, x, k), kernel)[1](g)[0]

    by_matrices = _matrix_form(kernel.shape[0], dilation, padding, x, g) if stride == 1 else None
    if by_matrices is None:
        return by_xla(x, g)
    return lax.platform_dependent(x, g, cpu=by_matrices, default=by_xla)


def _matrix_form(size: int, dilation: int, padding: int, x: jax.Array, g: jax.Array) -> WeightGradient | None:
    """Returns the fastest matrix form of a weight gradient at stride 1, or None where XLA is as fast."""
    channels = x.shape[-1], g.shape[-1]
    opposite = (size - 1) * dilation - padding
    if size == 1 or opposite < 0 or x.dtype != jnp.float32:
        return None
    if g.shape[1] * g.shape[2] < SMALL_IMAGE or max(channels) <= FEW_CHANNELS:
        return None
    if min(channels) > NARROW:
        return partial(_shift_both, size, dilation, padding)
    if channels[0] <= channels[1]:
        return partial(_shift_first, size, dilation, padding)
    return lambda x, g: _shift_first(size, dilation, opposite, g, x)[::-1, ::-1].transpose(0, 1, 3, 2)


def _shift_first(size: int, dilation: int, padding: int, x: jax.Array, g: jax.Array) -> jax.Array:
    """Multiplies all size * size shifts of x [N, H, W, C] with g [N, H', W', F] -> [size, size, C, F]."""
    (n, height, width, co), ci = g.shape, x.shape[-1]
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    offsets = range(0, size * dilation, dilation)

    def block(rows, b, top):
        xs, gs = _rows(x, b, top, rows + offsets[-1]), _rows(g, b, top, rows)
        shifts = [xs[i : i + rows, j : j + width] for i in offsets for j in offsets]
        return _product(jnp.concatenate(shifts, -1), gs)

    return _sum_over_blocks(block, 16, n, height, (size**2 * ci, co)).reshape(size, size, ci, co)


def _shift_both(size: int, dilation: int, padding: int, x: jax.Array, g: jax.Array) -> jax.Array:
    """Multiplies horizontal shifts of x [N, H, W, C] with vertical shifts of g [N, H', W', F]: less to lay out."""
    (n, height, _, ci), (width, co) = x.shape, g.shape[2:]
    offsets = range(0, size * dilation, dilation)
    opposite = offsets[-1] - padding
    x = jnp.pad(x, ((0, 0), (0, 0), (padding, padding), (0, 0)))
    g = jnp.pad(g, ((0, 0), (opposite, opposite), (0, 0), (0, 0)))

    def block(rows, b, top):
        xs, gs = _rows(x, b, top, rows), _rows(g, b, top, rows + offsets[-1])
        vertical = [gs[i : i + rows] for i in reversed(offsets)]
        horizontal = [xs[:, j : j + width] for j in offsets]
        return _product(jnp.concatenate(vertical, -1), jnp.concatenate(horizontal, -1))

    taps = _sum_over_blocks(block, 8, n, height, (size * co, size * ci))
    return taps.reshape(size, co, size, ci).transpose(0, 2, 3, 1)


def _rows(x: jax.Array, b: jax.Array, top: jax.Array, count: int) -> jax.Array:
    return lax.dynamic_slice(x, (b, top, 0, 0), (1, count, *x.shape[2:]))[0]


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Sums the outer products [A, B] of a [h, w, A] and b [h, w, B] over all pixels."""
    flat = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    return lax.dot_general(*flat, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)


def _sum_over_blocks(block: Callable, rows: int, n: int, height: int, shape: tuple[int, int]) -> jax.Array:
    """Sums block(rows, sample, first row) over n samples of `height` rows, the last block of each maybe smaller."""
    rows = min(rows, height)
    blocks, rest = divmod(height, rows)

    def add(i, total):
        return total + block(rows, i // blocks, i % blocks * rows)

    total = lax.fori_loop(0, n * blocks, add, jnp.zeros(shape, jnp.float32))
    if rest:
        total = lax.fori_loop(0, n, lambda b, total: total + block(rest, b, blocks * rows), total)
    return total
