"""Splitting a signal into sub-bands of half the rate, and the adjoint of that.

That is all that a wavelet transform computes. `split` extends a signal beyond its ends and keeps
every second value of its convolution by a low-pass and by a high-pass filter, along one axis or
along each of several. `merge` is its exact adjoint. A wavelet transform is a `split`, its inverse a
`merge` by other filters, and the gradient of either is the other one; so the two are a pair of
linear primitives, and JAX derives forward mode, reverse mode and every order from that.

There are two formulations of the same sums. Accelerators convolve with stride 2. A CPU adds shifted
slices, one image at a time so that all passes over it stay in the cache: XLA:CPU would take 13 to
30 times longer to convolve.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from covjax.ops.subbands.axis import MODES, Axis, Filters
from covjax.ops.subbands.convolving import convolve, convolve_back
from covjax.ops.subbands.extension import extend, fold
from covjax.ops.subbands.slicing import add_slices, add_slices_back, image_by_image

__all__ = ["MODES", "Axis", "Filters", "merge", "split"]

Arrays = Sequence[jax.Array]


def split(x: jax.Array, axes: tuple[Axis, ...]) -> list[jax.Array]:
    """Splits x along each axis in turn into (low, high).

    Of k axes come 2**k bands, the first axis being the slowest bit of their order.
    """
    return split_p.bind(x, axes=axes)


def merge(bands: Arrays, axes: tuple[Axis, ...]) -> jax.Array:
    """The adjoint of `split`: <split(x), bands> == <x, merge(bands)>."""
    return merge_p.bind(*bands, axes=axes)[0]


# Along all axes.


def _split(
    x: jax.Array, *, axes: tuple[Axis, ...], decimate: Callable[[jax.Array, Axis], Arrays]
) -> list[jax.Array]:
    bands = [x]
    for place in axes:
        # Else XLA:CPU computes the bands of one axis again for each of the next.
        bands = lax.optimization_barrier(bands)
        bands = [part for band in bands for part in decimate(extend(band, place), place)]
    return bands


def _merge(
    *bands: jax.Array,
    axes: tuple[Axis, ...],
    interpolate: Callable[[jax.Array, jax.Array, Axis], jax.Array],
) -> list[jax.Array]:
    merged = list(bands)
    for place in reversed(axes):
        pairs = zip(merged[::2], merged[1::2], strict=True)
        merged = [fold(interpolate(low, high, place), place) for low, high in pairs]
    return merged


# The primitives: where the formulation is chosen, and what JAX must know of a linear map and its
# adjoint.


def _split_anywhere(x: jax.Array, *, axes: tuple[Axis, ...]) -> list[jax.Array]:
    by_slices = functools.partial(
        image_by_image, functools.partial(_split, axes=axes, decimate=add_slices), axes
    )
    by_convolution = functools.partial(_split, axes=axes, decimate=convolve)
    return lax.platform_dependent(x, cpu=by_slices, default=by_convolution)


def _merge_anywhere(*bands: jax.Array, axes: tuple[Axis, ...]) -> list[jax.Array]:
    by_slices = functools.partial(
        image_by_image, functools.partial(_merge, axes=axes, interpolate=add_slices_back), axes
    )
    by_convolution = functools.partial(_merge, axes=axes, interpolate=convolve_back)
    return lax.platform_dependent(*bands, cpu=by_slices, default=by_convolution)


def _linear_primitive(name: str, function: Callable[..., list[jax.Array]]) -> Primitive:
    primitive = Primitive(name)
    primitive.multiple_results = True
    primitive.def_impl(jax.jit(function, static_argnames="axes"))
    mlir.register_lowering(primitive, mlir.lower_fun(function, multiple_results=True))

    @primitive.def_abstract_eval
    def shapes(*operands: ShapedArray, axes: tuple[Axis, ...]) -> list[ShapedArray]:
        structs = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in operands]
        results = jax.eval_shape(functools.partial(function, axes=axes), *structs)
        return [operands[0].update(shape=result.shape) for result in results]

    # axes are counted from the end, so one more in front changes nothing
    def batch(
        operands: Arrays, dims: Sequence[int | None], *, axes: tuple[Axis, ...]
    ) -> tuple[list[jax.Array], list[int]]:
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
