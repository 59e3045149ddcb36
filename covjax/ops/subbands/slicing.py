"""Decimating filters by adding shifted slices, and the adjoint of them: what a CPU runs."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from covjax.ops.grids import weighted_sum
from covjax.ops.subbands.axis import Axis

CACHED = 2**18  # values that stay in the cache through all passes over them


def add_slices(x: jax.Array, place: Axis) -> list[jax.Array]:
    """The same as `convolve`."""
    axis = x.ndim + place.axis
    taps = len(place.filters.low)
    last = x.shape[axis] - taps + 1
    slices = [lax.slice_in_dim(x, k, k + last, stride=2, axis=axis) for k in range(taps)]
    return [weighted_sum(taps, slices) for taps in place.filters]


def add_slices_back(low: jax.Array, high: jax.Array, place: Axis) -> jax.Array:
    """The adjoint of `add_slices`."""
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
    phases = [weighted_sum((*low_taps[p::2], *high_taps[p::2]), slices) for p in (0, 1)]
    return jnp.stack(phases, axis + 1).reshape(*low.shape[:axis], 2 * size, *low.shape[axis + 1 :])


def image_by_image(
    function: Callable[..., list[jax.Array]], axes: tuple[Axis, ...], *operands: jax.Array
) -> list[jax.Array]:
    """Calls function on as many images of any leading batch at a time as fit into the cache."""
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

        def step(k: jax.Array, results: list[jax.Array]) -> list[jax.Array]:
            # the last block computes some images once more
            start = jnp.minimum(k * block, count - block)
            parts = function(*(lax.dynamic_slice_in_dim(x, start, block) for x in flat))
            updates = zip(results, parts, strict=True)
            return [
                lax.dynamic_update_slice_in_dim(result, part, start, 0) for result, part in updates
            ]

        results = lax.fori_loop(0, -(-count // block), step, results)
    return [x.reshape(*batch, *x.shape[1:]) for x in results]
