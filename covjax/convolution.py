"""Convolution that is fast on a CPU too, above all in its gradients.

XLA:CPU convolves small images of many channels, and computes the weight gradient over large ones, at a fraction of the
speed of a matrix product. Here both become matrix products:

- by patches: the k * k shifts of a small image side by side times the kernel, one product;
- by blocks: a few rows of a large image at a time, small enough to stay in the cache, their products summed.

On other platforms, and for shapes at which XLA is as fast, its own convolutions stay. The numbers below were measured
with tests/benchmarks on two AVX-512 cores, batch 8.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

TINY, SMALL, LARGE = 7 * 7, 12 * 12, 32 * 32  # output pixels of an image
FEW_CHANNELS = 16  # channels on both sides, up to which XLA's weight gradient of a large image is as fast
NARROW = 40  # channels, up to which every shift of the narrow side costs less than shifting both sides


class Geometry(NamedTuple):
    """How a square kernel of `size` moves over an image."""

    size: int
    stride: int
    dilation: int
    padding: int  # pixels on every side

    @property
    def offsets(self) -> range:
        return range(0, self.size * self.dilation, self.dilation)

    @property
    def opposite_padding(self) -> int:
        """Padding of the convolution that takes the gradient back to the input."""
        return self.offsets[-1] - self.padding


def conv2d(
    x: jax.Array, kernel: jax.Array, *, stride: int = 1, dilation: int = 1, padding: int | None = None
) -> jax.Array:
    """Convolves x [N, H, W, C] with kernel [k, k, C, F]; pads k//2 * dilation on every side, as PyTorch does.

    Has reverse-mode derivatives of any order; forward mode (jax.jvp) raises TypeError.
    """
    size = kernel.shape[0]
    return _conv(Geometry(size, stride, dilation, size // 2 * dilation if padding is None else padding), x, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    by_xla = partial(_xla_conv, geometry)
    pixels = jax.eval_shape(by_xla, x, kernel).shape[1:3]
    by_patches = partial(_patch_conv, geometry) if pixels[0] * pixels[1] <= TINY else None
    return _on_cpu(by_patches, by_xla)(x, kernel)


def _forward(geometry, x, kernel):
    return _conv(geometry, x, kernel), (x, kernel)


def _backward(geometry, inputs, g):
    x, kernel = inputs
    pixels = g.shape[1] * g.shape[2]
    to_x, to_kernel = None, None
    if pixels <= SMALL:
        to_x = partial(_patch_input_gradient, geometry, x.shape)
    if pixels <= (TINY if geometry.stride == 1 else SMALL):
        to_kernel = partial(_patch_weight_gradient, geometry)
    elif pixels >= LARGE:
        to_kernel = _blocked_weight_gradient(geometry, x, g)
    to_x = _on_cpu(to_x, partial(_xla_input_gradient, geometry, x))
    to_kernel = _on_cpu(to_kernel, partial(_xla_weight_gradient, geometry, kernel))
    return to_x(g, kernel), to_kernel(x, g)


_conv.defvjp(_forward, _backward)


def _on_cpu(own: Callable | None, by_xla: Callable) -> Callable:
    """Returns a function that is `own` where it compiles for a CPU (and is not None), else `by_xla`."""
    if own is None:
        return by_xla
    return lambda *operands: lax.platform_dependent(*operands, cpu=own, default=by_xla)


# By XLA.


def _xla_conv(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (geometry.stride,) * 2,
        ((geometry.padding,) * 2,) * 2,
        rhs_dilation=(geometry.dilation,) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _xla_input_gradient(geometry: Geometry, x: jax.Array, g: jax.Array, kernel: jax.Array) -> jax.Array:
    if geometry.stride == 1:  # a plain convolution, the form that XLA's fast paths recognise
        opposite = geometry._replace(padding=geometry.opposite_padding)
        return _xla_conv(opposite, g, _flipped(kernel))
    return jax.vjp(lambda x: _xla_conv(geometry, x, kernel), x)[1](g)[0]


def _xla_weight_gradient(geometry: Geometry, kernel: jax.Array, x: jax.Array, g: jax.Array) -> jax.Array:
    return jax.vjp(lambda kernel: _xla_conv(geometry, x, kernel), kernel)[1](g)[0]


def _flipped(kernel: jax.Array) -> jax.Array:
    return kernel[::-1, ::-1].transpose(0, 1, 3, 2)


# By patches: [N * H' * W', k * k * C].


def _patches(geometry: Geometry, x: jax.Array) -> jax.Array:
    """Lays the k * k shifts of x side by side: [N, H', W', k * k * C]."""
    p, s = geometry.padding, geometry.stride
    x = jnp.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    height, width = (side - geometry.offsets[-1] for side in x.shape[1:3])
    shifts = [x[:, i : i + height : s, j : j + width : s] for i in geometry.offsets for j in geometry.offsets]
    return jnp.concatenate(shifts, -1)


def _patch_conv(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    y = jnp.dot(_patches(geometry, x), kernel.reshape(-1, kernel.shape[-1]), preferred_element_type=jnp.float32)
    return y.astype(x.dtype)


def _patch_input_gradient(geometry: Geometry, shape: tuple[int, ...], g: jax.Array, kernel: jax.Array) -> jax.Array:
    rows = kernel.reshape(-1, kernel.shape[-1])
    patches = lax.dot_general(g, rows, (((3,), (1,)), ((), ())), preferred_element_type=jnp.float32)
    patches = patches.reshape(*g.shape[:3], -1, shape[-1])

    def edges(offset, side, outputs):  # zeros before, after and between, that put the outputs where they came from
        before, between = offset - geometry.padding, geometry.stride - 1
        return before, side - before - (outputs - 1) * geometry.stride - 1, between

    total, zero = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32)
    for k, (i, j) in enumerate((i, j) for i in geometry.offsets for j in geometry.offsets):
        rows, columns = edges(i, shape[1], g.shape[1]), edges(j, shape[2], g.shape[2])
        total = total + lax.pad(patches[:, :, :, k], zero, ((0, 0, 0), rows, columns, (0, 0, 0)))
    return total.astype(g.dtype)


def _patch_weight_gradient(geometry: Geometry, x: jax.Array, g: jax.Array) -> jax.Array:
    taps = _product(_patches(geometry, x), g).astype(x.dtype)
    return taps.reshape(geometry.size, geometry.size, x.shape[-1], g.shape[-1])


# By blocks of rows, at stride 1.


def _blocked_weight_gradient(geometry: Geometry, x: jax.Array, g: jax.Array) -> Callable | None:
    """Returns the fastest blocked form, a function of (x, g), or None where XLA is as fast."""
    ci, co = x.shape[-1], g.shape[-1]
    if geometry.stride > 1 or geometry.size == 1 or geometry.opposite_padding < 0:
        return None
    if x.dtype != jnp.float32 or max(ci, co) <= FEW_CHANNELS:
        return None
    if min(ci, co) > NARROW:
        return partial(_shift_both, geometry)
    if ci <= co:
        return partial(_shift_first, geometry)
    opposite = geometry._replace(padding=geometry.opposite_padding)
    return lambda x, g: _flipped(_shift_first(opposite, g, x))


def _shift_first(geometry: Geometry, x: jax.Array, g: jax.Array) -> jax.Array:
    """Multiplies all k * k shifts of x [N, H, W, C] with g [N, H', W', F] -> [k, k, C, F]."""
    (n, height, width, co), ci = g.shape, x.shape[-1]
    size, offsets, p = geometry.size, geometry.offsets, geometry.padding
    x = jnp.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))

    def block(rows, b, top):
        xs, gs = _rows(x, b, top, rows + offsets[-1]), _rows(g, b, top, rows)
        shifts = [xs[i : i + rows, j : j + width] for i in offsets for j in offsets]
        return _product(jnp.concatenate(shifts, -1), gs)

    return _sum_over_blocks(block, 16, n, height, (size**2 * ci, co)).reshape(size, size, ci, co)


def _shift_both(geometry: Geometry, x: jax.Array, g: jax.Array) -> jax.Array:
    """Multiplies horizontal shifts of x [N, H, W, C] with vertical shifts of g [N, H', W', F]: less to lay out."""
    (n, height, _, ci), (width, co) = x.shape, g.shape[2:]
    size, offsets, p, q = geometry.size, geometry.offsets, geometry.padding, geometry.opposite_padding
    x = jnp.pad(x, ((0, 0), (0, 0), (p, p), (0, 0)))
    g = jnp.pad(g, ((0, 0), (q, q), (0, 0), (0, 0)))

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
    """Sums the outer products [A, B] of a [..., A] and b [..., B] over all pixels, in float32."""
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
