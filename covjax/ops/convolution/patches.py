"""Convolution of small images: what all taps see, side by side, times the kernel."""

import jax
import jax.numpy as jnp
from jax import lax

from covjax.ops.convolution.geometry import Geometry, product, shifted_back, shifts, wide
from covjax.ops.sides import Pair


def _patches(geometry: Geometry, x: jax.Array) -> jax.Array:
    return jnp.concatenate(shifts(geometry, x), -1)  # [N, H', W', kh * kw * C]


def patch_conv(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    y = jnp.dot(
        _patches(geometry, x), kernel.reshape(-1, kernel.shape[-1]), preferred_element_type=wide(x)
    )
    return y.astype(x.dtype)


def patch_input_gradient(
    geometry: Geometry, sides: Pair, g: jax.Array, kernel: jax.Array
) -> jax.Array:
    rows = kernel.reshape(-1, kernel.shape[-1])
    patches = lax.dot_general(g, rows, (((3,), (1,)), ((), ())), preferred_element_type=wide(g))
    return shifted_back(geometry, sides, jnp.split(patches, len(geometry.taps), -1)).astype(g.dtype)


def patch_weight_gradient(geometry: Geometry, x: jax.Array, g: jax.Array) -> jax.Array:
    taps = product(_patches(geometry, x), g).astype(x.dtype)
    return taps.reshape(*geometry.size, x.shape[-1], g.shape[-1])
