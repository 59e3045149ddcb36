"""Windows over an image: reading them, and the transposes of it, of which all gradients are made.

Everything is built from strided views and selects: no gather, scatter or transpose over the image.
Gradients are written by hand, because reverse-mode differentiation of the same code would scatter.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from covjax.ops.sides import Pair, sides_of, zeros_around


class Grid(NamedTuple):
    """Where the windows lie on an image of `size` [H, W]; hashable, static under jit."""

    size: Pair
    window: int
    stride: int
    # pixels padded (above, below), (left, right)
    around: tuple[Pair, Pair] = ((0, 0), (0, 0))

    @property
    def tiles(self) -> bool:
        """Whether every pixel lies in at most one window and none is padded."""
        return self.stride == self.window and self.around == ((0, 0), (0, 0))

    @property
    def outputs(self) -> Pair:
        """Windows along height and width."""
        padded = (side + sum(pixels) for side, pixels in zip(self.size, self.around, strict=True))
        rows, columns = ((side - self.window) // self.stride + 1 for side in padded)
        return rows, columns

    @property
    def places(self) -> list[Pair]:
        """Row and column of every pixel within its window, in row-major order."""
        return [divmod(k, self.window) for k in range(self.window**2)]


def grid_of(size: Pair, window: int, stride: int) -> Grid:
    """Returns windows side by side or, at a stride below the window, overlapping ones.

    Windows side by side drop what fills none. Overlapping ones are ceil(side / stride) along each
    side: the padding lies around, one pixel more at the bottom and right for an even window.
    """
    around = (0, 0) if stride == window else ((window - 1) // 2, window // 2)
    return Grid(size, window, stride, (around, around))


def add_up(arrays: Sequence[jax.Array]) -> jax.Array:
    """Sums one or more arrays, the first ones first."""
    return functools.reduce(jnp.add, arrays)


def weighted_sum(
    weights: Sequence[jax.Array] | Sequence[float], arrays: Sequence[jax.Array]
) -> jax.Array:
    """Sums arrays, each times its weight, the first ones first."""
    return add_up([weight * array for weight, array in zip(weights, arrays, strict=True)])


def in_float32(x: jax.Array) -> jax.Array:
    """Returns x in float32 at least: half precision would spoil sums over it."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def views(x: jax.Array, grid: Grid, fill: float = 0.0) -> list[jax.Array]:
    """Splits x [N, H, W, C] into one view [N, h, w, C] per place in the window.

    Where a window reaches outside of the image, its views hold `fill`.
    """
    return list(_views(grid, fill, x))


def _strided(grid: Grid, fill: float, x: jax.Array) -> tuple[jax.Array, ...]:
    h, w = grid.outputs
    k = grid.window
    s = grid.stride
    if grid.tiles:
        blocks = x[:, : h * k, : w * k].reshape(x.shape[0], h, k, w, k, x.shape[-1])
        return tuple(blocks[:, :, i, :, j] for i, j in grid.places)
    x = jnp.pad(x, ((0, 0), *grid.around, (0, 0)), constant_values=fill)
    height = (h - 1) * s + 1
    width = (w - 1) * s + 1
    return tuple(x[:, i : i + height : s, j : j + width : s] for i, j in grid.places)


def _join(parts: list[jax.Array], grid: Grid) -> jax.Array:
    """Adds views up where they came from: the transpose of `views`."""
    if grid.tiles:
        k = grid.window
        rows = [jnp.stack(parts[i * k : (i + 1) * k], 3) for i in range(k)]
        return _within(jnp.stack(rows, 2), grid)
    return _put(parts, grid)


_views = jax.custom_vjp(_strided, nondiff_argnums=(0, 1))
_views.defvjp(
    lambda grid, fill, x: (_views(grid, fill, x), None),
    lambda grid, fill, _, gradients: (_join(list(gradients), grid),),
)


def _put(parts: Sequence[jax.Array], grid: Grid) -> jax.Array:
    """Adds up one view [N, h, w, C] per place in the window, laid out on an image [N, H, W, C]."""
    images: list[jax.Array] = []
    for part, place in zip(parts, grid.places, strict=True):
        rows, columns = (
            zeros_around(offset - padding[0], side, outputs, grid.stride)
            for offset, padding, side, outputs in zip(
                place, grid.around, grid.size, sides_of(part), strict=True
            )
        )
        edges = ((0, 0, 0), rows, columns, (0, 0, 0))
        images.append(lax.pad(part, jnp.zeros((), part.dtype), edges))
    return add_up(images)


