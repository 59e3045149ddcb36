"""What a CPU runs: the fastest form for the shapes, of which some are XLA's.

The thresholds were measured on two AVX-512 cores, batch 8.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from covjax.ops.convolution.blocks import (
    blocked_conv,
    shift_both,
    shift_first,
    shift_second,
    sliding,
)
from covjax.ops.convolution.depthwise import (
    depthwise_conv,
    depthwise_input_gradient,
    depthwise_weight_gradient,
)
from covjax.ops.convolution.geometry import Geometry, flipped
from covjax.ops.convolution.library import xla_conv, xla_input_gradient, xla_weight_gradient
from covjax.ops.convolution.patches import (
    patch_conv,
    patch_input_gradient,
    patch_weight_gradient,
)
from covjax.ops.sides import Pair

TINY = 7 * 7
SMALL = 12 * 12
LARGE = 32 * 32  # output pixels of an image
FEW_CHANNELS = 16  # channels, up to which XLA is as fast on large images
# channels, up to which every shift of the narrow side costs less than shifting both sides
NARROW = 40


Form = Callable[..., jax.Array]  # (geometry, two arrays), to the input also of the input's sides


def conv_form(geometry: Geometry, x: jax.Array, kernel: jax.Array | jax.ShapeDtypeStruct) -> Form:
    if geometry.groups > 1:
        return depthwise_conv if kernel.shape[2] == 1 else partial(_per_group, conv_form)
    height, width = geometry.output_sides(x)
    if height * width <= TINY:
        return patch_conv
    if (
        height * width >= LARGE
        and x.dtype == jnp.bfloat16
        and kernel.shape[-1] > FEW_CHANNELS
        and sliding(geometry)
    ):
        return blocked_conv
    return xla_conv


def input_gradient_form(geometry: Geometry, g: jax.Array, kernel: jax.Array) -> Form:
    *size, inputs, features = kernel.shape
    if geometry.groups > 1:
        return depthwise_input_gradient if inputs == 1 else partial(_per_group, input_gradient_form)
    if g.shape[1] * g.shape[2] <= SMALL:
        return patch_input_gradient
    flipped = jax.ShapeDtypeStruct((*size, features, inputs), kernel.dtype)
    if geometry.stride == 1 and conv_form(geometry.opposite, g, flipped) is not xla_conv:
        return _opposite_conv
    return xla_input_gradient


def weight_gradient_form(geometry: Geometry, x: jax.Array, g: jax.Array) -> Form:
    if geometry.groups > 1:
        depthwise = x.shape[-1] == geometry.groups
        return depthwise_weight_gradient if depthwise else partial(_per_group, weight_gradient_form)
    pixels = g.shape[1] * g.shape[2]
    ci = x.shape[-1]
    co = g.shape[-1]
    if geometry.size == (1, 1) or pixels <= (TINY if geometry.stride == 1 else SMALL):
        return patch_weight_gradient
    if pixels < LARGE or not sliding(geometry) or max(ci, co) <= FEW_CHANNELS:
        return xla_weight_gradient
    if min(ci, co) > NARROW:
        return shift_both
    return shift_first if ci <= co else shift_second


def _opposite_conv(geometry: Geometry, sides: Pair, g: jax.Array, kernel: jax.Array) -> jax.Array:
    opposite = geometry.opposite
    kernel = flipped(kernel)
    return conv_form(opposite, g, kernel)(opposite, g, kernel)


def _per_group(choose: Callable[..., Form], geometry: Geometry, *operands: Any) -> jax.Array:
    """Runs the form chosen for one group on the channels of every group.

    These are the parts of the last two operands, which are arrays.
    """
    *sides, a, b = operands
    group = geometry._replace(groups=1)
    parts = (jnp.split(array, geometry.groups, -1) for array in (a, b))
    return jnp.concatenate(
        [choose(group, *pair)(group, *sides, *pair) for pair in zip(*parts, strict=True)], -1
    )
