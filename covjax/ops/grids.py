"""Windows over an image: reading them, and the transposes of reading, of which all gradients are
made.

Everything is built from strided views and selects: no gather, scatter or transpose over the image.
Gradients are written by hand, because reverse-mode differentiation of the same code would scatter.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Grid(NamedTuple):
    """Where the windows lie on an image of `size` [H, W]; hashable, static under jit."""

    size: tuple[int, int]
    window: int
    stride: int
    # pixels padded (above, below), (left, right)
    around: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))

    @property
    def tiles(self) -> bool:
        """Whether every pixel lies in at most one window and none is padded."""
        return self.stride == self.window and self.around == ((0, 0), (0, 0))

    @property
    def outputs(self) -> tuple[int, ...]:
        """Windows along height and width."""
        padded = (side + sum(pixels) for side, pixels in zip(self.size, self.around, strict=True))
        return tuple((side - self.window) // self.stride + 1 for side in padded)

    @property
    def places(self) -> list[tuple[int, int]]:
        """Row and column of every pixel within its window, in row-major order."""
        return [divmod(k, self.window) for k in range(self.window**2)]


def grid_of(size: tuple[int, int], window: int, stride: int) -> Grid:
    """Returns side by side windows, dropping what fills none, or overlapping ones, padded to
    ceil(side / stride).

    The padding lies around the image, one pixel more at the bottom and right for an even window.
    """
    around = (0, 0) if stride == window else ((window - 1) // 2, window // 2)
    return Grid(size, window, stride, (around, around))


def views(x: jax.Array, grid: Grid, fill: float = 0.0) -> list[jax.Array]:
    """Splits x [N, H, W, C] into one view [N, h, w, C] per place in the window, `fill` where it
    reaches outside.
    """
    return list(_views(grid, fill, x))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _views(grid: Grid, fill: float, x: jax.Array) -> tuple[jax.Array, ...]:
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


_views.defvjp(
    lambda grid, fill, x: (_views(grid, fill, x), None),
    lambda grid, fill, _, gradients: (_join(list(gradients), grid),),
)


def _join(parts: list[jax.Array], grid: Grid) -> jax.Array:
    """Adds views up where they came from: the transpose of `views`."""
    if grid.tiles:
        k = grid.window
        rows = [jnp.stack(parts[i * k : (i + 1) * k], 3) for i in range(k)]
        return _within(jnp.stack(rows, 2), grid)
    return sum(_put(part, place, grid) for part, place in zip(parts, grid.places, strict=True))


def _put(part: jax.Array, place: tuple[int, int], grid: Grid) -> jax.Array:
    """Puts one view [N, h, w, C] where it came from in an image [N, H, W, C] of zeros."""

    def edges(offset, padding, side, outputs):  # zeros before, after and between
        before = offset - padding[0]
        return before, side - before - (outputs - 1) * grid.stride - 1, grid.stride - 1

    row, column = map(edges, place, grid.around, grid.size, part.shape[1:3])
    return lax.pad(part, jnp.zeros((), part.dtype), ((0, 0, 0), row, column, (0, 0, 0)))


def _within(blocks: jax.Array, grid: Grid) -> jax.Array:
    """Lays blocks [N, h, window, w, window, C] out as an image [N, H, W, C], zeros where no window
    lies.
    """
    n, h, k, w, _, channels = blocks.shape
    full = blocks.reshape(n, h * k, w * k, channels)
    return jnp.pad(full, ((0, 0), (0, grid.size[0] - h * k), (0, grid.size[1] - w * k), (0, 0)))


def first_maximum(parts: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Returns the maximum over the views and which of them, int8, has it first."""
    pooled = parts[0]
    winner = jnp.zeros(pooled.shape, jnp.int8)
    for k, part in enumerate(parts[1:], 1):
        better = part > pooled
        # NaN must not vanish here: the loss has to become non-finite for the run to stop.
        pooled = jnp.maximum(pooled, part)
        winner = jnp.where(better, jnp.int8(k), winner)
    return pooled, winner


def _take(x: jax.Array, winner: jax.Array, grid: Grid) -> jax.Array:
    parts = _views(grid, 0.0, x)
    picked = parts[-1]
    for k in range(len(parts) - 2, -1, -1):
        picked = jnp.where(winner == k, parts[k], picked)
    return picked


def _give(values: jax.Array, winner: jax.Array, grid: Grid) -> jax.Array:
    if grid.tiles:
        k = grid.window
        place = jnp.arange(k**2, dtype=winner.dtype).reshape(1, 1, k, 1, k, 1)
        return _within(
            jnp.where(winner[:, :, None, :, None] == place, values[:, :, None, :, None], 0), grid
        )
    parts = [jnp.where(winner == k, values, 0) for k in range(grid.window**2)]
    return sum(_put(part, place, grid) for part, place in zip(parts, grid.places, strict=True))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def take(grid: Grid, x: jax.Array, winner: jax.Array) -> jax.Array:
    """Reads of each window of x [N, H, W, C] the pixel that `winner` int8 [N, h, w, C] names."""
    return _take(x, winner, grid)


take.defvjp(
    lambda grid, x, winner: (_take(x, winner, grid), winner),
    lambda grid, winner, gradient: (_give(gradient, winner, grid), None),
)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def give(grid: Grid, values: jax.Array, winner: jax.Array) -> jax.Array:
    """Puts values [N, h, w, C] at the pixels that `winner` names in an image [N, H, W, C] of zeros;
    `take` back.
    """
    return _give(values, winner, grid)


give.defvjp(
    lambda grid, values, winner: (_give(values, winner, grid), winner),
    lambda grid, winner, gradient: (_take(gradient, winner, grid), None),
)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def maximum(grid: Grid, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the maximum of each window [N, h, w, C] and its place, int8; the first in row-major
    order of a tie.

    Padded pixels never win. The gradient goes to that place, as in PyTorch.
    """
    return first_maximum(_views(grid, -jnp.inf, x))


def _maximum_forward(grid, x):
    pooled, winner = maximum(grid, x)
    return (pooled, winner), winner


maximum.defvjp(
    _maximum_forward, lambda grid, winner, gradients: (_give(gradients[0], winner, grid),)
)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def total(grid: Grid, x: jax.Array) -> jax.Array:
    """Sums each window of x [N, H, W, C] -> [N, h, w, C]; padded pixels are zeros."""
    return sum(_views(grid, 0.0, x))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def spread(grid: Grid, values: jax.Array) -> jax.Array:
    """Puts each of the values [N, h, w, C] at all pixels of its window and adds up: the transpose
    of `total`.
    """
    if grid.tiles:
        n, h, w, channels = values.shape
        blocks = jnp.broadcast_to(
            values[:, :, None, :, None], (n, h, grid.window, w, grid.window, channels)
        )
        return _within(blocks, grid)
    if grid.stride == 1:  # sums over the windows turned round
        return total(grid._replace(around=tuple(pixels[::-1] for pixels in grid.around)), values)
    return sum(_put(values, place, grid) for place in grid.places)


total.defvjp(
    lambda grid, x: (total(grid, x), None), lambda grid, _, gradient: (spread(grid, gradient),)
)
spread.defvjp(
    lambda grid, values: (spread(grid, values), None),
    lambda grid, _, gradient: (total(grid, gradient),),
)


def with_edges(x: jax.Array, axis: int) -> jax.Array:
    """Repeats the first and the last row along an axis, as `jnp.pad` does, which a CPU does more
    slowly.
    """
    first, last = (lax.slice_in_dim(x, k, k + 1, axis=axis) for k in (0, x.shape[axis] - 1))
    return lax.concatenate([first, x, last], axis)