def _within(blocks: jax.Array, grid: Grid) -> jax.Array:
    """Lays blocks [N, h, window, w, window, C] out on an image [N, H, W, C] of zeros."""
    n, h, k, w, _, channels = blocks.shape
    full = blocks.reshape(n, h * k, w * k, channels)
    return jnp.pad(full, ((0, 0), (0, grid.size[0] - h * k), (0, grid.size[1] - w * k), (0, 0)))


def first_maximum(parts: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Returns the maximum over the views and which of them, int8, has it first."""
    pooled = parts[0]
    winner = jnp.zeros(pooled.shape, jnp.int8)
    for k, part in enumerate(parts[1:], 1):
        better = part > pooled
        # NaN must not vanish here: the loss has to become non-finite for the run to stop.
        pooled = jnp.maximum(pooled, part)
        winner = jnp.where(better, jnp.int8(k), winner)
    return pooled, winner


def _take(grid: Grid, x: jax.Array, winner: jax.Array) -> jax.Array:
    """Reads of each window of x [N, H, W, C] the pixel that `winner` int8 [N, h, w, C] names."""
    chex.assert_shape(winner, (x.shape[0], *grid.outputs, x.shape[-1]))
    parts = views(x, grid)
    picked = parts[-1]
    for k in range(len(parts) - 2, -1, -1):
        picked = jnp.where(winner == k, parts[k], picked)
    return picked


def _give(grid: Grid, values: jax.Array, winner: jax.Array) -> jax.Array:
    """Puts values [N, h, w, C] at the pixels that `winner` names; the transpose of `take`."""
    if grid.tiles:
        k = grid.window
        place = jnp.arange(k**2, dtype=winner.dtype).reshape(1, 1, k, 1, k, 1)
        wins = winner[:, :, None, :, None] == place
        return _within(jnp.where(wins, values[:, :, None, :, None], 0), grid)
    return _put([jnp.where(winner == k, values, 0) for k in range(grid.window**2)], grid)


take = jax.custom_vjp(_take, nondiff_argnums=(0,))
take.defvjp(
    lambda grid, x, winner: (_take(grid, x, winner), winner),
    lambda grid, winner, gradient: (_give(grid, gradient, winner), None),
)
give = jax.custom_vjp(_give, nondiff_argnums=(0,))
give.defvjp(
    lambda grid, values, winner: (_give(grid, values, winner), winner),
    lambda grid, winner, gradient: (_take(grid, gradient, winner), None),
)


def _maximum(grid: Grid, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the maximum of each window [N, h, w, C] and its place, int8.

    Of a tie it is the first place in row-major order. Padded pixels never win. The gradient goes to
    that place, as in PyTorch.
    """
    return first_maximum(views(x, grid, -jnp.inf))


def _maximum_forward(grid: Grid, x: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    pooled, winner = maximum(grid, x)
    return (pooled, winner), winner


maximum = jax.custom_vjp(_maximum, nondiff_argnums=(0,))
maximum.defvjp(
    _maximum_forward, lambda grid, winner, gradients: (_give(grid, gradients[0], winner),)
)


def _total(grid: Grid, x: jax.Array) -> jax.Array:
    """Sums each window of x [N, H, W, C] -> [N, h, w, C]; padded pixels are zeros."""
    return add_up(views(x, grid))


def _spread(grid: Grid, values: jax.Array) -> jax.Array:
    """Adds each value [N, h, w, C] to all pixels of its window: the transpose of `total`."""
    if grid.tiles:
        n, h, w, channels = values.shape
        shape = (n, h, grid.window, w, grid.window, channels)
        return _within(jnp.broadcast_to(values[:, :, None, :, None], shape), grid)
    if grid.stride == 1:  # sums over the windows turned round
        (above, below), (left, right) = grid.around
        return total(grid._replace(around=((below, above), (right, left))), values)
    return _put([values] * grid.window**2, grid)


total = jax.custom_vjp(_total, nondiff_argnums=(0,))
spread = jax.custom_vjp(_spread, nondiff_argnums=(0,))
total.defvjp(
    lambda grid, x: (total(grid, x), None), lambda grid, _, gradient: (spread(grid, gradient),)
)
spread.defvjp(
    lambda grid, values: (spread(grid, values), None),
    lambda grid, _, gradient: (total(grid, gradient),),
)


def with_edges(x: jax.Array, axis: int) -> jax.Array:
    """Repeats the first and the last row along an axis, faster on a CPU than `jnp.pad` does."""
    first, last = (lax.slice_in_dim(x, k, k + 1, axis=axis) for k in (0, x.shape[axis] - 1))
    return lax.concatenate([first, x, last], axis)
