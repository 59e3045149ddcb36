"""What XLA runs everywhere: its own convolution and the transposes of it."""

import jax
from jax import lax

from covjax.ops.convolution.geometry import Geometry, flipped
from covjax.ops.sides import Pair


def xla_conv(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (geometry.stride,) * 2,
        [(padding, padding) for padding in geometry.padding],
        rhs_dilation=(geometry.dilation,) * 2,
        feature_group_count=geometry.groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def xla_input_gradient(
    geometry: Geometry, sides: Pair, g: jax.Array, kernel: jax.Array
) -> jax.Array:
    # a plain convolution, the form that XLA's fast paths recognise
    if geometry.stride == geometry.groups == 1:
        return xla_conv(geometry.opposite, g, flipped(kernel))
    x = jax.ShapeDtypeStruct((g.shape[0], *sides, kernel.shape[2] * geometry.groups), g.dtype)
    return jax.linear_transpose(lambda x: xla_conv(geometry, x, kernel), x)(g)[0]


def xla_weight_gradient(geometry: Geometry, x: jax.Array, g: jax.Array) -> jax.Array:
    channels = x.shape[-1] // geometry.groups
    kernel = jax.ShapeDtypeStruct((*geometry.size, channels, g.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda kernel: xla_conv(geometry, x, kernel), kernel)(g)[0]
