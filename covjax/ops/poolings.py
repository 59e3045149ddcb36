"""The poolings: a function each, and a table of what is known about them."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from covjax.ops.grids import (
    Grid,
    add_up,
    first_maximum,
    grid_of,
    in_float32,
    maximum,
    take,
    total,
    views,
    weighted_sum,
    with_edges,
)
from covjax.ops.kept import HighBands, Kept, Switches
from covjax.ops.sides import sides_of
from covjax.ops.tables import View
from covjax.ops.wavelets import Details, dwt2

Parameters = Mapping[str, jax.Array]
Initializer = Callable[..., jax.Array]
ParameterShapes = dict[str, tuple[Initializer, tuple[int, ...]]]  # {name: (initialiser, shape)}
Pooled = tuple[jax.Array, Kept]
Keys = jax.Array | None  # one random key per sample


def nothing_learned(window: int, channels: int) -> ParameterShapes:
    return {}


class Pooling(NamedTuple):
    """A pooling: (x [N, H, W, C], grid, parameters, keys) -> (pooled, kept), and its facts."""

    function: Callable[[jax.Array, Grid, Parameters, Keys], Pooled]
    text: str  # what it does, and the paper
    parameters: Callable[[int, int], ParameterShapes] = nothing_learned  # of window and channels
    # may stand before or after a convolution at stride 1: keeps size and channels
    smooths: bool = False
    draws: bool = False  # at random, in training
    unpools_with: tuple[str, ...] = ()  # besides unpoolings that name it, or take any
    halves: bool = False  # by windows of 2 at stride 2 alone; odd sides too, rounded up


def _at_every_pixel(grid: Grid) -> Grid:
    return grid_of(grid.size, grid.window, 1)


def _max_of(x: jax.Array, grid: Grid) -> Pooled:
    pooled, winner = maximum(grid, x)
    return pooled, Switches(winner, grid.window, grid.size) if grid.tiles else None


def _mean_of(x: jax.Array, grid: Grid) -> jax.Array:
    return total(grid, x) * jnp.asarray(1 / grid.window**2, x.dtype)


def _blend(share: jax.Array, x: jax.Array, grid: Grid) -> Pooled:
    """The share of the maximum and the rest of the mean; returns to the pixel of the maximum."""
    pooled, kept = _max_of(x, grid)
    mean = _mean_of(x, grid)
    return mean + share.astype(x.dtype) * (pooled - mean), kept


def _max(x: jax.Array, grid: Grid, parameters: Parameters, keys: Keys) -> Pooled:
    return _max_of(x, grid)


def _avg(x: jax.Array, grid: Grid, parameters: Parameters, keys: Keys) -> Pooled:
    return _mean_of(x, grid), None


def _max_avg_sum(x: jax.Array, grid: Grid, parameters: Parameters, keys: Keys) -> Pooled:
    pooled, kept = _max_of(x, grid)
    return pooled + _mean_of(x, grid), kept


def _max_avg_concat(x: jax.Array, grid: Grid, parameters: Parameters, keys: Keys) -> Pooled:
    return jnp.concatenate([_max_of(x, grid)[0], _mean_of(x, grid)], -1), None


def _avg_then_max(x: jax.Array, grid: Grid, parameters: Parameters, keys: Keys) -> Pooled:
    return _max_of(_mean_of(x, _at_every_pixel(grid)), grid)


def _max_then_avg(x: jax.Array, grid: Grid, parameters: Parameters, keys: Keys) -> Pooled:
    return _mean_of(_max_of(x, _at_every_pixel(grid))[0], grid), None


def _mixed(x: jax.Array, grid: Grid, parameters: Parameters, keys: Keys) -> Pooled:
    return _blend(nn.sigmoid(parameters["mix"]), x, grid)


def _gated(x: jax.Array, grid: Grid, parameters: Parameters, keys: Keys) -> Pooled:
    gate = parameters["gate"].astype(x.dtype).reshape(grid.window**2, -1)
    return _blend(nn.sigmoid(weighted_sum(list(gate), views(x, grid))), x, grid)


def _stochastic(x: jax.Array, grid: Grid, parameters: Parameters, keys: Keys) -> Pooled:
    wide = in_float32(x)
    weights = views(nn.relu(wide), grid)
    # Where nothing is above zero all pixels are as likely, but padded ones are not there.
    there = views(jnp.ones_like(wide[:1, :, :, :1]), grid)
    empty = add_up(weights) < 1e-12  # so that no gradient overflows
    weights = [jnp.where(empty, one, weight) for weight, one in zip(weights, there, strict=True)]
    if keys is None:
        expected = weighted_sum(weights, views(wide, grid)) / add_up(weights)
        return expected.astype(x.dtype), None
    below = [weights[0]]
    for weight in weights[1:]:
        below.append(below[-1] + weight)

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, below[0].shape[1:])

    chance = 1 - jax.vmap(draw)(keys)  # in (0, 1], so that no pixel of weight zero is drawn
    drawn = chance * below[-1]
    winner = jnp.zeros(drawn.shape, jnp.int8)
    for bound in below[:-1]:
        winner = winner + (bound < drawn)
    return take(grid, x, lax.stop_gradient(winner)), None


def _lp(x: jax.Array, grid: Grid, parameters: Parameters, keys: Keys) -> Pooled:
    smallest = 1e-12  # below it a magnitude counts as that, and has no gradient
    # at every pixel once, not in every window
    logs = jnp.log(jnp.maximum(jnp.abs(in_float32(x)), smallest))
    power = 1 + nn.softplus(parameters["power"])
    parts = [power * part for part in views(logs, grid, math.log(smallest))]
    top = lax.stop_gradient(first_maximum(parts)[0])
    mean = add_up([jnp.exp(part - top) for part in parts]) / grid.window**2
    return jnp.exp((jnp.log(mean) + top) / power).astype(x.dtype), None


def _soft(x: jax.Array, grid: Grid, parameters: Parameters, keys: Keys) -> Pooled:
    # The lowest number, whose weight is zero, not -inf, which times that weight would be NaN.
    parts = views(in_float32(x), grid, float(jnp.finfo(jnp.float32).min))
    top = lax.stop_gradient(first_maximum(parts)[0])
    weights = [jnp.exp(part - top) for part in parts]
    return (weighted_sum(weights, parts) / add_up(weights)).astype(x.dtype), None


def _blur(x: jax.Array, grid: Grid, parameters: Parameters, keys: Keys) -> Pooled:
    x = _max_of(x, _at_every_pixel(grid))[0]
    for axis, outputs in zip((1, 2), grid.outputs, strict=True):
        # Without a barrier XLA computes every maximum anew for each pixel that it goes into.
        x = with_edges(lax.optimization_barrier(x), axis)
        reach = (outputs - 1) * grid.stride + 1
        left, middle, right = (
            lax.slice_in_dim(x, k, k + reach, grid.stride, axis) for k in range(3)
        )
        x = (left + 2 * middle + right) * jnp.asarray(0.25, x.dtype)
    return x, None


def _conv(x: jax.Array, grid: Grid, parameters: Parameters, keys: Keys) -> Pooled:
    patches = jnp.concatenate(views(x, grid), -1)
    kernel = parameters["kernel"].astype(x.dtype).reshape(patches.shape[-1], -1)
    return patches @ kernel + parameters["bias"].astype(x.dtype), None


def _haar(x: jax.Array, grid: Grid, parameters: Parameters, keys: Keys) -> Pooled:
    ll, *high = dwt2(x, "haar")
    return ll, HighBands(Details(*high), sides_of(x))


def _haar_bands(x: jax.Array, grid: Grid, parameters: Parameters, keys: Keys) -> Pooled:
    bands = dwt2(x, "haar")
    return jnp.concatenate(bands, -1), HighBands(Details(*bands[1:]), sides_of(x))


def _mix(window: int, channels: int) -> ParameterShapes:
    return {"mix": (nn.initializers.zeros, ())}


def _gate(window: int, channels: int) -> ParameterShapes:
    return {"gate": (nn.initializers.zeros, (window, window, channels))}


def _power(window: int, channels: int) -> ParameterShapes:
    return {"power": (nn.initializers.constant(1.8545866), (channels,))}  # softplus: 2


def _kernel(window: int, channels: int) -> ParameterShapes:
    shape = (window, window, channels, channels)
    return {
        "kernel": (nn.initializers.glorot_uniform(), shape),
        "bias": (nn.initializers.zeros, (channels,)),
    }


POOLING_TABLE: dict[str, Pooling] = {
    "max": Pooling(
        _max,
        "maximum of each window; keeps which pixel won, for unpooling (SegNet, arXiv:1511.00561)",
        smooths=True,
    ),
    "avg": Pooling(
        _avg, "mean of each window (arXiv:2009.08864 smooths by it at stride 1)", smooths=True
    ),
    "max_avg_sum": Pooling(
        _max_avg_sum, "maximum plus mean of each window (arXiv:1509.08985 mixes them)", smooths=True
    ),
    "max_avg_concat": Pooling(
        _max_avg_concat, "maximum and mean side by side as channels (as in CBAM, arXiv:1807.06521)"
    ),
    "avg_then_max": Pooling(
        _avg_then_max, "mean at stride 1, then maximum: the paper's order (arXiv:2009.08864)"
    ),
    "max_then_avg": Pooling(
        _max_then_avg,
        "maximum at stride 1, then mean: the paper's order reversed (arXiv:2009.08864)",
    ),
    "mixed": Pooling(
        _mixed,
        "a m + (1 - a) mean of the maximum m, a one learned number, 0.5 at first "
        "(arXiv:1509.08985)",
        _mix,
        smooths=True,
    ),
    "gated": Pooling(
        _gated,
        "as mixed, a the sigmoid of a learned weighted sum of each window, per channel "
        "(arXiv:1509.08985)",
        _gate,
        smooths=True,
    ),
    "stochastic": Pooling(
        _stochastic,
        "draws a pixel in proportion to its value above 0; in use the expected value "
        "(arXiv:1301.3557)",
        smooths=True,
        draws=True,
    ),
    "lp": Pooling(
        _lp,
        "p-th root of the mean of |x|**p, p > 1 learned per channel, 3 at first (arXiv:1311.1780)",
        _power,
        smooths=True,
    ),
    "soft": Pooling(
        _soft,
        "mean weighted by the softmax of each window (SoftPool, arXiv:2101.00440)",
        smooths=True,
    ),
    "blur": Pooling(
        _blur,
        "maximum at stride 1, then a stride with the filter 1 2 1, edges repeated "
        "(BlurPool, arXiv:1904.11486)",
        smooths=True,
    ),
    "conv": Pooling(
        _conv,
        "strided convolution, C to C channels, with bias (All-CNN, arXiv:1412.6806)",
        _kernel,
    ),
    "haar": Pooling(
        _haar,
        "low-pass band of the Haar transform; keeps the high bands, for unpooling "
        "(WaveSNet, arXiv:2005.14461)",
        halves=True,
    ),
    "haar_bands": Pooling(
        _haar_bands,
        "all four bands of the Haar transform side by side as channels (MWCNN, arXiv:1805.07071)",
        halves=True,
    ),
}


def _text(name: str) -> str:
    return POOLING_TABLE[name].text


POOLINGS = View(POOLING_TABLE, _text)


def smoothings() -> tuple[str, ...]:
    """Returns "none" and the poolings that may smooth at stride 1."""
    return ("none", *(name for name, pooling in POOLING_TABLE.items() if pooling.smooths))
