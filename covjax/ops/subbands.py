"""Splitting a signal into sub-bands of half the rate, and the adjoint of that: all that a wavelet
transform computes.

`split` extends a signal beyond its ends and keeps every second value of its convolution by a
low-pass and by a high-pass filter, along one axis or along each of several. `merge` is its exact
adjoint. A wavelet transform is a `split`, its inverse a `merge` by other filters, and the gradient
of either is the other one; so the two are a pair of linear primitives, and JAX derives forward
mode, reverse mode and every order from that.

There are two formulations of the same sums. Accelerators convolve with stride 2. A CPU adds shifted
slices, one image at a time so that all passes over it stay in the cache: XLA:CPU would take 13 to
30 times longer to convolve.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

CACHED = 2**18  # values that stay in the cache through all passes over them

# How a signal goes on beyond its ends: PyWavelets' names.
MODES = {
    "zero": "0 0 | a b c d | 0 0",
    "constant": "a a | a b c d | d d",
    "symmetric": "b a | a b c d | d c",
    "reflect": "c b | a b c d | c b",
    "periodic": "c d | a b c d | a b",
    "periodization": "as periodic, after an odd length repeats its last value; as few coefficients as values",
    "antisymmetric": "-b -a | a b c d | -d -c",
    "antireflect": "2a-c 2a-b | a b c d | 2d-c 2d-b",
    "smooth": "2a-b continued | a b c d | 2d-c continued",
}


class Filters(NamedTuple):
    """Taps of the low-pass and of the high-pass filter, of the same even number, in the order of
    the samples.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]


class Axis(NamedTuple):
    """How one axis is split; static and hashable."""

    axis: int  # counted from the end: -1 is the last one
    size: int  # of the unsplit signal
    filters: Filters
    mode: str

    @property
    def margins(self) -> tuple[int, int]:
        """Values put before the signal and after it, to an even length."""
        taps = len(self.filters.low)
        margin = taps // 2 - 1 if self.mode == "periodization" else taps - 2
        return margin, margin + self.size % 2


def split(x: jax.Array, axes: tuple[Axis, ...]) -> list[jax.Array]:
    """Splits x along each axis in turn; of k axes come 2**k bands, the first axis being the slowest
    bit (low, high).
    """
    return split_p.bind(x, axes=axes)


def merge(bands: list[jax.Array], axes: tuple[Axis, ...]) -> jax.Array:
    """The adjoint of `split`: <split(x), bands> == <x, merge(bands)>."""
    return merge_p.bind(*bands, axes=axes)[0]


# Along all axes.


def _split(x: jax.Array, *, axes: tuple[Axis, ...], decimate: Callable) -> list[jax.Array]:
    bands = [x]
    for place in axes:
        # Else XLA:CPU computes the bands of one axis again for each of the next.
        bands = lax.optimization_barrier(bands)
        bands = [part for band in bands for part in decimate(_extend(band, place), place)]
    return bands


def _merge(*bands: jax.Array, axes: tuple[Axis, ...], interpolate: Callable) -> list[jax.Array]:
    for place in reversed(axes):
        pairs = zip(bands[::2], bands[1::2], strict=True)
        bands = [_fold(interpolate(low, high, place), place) for low, high in pairs]
    return list(bands)


# Beyond the ends.


def _extend(x: jax.Array, place: Axis) -> jax.Array:
    """Puts what `mode` says before and after x: a linear map of the values near its ends."""
    before, after = place.margins
    if place.mode == "zero" or before == after == 0:
        widths = [(0, 0)] * x.ndim
        widths[place.axis] = place.margins
        return jnp.pad(x, widths)
    axis = x.ndim + place.axis
    reach = max(before, after) + 1
    ends = x
    odd = place.size % 2  # the ends stand for the whole, so they are odd where it is
    if place.size > 2 * reach + odd:
        first = lax.slice_in_dim(x, 0, reach, axis=axis)
        last = lax.slice_in_dim(x, -reach - odd, None, axis=axis)
        ends = jnp.concatenate([first, last], axis)
    left, right = _margins(ends.shape[axis], before, after, place.mode)
    return jnp.concatenate([_times(left, ends, axis), x, _times(right, ends, axis)], axis)


def _fold(x: jax.Array, place: Axis) -> jax.Array:
    """The adjoint of `_extend`: adds what lies beyond the ends to the values that it came from."""
    before = place.margins[0]
    inside = lax.slice_in_dim(x, before, before + place.size, axis=x.ndim + place.axis)
    return jax.vjp(lambda inside: _extend(inside, place), inside)[1](x)[0]


