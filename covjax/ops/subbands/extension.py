"""How a signal goes on beyond its ends, and the adjoint of that."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from covjax.ops.subbands.axis import Axis


def extend(x: jax.Array, place: Axis) -> jax.Array:
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


def fold(x: jax.Array, place: Axis) -> jax.Array:
    """The adjoint of `extend`: adds what lies beyond the ends to the values that it came from."""
    before = place.margins[0]
    inside = lax.slice_in_dim(x, before, before + place.size, axis=x.ndim + place.axis)
    return jax.vjp(lambda inside: extend(inside, place), inside)[1](x)[0]


# numpy's ways to pad that are modes as they are
_PADS = {
    "constant": functools.partial(np.pad, mode="edge"),
    "symmetric": functools.partial(np.pad, mode="symmetric"),
    "reflect": functools.partial(np.pad, mode="reflect"),
    "antireflect": functools.partial(np.pad, mode="reflect", reflect_type="odd"),
    "periodic": functools.partial(np.pad, mode="wrap"),
}


@functools.lru_cache
def _margins(size: int, before: int, after: int, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the matrices [before, size] and [after, size] of what lies beyond a signal's ends."""
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
        extended = _PADS[mode](signal, ((before, after), (0, 0)))
    return extended[:before], extended[before + size :]


def _times(matrix: np.ndarray, x: jax.Array, axis: int) -> jax.Array:
    """Multiplies [rows, size] with every vector of x along an axis."""
    flat = x.reshape(math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :]))
    y = jnp.einsum(
        "rs,psq->prq", jnp.asarray(matrix, x.dtype), flat, precision=lax.Precision.HIGHEST
    )
    return y.reshape(*x.shape[:axis], len(matrix), *x.shape[axis + 1 :])
