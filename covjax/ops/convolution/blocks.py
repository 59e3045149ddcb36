"""Convolution by blocks of rows, at stride 1: small enough to stay in the cache of a CPU."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from covjax.ops.convolution.geometry import Geometry, flipped, padded, product, wide
from covjax.ops.grids import add_up

Row = jax.Array | int  # the first one of a block

# Since jax 0.12 XLA:CPU's bfloat16 product is fast only if its left operand lies row by row;
# before, it slows down so.
WANTS_ROW_MAJOR = jax.__version_info__ >= (0, 12)


def sliding(geometry: Geometry) -> bool:
    """Whether the kernel moves pixel by pixel and is worth cutting into shifts."""
    return geometry.stride == 1 and geometry.size != (1, 1) and min(geometry.opposite.padding) >= 0


def blocked_conv(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Sums products of horizontal shifts of x with the rows of the kernel, 16 rows at a time."""
    n = x.shape[0]
    height, width = geometry.output_sides(x)
    features = kernel.shape[-1]
    down, across = geometry.offsets
    rows = min(16, height)
    x = padded(geometry, x)
    kernel = kernel.reshape(geometry.size[0], -1, features)
    blocks = -(-height // rows)

    def write(k: jax.Array, y: jax.Array) -> jax.Array:
        b = k // blocks
        # the last block overlaps the one before
        top = jnp.minimum(k % blocks * rows, height - rows)
        xs = _rows_at(x, b, top, rows + down[-1])
        shifts = jnp.concatenate([xs[:, j : j + width] for j in across], -1)
        products = [
            jnp.dot(shifts[i : i + rows], kernel_row, preferred_element_type=wide(x))
            for i, kernel_row in zip(down, kernel, strict=True)
        ]
        return lax.dynamic_update_slice(y, add_up(products).astype(y.dtype)[None], (b, top, 0, 0))

    return lax.fori_loop(0, n * blocks, write, jnp.zeros((n, height, width, features), x.dtype))


def shift_first(geometry: Geometry, x: jax.Array, g: jax.Array) -> jax.Array:
    """Multiplies all kh * kw shifts of x [N, H, W, C] with g [N, H', W', F] -> [kh, kw, C, F]."""
    n, height, width, co = g.shape
    ci = x.shape[-1]
    x = padded(geometry, x)

    def block(rows: int, b: jax.Array, top: Row) -> jax.Array:
        xs = _rows_at(x, b, top, rows + geometry.reach[0])
        gs = _rows_at(g, b, top, rows)
        shifts = [xs[i : i + rows, j : j + width] for i, j in geometry.taps]
        return product(jnp.concatenate(shifts, -1), gs)

    taps = _sum_over_blocks(block, 16, n, height, jnp.zeros((len(geometry.taps) * ci, co), wide(x)))
    return taps.reshape(*geometry.size, ci, co).astype(x.dtype)


def shift_second(geometry: Geometry, x: jax.Array, g: jax.Array) -> jax.Array:
    return flipped(shift_first(geometry.opposite, g, x))


def shift_both(geometry: Geometry, x: jax.Array, g: jax.Array) -> jax.Array:
    """Multiplies horizontal shifts of x [N, H, W, C] with vertical ones of g [N, H', W', F].

    That is less to lay out than all shifts of either.
    """
    n, height, _, ci = x.shape
    width, co = g.shape[2:]
    down, across = geometry.offsets
    rows_of_kernel, columns = geometry.size
    p = geometry.padding[1]
    q = geometry.opposite.padding[0]
    x = jnp.pad(x, ((0, 0), (0, 0), (p, p), (0, 0)))
    g = jnp.pad(g, ((0, 0), (q, q), (0, 0), (0, 0)))

    def block(rows: int, b: jax.Array, top: Row) -> jax.Array:
        xs = _rows_at(x, b, top, rows)
        gs = _rows_at(g, b, top, rows + down[-1])
        horizontal = jnp.concatenate([xs[:, j : j + width] for j in across], -1)
        if x.dtype == jnp.bfloat16 and WANTS_ROW_MAJOR:
            # else XLA takes the transposition into the product
            gs = lax.optimization_barrier(gs.transpose(2, 0, 1))
            vertical = jnp.concatenate([gs[:, i : i + rows] for i in reversed(down)]).reshape(
                rows_of_kernel * co, -1
            )
            return jnp.dot(
                vertical, horizontal.reshape(-1, columns * ci), preferred_element_type=wide(x)
            )
        return product(jnp.concatenate([gs[i : i + rows] for i in reversed(down)], -1), horizontal)

    taps = _sum_over_blocks(
        block, 8, n, height, jnp.zeros((rows_of_kernel * co, columns * ci), wide(x))
    )
    return taps.reshape(rows_of_kernel, co, columns, ci).transpose(0, 2, 3, 1).astype(x.dtype)


def _rows_at(x: jax.Array, b: jax.Array, top: Row, count: int) -> jax.Array:
    return lax.dynamic_slice(x, (b, top, 0, 0), (1, count, *x.shape[2:]))[0]


def _sum_over_blocks(
    block: Callable[[int, jax.Array, Row], jax.Array],
    rows: int,
    n: int,
    height: int,
    zero: jax.Array,
) -> jax.Array:
    """Adds block(rows, sample, first row) over n samples of `height` rows up, to `zero`.

    The last block may be smaller.
    """
    rows = min(rows, height)
    blocks, rest = divmod(height, rows)

    def add(i: jax.Array, total: jax.Array) -> jax.Array:
        return total + block(rows, i // blocks, i % blocks * rows)

    total = lax.fori_loop(0, n * blocks, add, zero)
    if rest:
        total = lax.fori_loop(0, n, lambda b, total: total + block(rest, b, blocks * rows), total)
    return total
