"""Convolution that is fast on a CPU too, above all in its gradients.

XLA:CPU convolves small images of many channels, and computes the weight gradient over large ones,
at a fraction of the speed of a matrix product; in bfloat16 it convolves large images slowly too,
and anything by groups. Here these become

- patches: the shifts of a small image, one for every tap, side by side times the kernel, one matrix
  product;
- blocks: a few rows of a large image at a time, small enough to stay in the cache, one matrix
  product each, or one for every row of the kernel;
- groups: one convolution each; a depthwise convolution becomes a weighted sum of shifts.

On other platforms, and for shapes at which XLA is as fast, its own convolutions stay.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from covjax.errors import InputError
from covjax.ops.convolution.cpu import conv_form, input_gradient_form, weight_gradient_form
from covjax.ops.convolution.geometry import Geometry, Padding, same_padding
from covjax.ops.convolution.library import xla_conv, xla_input_gradient, xla_weight_gradient
from covjax.ops.sides import Pair, sides_of

__all__ = ["Geometry", "Padding", "conv2d", "same_padding"]


def conv2d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: Padding = None,
    groups: int = 1,
) -> jax.Array:
    """Convolves x [N, H, W, C] with kernel [kh, kw, C / groups, F], padded by zeros.

    Every side is padded alike, as in PyTorch. `padding` is in pixels, one number or (rows,
    columns), by default k//2 * dilation; "same" pads as TensorFlow does, to ceil(side / stride)
    outputs, with the odd pixel below and right. Group g connects the g-th part of the C channels
    with the g-th part of the F features. Has reverse-mode derivatives of any order; forward mode
    (jax.jvp) raises TypeError. Raises InputError if the channels do not fit the groups.
    """
    rows, columns, inputs, features = kernel.shape
    size = (rows, columns)
    if inputs * groups != x.shape[-1] or features % groups:
        raise InputError(
            f"groups: {groups} do not divide {x.shape[-1]} channels and {features} features for a "
            f"kernel of {inputs} channels, pass a kernel [kh, kw, C / groups, F]"
        )
    if padding == "same":
        (above, below), (left, right) = same_padding(sides_of(x), size, stride, dilation)
        if (above, left) != (below, right):  # the odd pixel
            x = jnp.pad(x, ((0, 0), (0, below - above), (0, right - left), (0, 0)))
        padding = (above, left)
    if padding is None:
        padding = (rows // 2 * dilation, columns // 2 * dilation)
    if isinstance(padding, int):
        padding = (padding, padding)
    return _conv(Geometry(size, stride, dilation, padding, groups), x, kernel)


# A convolution is linear in either operand. It and its two gradients are therefore each other's
# derivatives, which keeps derivatives of every order as fast.


def _convolved(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _by_platform(conv_form(geometry, x, kernel), xla_conv, geometry)(x, kernel)


def _to_input(geometry: Geometry, sides: Pair, g: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the gradient [N, *sides, C] to the input of g [N, H', W', F] to the output."""
    form = input_gradient_form(geometry, g, kernel)
    return _by_platform(form, xla_input_gradient, geometry, sides)(g, kernel)


def _to_kernel(geometry: Geometry, x: jax.Array, g: jax.Array) -> jax.Array:
    """Returns the gradient [kh, kw, C / groups, F] to the kernel of g [N, H', W', F]."""
    form = weight_gradient_form(geometry, x, g)
    return _by_platform(form, xla_weight_gradient, geometry)(x, g)


_conv = jax.custom_vjp(_convolved, nondiff_argnums=(0,))
_input_gradient = jax.custom_vjp(_to_input, nondiff_argnums=(0, 1))
_weight_gradient = jax.custom_vjp(_to_kernel, nondiff_argnums=(0,))

Operands = tuple[jax.Array, jax.Array]


def _conv_backward(geometry: Geometry, operands: Operands, g: jax.Array) -> Operands:
    x, kernel = operands
    return _input_gradient(geometry, sides_of(x), g, kernel), _weight_gradient(geometry, x, g)


def _input_gradient_backward(
    geometry: Geometry, _: Pair, operands: Operands, x: jax.Array
) -> Operands:
    g, kernel = operands
    return _conv(geometry, x, kernel), _weight_gradient(geometry, x, g)


def _weight_gradient_backward(
    geometry: Geometry, operands: Operands, kernel: jax.Array
) -> Operands:
    x, g = operands
    return _input_gradient(geometry, sides_of(x), g, kernel), _conv(geometry, x, kernel)


def _keep(function: Callable[..., jax.Array]) -> Callable[..., tuple[jax.Array, Operands]]:
    """Returns the forward rule that keeps the two arrays for the backward one."""

    def forward(*arguments: Any) -> tuple[jax.Array, Operands]:
        return function(*arguments), arguments[-2:]

    return forward


_conv.defvjp(_keep(_conv), _conv_backward)
_input_gradient.defvjp(_keep(_input_gradient), _input_gradient_backward)
_weight_gradient.defvjp(_keep(_weight_gradient), _weight_gradient_backward)


def _by_platform(
    cpu: Callable[..., jax.Array], xla: Callable[..., jax.Array], *form: Geometry | Pair
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Returns the function of two arrays that is `cpu` on a CPU and `xla` elsewhere."""
    on_cpu = partial(cpu, *form)
    elsewhere = partial(xla, *form)
    if cpu is xla:  # tracing both takes time
        return elsewhere
    return lambda a, b: lax.platform_dependent(a, b, cpu=on_cpu, default=elsewhere)