@functools.lru_cache
def _margins(size: int, before: int, after: int, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the matrices [before, size] and [after, size] that take a signal to what lies beyond
    its ends.
    """
    signal = np.eye(size)  # numpy extends every unit vector, and so, by linearity, everything
    if mode == "periodization":
        odd = np.pad(signal, ((0, size % 2), (0, 0)), mode="edge")
        extended = np.pad(odd, ((before, after - size % 2), (0, 0)), mode="wrap")
    elif mode == "smooth":
        slopes = signal[0] - signal[min(1, size - 1)], signal[-1] - signal[-min(2, size)]
        left = signal[0] + np.arange(before, 0, -1)[:, None] * slopes[0]
        extended = np.concatenate(
            [left, signal, signal[-1] + np.arange(1, after + 1)[:, None] * slopes[1]]
        )
    elif mode == "antisymmetric":
        reflections = (np.arange(-before, size + after) // size) % 2
        extended = np.pad(signal, ((before, after), (0, 0)), mode="symmetric") * (
            1 - 2 * reflections[:, None]
        )
    else:
        kinds = {"constant": "edge", "periodic": "wrap", "antireflect": "reflect"}
        style = {"reflect_type": "odd"} if mode == "antireflect" else {}
        extended = np.pad(signal, ((before, after), (0, 0)), mode=kinds.get(mode, mode), **style)
    return extended[:before], extended[before + size :]


def _times(matrix: np.ndarray, x: jax.Array, axis: int) -> jax.Array:
    """Multiplies [rows, size] with every vector of x along an axis."""
    flat = x.reshape(math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :]))
    y = jnp.einsum(
        "rs,psq->prq", jnp.asarray(matrix, x.dtype), flat, precision=lax.Precision.HIGHEST
    )
    return y.reshape(*x.shape[:axis], len(matrix), *x.shape[axis + 1 :])


# By convolution: [P, size, Q] is a picture of one channel, both filters are kernels of one column.


def _convolution(
    x: jax.Array, kernel: jax.Array, place: Axis, stride: int, dilation: int, padding: int
) -> jax.Array:
    """Convolves x [..., size, ..., channels] along an axis counted without the channels."""
    before = x.shape[: place.axis - 1]
    size, *after, channels = x.shape[place.axis - 1 :]
    y = lax.conv_general_dilated(
        x.reshape(math.prod(before), size, math.prod(after), channels),
        kernel,
        window_strides=(stride, 1),
        padding=((padding, padding), (0, 0)),
        lhs_dilation=(dilation, 1),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        # the default of an accelerator (TF32) would spoil the reconstruction
        precision=lax.Precision.HIGHEST,
    )
    return y.reshape(*before, y.shape[1], *after, y.shape[-1])


def _kernel(filters: Filters, dtype: jnp.dtype) -> jax.Array:
    # [taps, 1, 1, band]
    return jnp.stack([jnp.asarray(taps, dtype) for taps in filters], -1)[:, None, None]


def _convolve(x: jax.Array, place: Axis) -> list[jax.Array]:
    """Correlates an extended x with both filters and keeps every second value."""
    y = _convolution(
        x[..., None], _kernel(place.filters, x.dtype), place, stride=2, dilation=1, padding=0
    )
    return [y[..., 0], y[..., 1]]


def _convolve_back(low: jax.Array, high: jax.Array, place: Axis) -> jax.Array:
    """The adjoint of `_convolve`."""
    kernel = _kernel(place.filters, low.dtype)[::-1].swapaxes(2, 3)
    bands = jnp.stack([low, high], -1)
    return _convolution(bands, kernel, place, stride=1, dilation=2, padding=len(kernel) - 1)[..., 0]


# By adding shifted slices.


def _add_slices(x: jax.Array, place: Axis) -> list[jax.Array]:
    """The same as `_convolve`."""
    axis = x.ndim + place.axis
    taps = len(place.filters.low)
    last = x.shape[axis] - taps + 1
    slices = [lax.slice_in_dim(x, k, k + last, stride=2, axis=axis) for k in range(taps)]
    return [_weighted_sum(taps, slices) for taps in place.filters]


def _add_slices_back(low: jax.Array, high: jax.Array, place: Axis) -> jax.Array:
    """The adjoint of `_add_slices`."""
    axis = low.ndim + place.axis
    shifts = len(place.filters.low) // 2
    size = low.shape[axis] + shifts - 1
    widths = [(0, 0)] * low.ndim
    widths[axis] = (shifts - 1, shifts - 1)
    padded = [jnp.pad(band, widths) for band in (low, high)]
    starts = range(shifts - 1, -1, -1)
    slices = [
        lax.slice_in_dim(band, start, start + size, axis=axis)
        for band in padded
        for start in starts
    ]
    low_taps, high_taps = place.filters
    phases = [_weighted_sum((*low_taps[p::2], *high_taps[p::2]), slices) for p in (0, 1)]
    return jnp.stack(phases, axis + 1).reshape(*low.shape[:axis], 2 * size, *low.shape[axis + 1 :])


def _weighted_sum(weights: Sequence[float], terms: list[jax.Array]) -> jax.Array:
    return sum(weight * term for weight, term in zip(weights, terms, strict=True))


def _image_by_image(
    function: Callable, axes: tuple[Axis, ...], *operands: jax.Array
) -> list[jax.Array]:
    """Calls function on a few images at a time, as many as fit into the cache, of any leading
    batch.
    """
    first = min(place.axis for place in axes)
    batch = operands[0].shape[:first]
    flat = [x.reshape(math.prod(batch), *x.shape[first:]) for x in operands]
    count = len(flat[0])
    block = min(count, max(1, CACHED // max(1, sum(math.prod(x.shape[1:]) for x in flat))))
    if block == count:
        results = function(*flat)
    else:
        parts = jax.eval_shape(function, *(x[:block] for x in flat))
        results = [lax.full_like(flat[0], 0, shape=(count, *part.shape[1:])) for part in parts]

        def step(k, results):
            # the last block computes some images once more
            start = jnp.minimum(k * block, count - block)
            parts = function(*(lax.dynamic_slice_in_dim(x, start, block) for x in flat))
            updates = zip(results, parts, strict=True)
            return [
                lax.dynamic_update_slice_in_dim(result, part, start, 0) for result, part in updates
            ]

        results = lax.fori_loop(0, -(-count // block), step, results)
    return [x.reshape(*batch, *x.shape[1:]) for x in results]


# The primitives: where the formulation is chosen, and what JAX must know of a linear map and its
# adjoint.


def _split_anywhere(x: jax.Array, *, axes: tuple[Axis, ...]) -> list[jax.Array]:
    by_slices = functools.partial(
        _image_by_image, functools.partial(_split, axes=axes, decimate=_add_slices), axes
    )
    by_convolution = functools.partial(_split, axes=axes, decimate=_convolve)
    return lax.platform_dependent(x, cpu=by_slices, default=by_convolution)


def _merge_anywhere(*bands: jax.Array, axes: tuple[Axis, ...]) -> list[jax.Array]:
    by_slices = functools.partial(
        _image_by_image, functools.partial(_merge, axes=axes, interpolate=_add_slices_back), axes
    )
    by_convolution = functools.partial(_merge, axes=axes, interpolate=_convolve_back)
    return lax.platform_dependent(*bands, cpu=by_slices, default=by_convolution)


def _linear_primitive(name: str, function: Callable) -> Primitive:
    primitive = Primitive(name)
    primitive.multiple_results = True
    primitive.def_impl(jax.jit(function, static_argnames="axes"))
    mlir.register_lowering(primitive, mlir.lower_fun(function, multiple_results=True))

    @primitive.def_abstract_eval
    def shapes(*operands, axes):
        structs = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in operands]
        results = jax.eval_shape(functools.partial(function, axes=axes), *structs)
        return [operands[0].update(shape=result.shape) for result in results]

    # axes are counted from the end, so one more in front changes nothing
    def batch(operands, dims, *, axes):
        size = next(x.shape[dim] for x, dim in zip(operands, dims, strict=True) if dim is not None)
        front = [
            jnp.broadcast_to(x, (size, *x.shape)) if dim is None else jnp.moveaxis(x, dim, 0)
            for x, dim in zip(operands, dims, strict=True)
        ]
        results = primitive.bind(*front, axes=axes)
        return results, [0] * len(results)

    batching.primitive_batchers[primitive] = batch
    return primitive


split_p = _linear_primitive("split", _split_anywhere)
merge_p = _linear_primitive("merge", _merge_anywhere)
ad.deflinear2(
    split_p, lambda bands, x, axes: [merge([ad.instantiate_zeros(b) for b in bands], axes)]
)
ad.deflinear2(merge_p, lambda x, *bands, axes: split(x[0], axes))
