"""Convolution that is fast on a CPU too, above all in its gradients.

XLA:CPU convolves small images of many channels, and computes the weight gradient over large ones,
at a fraction of the speed of a matrix product; in bfloat16 it convolves large images slowly too,
and anything by groups. Here these become

- patches: the shifts of a small image, one for every tap, side by side times the kernel, one matrix product;
- blocks: a few rows of a large image at a time, small enough to stay in the cache, one matrix product each, or one for
  every row of the kernel;
- groups: one convolution each; a depthwise convolution becomes a weighted sum of shifts.

On other platforms, and for shapes at which XLA is as fast, its own convolutions stay. The
thresholds below were measured on two AVX-512 cores, batch 8.
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from covjax.errors import InputError

TINY = 7 * 7
SMALL = 12 * 12
LARGE = 32 * 32  # output pixels of an image
FEW_CHANNELS = 16  # channels, up to which XLA is as fast on large images
# channels, up to which every shift of the narrow side costs less than shifting both sides
NARROW = 40
# Since jax 0.12 XLA:CPU's bfloat16 product is fast only if its left operand lies row by row;
# before, it slows down so.
WANTS_ROW_MAJOR = jax.__version_info__ >= (0, 12)


Pair = tuple[int, int]  # of rows and of columns


class Geometry(NamedTuple):
    """How a kernel of `size` moves over an image, and into how many groups the channels fall."""

    size: Pair
    stride: int = 1
    dilation: int = 1
    padding: Pair = (0, 0)  # pixels above and below, left and right
    groups: int = 1

    @property
    def offsets(self) -> tuple[range, range]:
        rows, columns = (range(0, size * self.dilation, self.dilation) for size in self.size)
        return rows, columns

    @property
    def reach(self) -> Pair:
        """How far the last tap lies from the first."""
        return self.offsets[0][-1], self.offsets[1][-1]

    @property
    def taps(self) -> list[Pair]:
        return list(product(*self.offsets))

    @property
    def opposite(self) -> "Geometry":
        """Of the convolution with the flipped kernel that, at stride 1, takes the gradient back to
        the input.
        """
        rows, columns = (
            reach - padding for reach, padding in zip(self.reach, self.padding, strict=True)
        )
        return self._replace(padding=(rows, columns))

    def output_sides(self, x: jax.Array) -> Pair:
        """Of an image x [N, H, W, C]."""
        axes = zip(x.shape[1:3], self.padding, self.reach, strict=True)
        rows, columns = (
            (side + 2 * padding - reach - 1) // self.stride + 1 for side, padding, reach in axes
        )
        return rows, columns


def same_padding(sides: Pair, size: Pair, stride: int, dilation: int = 1) -> tuple[Pair, Pair]:
    """Returns the ((above, below), (left, right)) pixels of TensorFlow's "SAME": ceil(side /
    stride) outputs.
    """

    def along(side, size):
        total = max(0, (-(-side // stride) - 1) * stride + (size - 1) * dilation + 1 - side)
        return total // 2, total - total // 2

    return along(sides[0], size[0]), along(sides[1], size[1])


def conv2d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: int | Pair | str | None = None,
    groups: int = 1,
) -> jax.Array:
    """Convolves x [N, H, W, C] with kernel [kh, kw, C / groups, F], zero-padded on every side
    alike, as in PyTorch.

    `padding` is in pixels, one number or (rows, columns), by default k//2 * dilation; "same" pads
    as TensorFlow does, to ceil(side / stride) outputs, with the odd pixel below and right. Group g
    connects the g-th part of the C channels with the g-th part of the F features. Has reverse-mode
    derivatives of any order; forward mode (jax.jvp) raises TypeError. Raises InputError if the
    channels do not fit the groups.
    """
    *size, inputs, features = kernel.shape
    if inputs * groups != x.shape[-1] or features % groups:
        raise InputError(
            f"groups: {groups} do not divide {x.shape[-1]} channels and {features} features for a kernel of {inputs} "
            "channels, pass a kernel [kh, kw, C / groups, F]"
        )
    if padding == "same":
        around = same_padding(x.shape[1:3], size, stride, dilation)
        padding = tuple(before for before, _ in around)
        rest = [(0, after - before) for before, after in around]
        x = jnp.pad(x, ((0, 0), *rest, (0, 0))) if any(after for _, after in rest) else x
    if padding is None:
        padding = tuple(k // 2 * dilation for k in size)
    padding = (padding, padding) if isinstance(padding, int) else padding
    return _conv(Geometry(tuple(size), stride, dilation, padding, groups), x, kernel)


# A convolution is linear in either operand. It and its two gradients are therefore each other's
# derivatives, which keeps derivatives of every order as fast.


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _by_platform(_conv_form(geometry, x, kernel), _xla_conv, geometry)(x, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _input_gradient(geometry: Geometry, sides: Pair, g: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the gradient [N, *sides, C] to the input, of the gradient g [N, H', W', F] to the
    output.
    """
    return _by_platform(
        _input_gradient_form(geometry, g, kernel), _xla_input_gradient, geometry, sides
    )(g, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _weight_gradient(geometry: Geometry, x: jax.Array, g: jax.Array) -> jax.Array:
    """Returns the gradient [kh, kw, C / groups, F] to the kernel, of the gradient g [N, H', W', F]
    to the output.
    """
    return _by_platform(_weight_gradient_form(geometry, x, g), _xla_weight_gradient, geometry)(x, g)


def _by_platform(cpu: Callable, xla: Callable, *geometry: Geometry | Pair) -> Callable:
    """Returns the function of two arrays that is `cpu` on a CPU and `xla` elsewhere; tracing both
    takes time.
    """
    if cpu is xla:
        return partial(xla, *geometry)
    return partial(
        lax.platform_dependent, cpu=partial(cpu, *geometry), default=partial(xla, *geometry)
    )


def _conv_backward(geometry, operands, g):
    x, kernel = operands
    return _input_gradient(geometry, x.shape[1:3], g, kernel), _weight_gradient(geometry, x, g)


def _input_gradient_backward(geometry, sides, operands, x):
    g, kernel = operands
    return _conv(geometry, x, kernel), _weight_gradient(geometry, x, g)


def _weight_gradient_backward(geometry, operands, kernel):
    x, g = operands
    return _input_gradient(geometry, x.shape[1:3], g, kernel), _conv(geometry, x, kernel)


def _keep(function: Callable) -> Callable:
    """Returns the forward rule that keeps the two arrays, the last arguments, for the backward
    one.
    """
    return lambda *arguments: (function(*arguments), arguments[-2:])


_conv.defvjp(_keep(_conv), _conv_backward)
_input_gradient.defvjp(_keep(_input_gradient), _input_gradient_backward)
_weight_gradient.defvjp(_keep(_weight_gradient), _weight_gradient_backward)


# What XLA runs everywhere.


def _xla_conv(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (geometry.stride,) * 2,
        [(padding, padding) for padding in geometry.padding],
        rhs_dilation=(geometry.dilation,) * 2,
        feature_group_count=geometry.groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _xla_input_gradient(
    geometry: Geometry, sides: Pair, g: jax.Array, kernel: jax.Array
) -> jax.Array:
    # a plain convolution, the form that XLA's fast paths recognise
    if geometry.stride == geometry.groups == 1:
        return _xla_conv(geometry.opposite, g, _flipped(kernel))
    x = jax.ShapeDtypeStruct((g.shape[0], *sides, kernel.shape[2] * geometry.groups), g.dtype)
    return jax.linear_transpose(lambda x: _xla_conv(geometry, x, kernel), x)(g)[0]


def _xla_weight_gradient(geometry: Geometry, x: jax.Array, g: jax.Array) -> jax.Array:
    channels = x.shape[-1] // geometry.groups
    kernel = jax.ShapeDtypeStruct((*geometry.size, channels, g.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda kernel: _xla_conv(geometry, x, kernel), kernel)(g)[0]


def _flipped(kernel: jax.Array) -> jax.Array:
    return kernel[::-1, ::-1].transpose(0, 1, 3, 2)


# What a CPU runs: the fastest form for the shapes, of which some are XLA's.


def _conv_form(
    geometry: Geometry, x: jax.Array, kernel: jax.Array | jax.ShapeDtypeStruct
) -> Callable:
    if geometry.groups > 1:
        return _depthwise_conv if kernel.shape[2] == 1 else partial(_per_group, _conv_form)
    height, width = geometry.output_sides(x)
    if height * width <= TINY:
        return _patch_conv
    if (
        height * width >= LARGE
        and x.dtype == jnp.bfloat16
        and kernel.shape[-1] > FEW_CHANNELS
        and _sliding(geometry)
    ):
        return _blocked_conv
    return _xla_conv


def _input_gradient_form(geometry: Geometry, g: jax.Array, kernel: jax.Array) -> Callable:
    *size, inputs, features = kernel.shape
    if geometry.groups > 1:
        return (
            _depthwise_input_gradient if inputs == 1 else partial(_per_group, _input_gradient_form)
        )
    if g.shape[1] * g.shape[2] <= SMALL:
        return _patch_input_gradient
    flipped = jax.ShapeDtypeStruct((*size, features, inputs), kernel.dtype)
    if geometry.stride == 1 and _conv_form(geometry.opposite, g, flipped) is not _xla_conv:
        return _opposite_conv
    return _xla_input_gradient


def _weight_gradient_form(geometry: Geometry, x: jax.Array, g: jax.Array) -> Callable:
    if geometry.groups > 1:
        depthwise = x.shape[-1] == geometry.groups
        return (
            _depthwise_weight_gradient if depthwise else partial(_per_group, _weight_gradient_form)
        )
    pixels = g.shape[1] * g.shape[2]
    ci = x.shape[-1]
    co = g.shape[-1]
    if geometry.size == (1, 1) or pixels <= (TINY if geometry.stride == 1 else SMALL):
        return _patch_weight_gradient
    if pixels < LARGE or not _sliding(geometry) or max(ci, co) <= FEW_CHANNELS:
        return _xla_weight_gradient
    if min(ci, co) > NARROW:
        return _shift_both
    return _shift_first if ci <= co else _shift_second


def _opposite_conv(geometry: Geometry, sides: Pair, g: jax.Array, kernel: jax.Array) -> jax.Array:
    opposite = geometry.opposite
    kernel = _flipped(kernel)
    return _conv_form(opposite, g, kernel)(opposite, g, kernel)


def _sliding(geometry: Geometry) -> bool:
    """Whether the kernel moves pixel by pixel and is worth cutting into shifts."""
    return geometry.stride == 1 and geometry.size != (1, 1) and min(geometry.opposite.padding) >= 0


# By shifts: tap (i, j) of a kernel sees the image moved by (i, j).


def _shifts(geometry: Geometry, x: jax.Array) -> list[jax.Array]:
    """Returns what every tap sees of x [N, H, W, C]: kh * kw images [N, H', W', C]."""
    x = _padded(geometry, x)
    s = geometry.stride
    height, width = (side - reach for side, reach in zip(x.shape[1:3], geometry.reach, strict=True))
    return [x[:, i : i + height : s, j : j + width : s] for i, j in geometry.taps]


def _padded(geometry: Geometry, x: jax.Array) -> jax.Array:
    (p, q) = geometry.padding
    return jnp.pad(x, ((0, 0), (p, p), (q, q), (0, 0)))


def _shifted_back(geometry: Geometry, sides: Pair, images: list[jax.Array]) -> jax.Array:
    """Sums the images [N, H', W', C] of all taps where they came from: [N, *sides, C]; the
    transpose of `_shifts`.
    """

    def edges(offset, padding, side, outputs):  # zeros before, after and between
        before = offset - padding
        between = geometry.stride - 1
        return before, side - before - (outputs - 1) * geometry.stride - 1, between

    zero = jnp.zeros((), images[0].dtype)
    total = zero
    for tap, image in zip(geometry.taps, images, strict=True):
        rows, columns = map(edges, tap, geometry.padding, sides, image.shape[1:3])
        total = total + lax.pad(image, zero, ((0, 0, 0), rows, columns, (0, 0, 0)))
    return total


# By patches.


def _patches(geometry: Geometry, x: jax.Array) -> jax.Array:
    return jnp.concatenate(_shifts(geometry, x), -1)  # [N, H', W', kh * kw * C]


def _patch_conv(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    y = jnp.dot(
        _patches(geometry, x), kernel.reshape(-1, kernel.shape[-1]), preferred_element_type=_wide(x)
    )
    return y.astype(x.dtype)


def _patch_input_gradient(
    geometry: Geometry, sides: Pair, g: jax.Array, kernel: jax.Array
) -> jax.Array:
    rows = kernel.reshape(-1, kernel.shape[-1])
    patches = lax.dot_general(g, rows, (((3,), (1,)), ((), ())), preferred_element_type=_wide(g))
    return _shifted_back(geometry, sides, jnp.split(patches, len(geometry.taps), -1)).astype(
        g.dtype
    )


def _patch_weight_gradient(geometry: Geometry, x: jax.Array, g: jax.Array) -> jax.Array:
    taps = _product(_patches(geometry, x), g).astype(x.dtype)
    return taps.reshape(*geometry.size, x.shape[-1], g.shape[-1])


# By groups.


def _per_group(choose: Callable, geometry: Geometry, *operands: Pair | jax.Array) -> jax.Array:
    """Runs the form chosen for one group on the channels of every group, the parts of the last two
    operands.
    """
    *sides, a, b = operands
    group = geometry._replace(groups=1)
    parts = (jnp.split(array, geometry.groups, -1) for array in (a, b))
    return jnp.concatenate(
        [choose(group, *pair)(group, *sides, *pair) for pair in zip(*parts, strict=True)], -1
    )


def _depthwise_conv(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    taps = kernel.astype(_wide(kernel)).reshape(-1, kernel.shape[-1])
    x = jnp.repeat(x, kernel.shape[-1] // x.shape[-1], -1)
    return sum(shift * tap for shift, tap in zip(_shifts(geometry, x), taps, strict=True)).astype(
        x.dtype
    )


def _depthwise_input_gradient(
    geometry: Geometry, sides: Pair, g: jax.Array, kernel: jax.Array
) -> jax.Array:
    taps = kernel.astype(_wide(kernel)).reshape(-1, kernel.shape[-1])
    if len(taps) <= 9:
        total = _shifted_back(geometry, sides, [g * tap for tap in taps])
    else:  # laid out once, with its zeros, then shifted: less to test for every pixel
        spread = _spread(geometry, sides, g)
        total = sum(
            spread[:, i : i + sides[0], j : j + sides[1]] * tap
            for (i, j), tap in zip(geometry.taps, taps[::-1], strict=True)
        )
    return total.reshape(*total.shape[:3], geometry.groups, -1).sum(-1).astype(g.dtype)


def _spread(geometry: Geometry, sides: Pair, g: jax.Array) -> jax.Array:
    """Lays out g [N, H', W', F] at the pixels [N, *sides] that it came from, zeros between and
    `reach` around.
    """
    edges = []
    for side, outputs, padding, reach in zip(
        sides, g.shape[1:3], geometry.padding, geometry.reach, strict=True
    ):
        before = reach - padding
        edges.append(
            (
                before,
                side + reach - before - (outputs - 1) * geometry.stride - 1,
                geometry.stride - 1,
            )
        )
    return lax.optimization_barrier(
        lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
    )


def _depthwise_weight_gradient(geometry: Geometry, x: jax.Array, g: jax.Array) -> jax.Array:
    n = len(x)
    # added up pixel by pixel, which XLA vectorises
    samples = next(k for k in range(min(n, 16), 0, -1) if n % k == 0)
    xs, gs = (
        jnp.split(array, samples) for array in (jnp.repeat(x, g.shape[-1] // x.shape[-1], -1), g)
    )
    taps = []
    for shifts in zip(*(_shifts(geometry, x) for x in xs), strict=True):
        products = (shift * part.astype(_wide(g)) for shift, part in zip(shifts, gs, strict=True))
        taps.append(lax.optimization_barrier(sum(products)).sum((0, 1, 2)))
    return jnp.stack(taps).astype(x.dtype).reshape(*geometry.size, 1, g.shape[-1])


# By blocks of rows, at stride 1.


def _blocked_conv(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Sums, over the rows of the kernel, products of horizontal shifts of x with that row, 16 rows
    of x at a time.
    """
    n, height, width = (x.shape[0], *geometry.output_sides(x))
    features = kernel.shape[-1]
    down, across = geometry.offsets
    rows = min(16, height)
    x = _padded(geometry, x)
    kernel = kernel.reshape(geometry.size[0], -1, features)
    blocks = -(-height // rows)

    def write(k, y):
        b = k // blocks
        # the last block overlaps the one before
        top = jnp.minimum(k % blocks * rows, height - rows)
        xs = _rows(x, b, top, rows + down[-1])
        shifts = jnp.concatenate([xs[:, j : j + width] for j in across], -1)
        products = (
            jnp.dot(shifts[i : i + rows], kernel_row, preferred_element_type=_wide(x))
            for i, kernel_row in zip(down, kernel, strict=True)
        )
        return lax.dynamic_update_slice(y, sum(products).astype(y.dtype)[None], (b, top, 0, 0))

    return lax.fori_loop(0, n * blocks, write, jnp.zeros((n, height, width, features), x.dtype))


def _shift_first(geometry: Geometry, x: jax.Array, g: jax.Array) -> jax.Array:
    """Multiplies all kh * kw shifts of x [N, H, W, C] with g [N, H', W', F] -> [kh, kw, C, F]."""
    n, height, width, co = g.shape
    ci = x.shape[-1]
    x = _padded(geometry, x)

    def block(rows, b, top):
        xs = _rows(x, b, top, rows + geometry.reach[0])
        gs = _rows(g, b, top, rows)
        shifts = [xs[i : i + rows, j : j + width] for i, j in geometry.taps]
        return _product(jnp.concatenate(shifts, -1), gs)

    taps = _sum_over_blocks(
        block, 16, n, height, jnp.zeros((len(geometry.taps) * ci, co), _wide(x))
    )
    return taps.reshape(*geometry.size, ci, co).astype(x.dtype)


def _shift_second(geometry: Geometry, x: jax.Array, g: jax.Array) -> jax.Array:
    return _flipped(_shift_first(geometry.opposite, g, x))


def _shift_both(geometry: Geometry, x: jax.Array, g: jax.Array) -> jax.Array:
    """Multiplies horizontal shifts of x [N, H, W, C] with vertical shifts of g [N, H', W', F]: less
    to lay out.
    """
    n, height, _, ci = x.shape
    width, co = g.shape[2:]
    down, across = geometry.offsets
    rows_of_kernel, columns = geometry.size
    p = geometry.padding[1]
    q = geometry.opposite.padding[0]
    x = jnp.pad(x, ((0, 0), (0, 0), (p, p), (0, 0)))
    g = jnp.pad(g, ((0, 0), (q, q), (0, 0), (0, 0)))

    def block(rows, b, top):
        xs = _rows(x, b, top, rows)
        gs = _rows(g, b, top, rows + down[-1])
        horizontal = jnp.concatenate([xs[:, j : j + width] for j in across], -1)
        if x.dtype == jnp.bfloat16 and WANTS_ROW_MAJOR:
            # else XLA takes the transposition into the product
            gs = lax.optimization_barrier(gs.transpose(2, 0, 1))
            vertical = jnp.concatenate([gs[:, i : i + rows] for i in reversed(down)]).reshape(
                rows_of_kernel * co, -1
            )
            return jnp.dot(
                vertical, horizontal.reshape(-1, columns * ci), preferred_element_type=_wide(x)
            )
        return _product(jnp.concatenate([gs[i : i + rows] for i in reversed(down)], -1), horizontal)

    taps = _sum_over_blocks(
        block, 8, n, height, jnp.zeros((rows_of_kernel * co, columns * ci), _wide(x))
    )
    return taps.reshape(rows_of_kernel, co, columns, ci).transpose(0, 2, 3, 1).astype(x.dtype)


def _rows(x: jax.Array, b: jax.Array, top: jax.Array, count: int) -> jax.Array:
    return lax.dynamic_slice(x, (b, top, 0, 0), (1, count, *x.shape[2:]))[0]


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Sums the outer products [A, B] of a [..., A] and b [..., B] over all pixels, in float32 at
    least.
    """
    flat = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    return lax.dot_general(*flat, (((0,), (0,)), ((), ())), preferred_element_type=_wide(a))


def _wide(x: jax.Array) -> jnp.dtype:
    """The type to add up in: float32 at least."""
    return jnp.promote_types(x.dtype, jnp.float32)


def _sum_over_blocks(block: Callable, rows: int, n: int, height: int, zero: jax.Array) -> jax.Array:
    """Adds to zero block(rows, sample, first row) over n samples of `height` rows, the last block
    maybe smaller.
    """
    rows = min(rows, height)
    blocks, rest = divmod(height, rows)

    def add(i, total):
        return total + block(rows, i // blocks, i % blocks * rows)

    total = lax.fori_loop(0, n * blocks, add, zero)
    if rest:
        total = lax.fori_loop(0, n, lambda b, total: total + block(rest, b, blocks * rows), total)
    return total
