"""Depthwise convolution: a weighted sum of shifts."""

import jax
import jax.numpy as jnp
from jax import lax

from covjax.ops.convolution.geometry import Geometry, shifted_back, shifts, wide
from covjax.ops.grids import add_up
from covjax.ops.sides import Pair, sides_of, zeros_around


def depthwise_conv(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    taps = kernel.astype(wide(kernel)).reshape(-1, kernel.shape[-1])
    x = jnp.repeat(x, kernel.shape[-1] // x.shape[-1], -1)
    weighted = [shift * tap for shift, tap in zip(shifts(geometry, x), taps, strict=True)]
    return add_up(weighted).astype(x.dtype)


def depthwise_input_gradient(
    geometry: Geometry, sides: Pair, g: jax.Array, kernel: jax.Array
) -> jax.Array:
    taps = kernel.astype(wide(kernel)).reshape(-1, kernel.shape[-1])
    if len(taps) <= 9:
        total = shifted_back(geometry, sides, [g * tap for tap in taps])
    else:  # laid out once, with its zeros, then shifted: less to test for every pixel
        spread = _spread(geometry, sides, g)
        total = add_up(
            [
                spread[:, i : i + sides[0], j : j + sides[1]] * tap
                for (i, j), tap in zip(geometry.taps, taps[::-1], strict=True)
            ]
        )
    return total.reshape(*total.shape[:3], geometry.groups, -1).sum(-1).astype(g.dtype)


def _spread(geometry: Geometry, sides: Pair, g: jax.Array) -> jax.Array:
    """Lays out g [N, H', W', F] at the pixels [N, *sides] that it came from.

    Zeros lie between and `reach` around.
    """
    edges = [
        zeros_around(reach - padding, side + reach, outputs, geometry.stride)
        for reach, padding, side, outputs in zip(
            geometry.reach, geometry.padding, sides, sides_of(g), strict=True
        )
    ]
    padded = lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
    return lax.optimization_barrier(padded)


def depthwise_weight_gradient(geometry: Geometry, x: jax.Array, g: jax.Array) -> jax.Array:
    n = len(x)
    # added up pixel by pixel, which XLA vectorises
    samples = next(k for k in range(min(n, 16), 0, -1) if n % k == 0)
    xs, gs = (
        jnp.split(array, samples) for array in (jnp.repeat(x, g.shape[-1] // x.shape[-1], -1), g)
    )
    taps: list[jax.Array] = []
    for views in zip(*(shifts(geometry, x) for x in xs), strict=True):
        products = [shift * part.astype(wide(g)) for shift, part in zip(views, gs, strict=True)]
        taps.append(lax.optimization_barrier(add_up(products)).sum((0, 1, 2)))
    return jnp.stack(taps).astype(x.dtype).reshape(*geometry.size, 1, g.shape[-1])
