"""Where in a picture the coefficients of a band lie, and reading a band at given places.

A coefficient k of an analysis filter h is sum_j h_j x[2k + 1 - j]: it lies at 2k + 1 - d, d being
the delay of h. With db4 the first ones lie in the extension beyond the border: five pixels before
the picture at level one, 15 at level two.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from covjax.ops.grids import add_up


class Places(NamedTuple):
    """Places along an axis: number i is first + i * step pixels from the middle of the first."""

    first: float = 0.0
    step: float = 1.0

    def of(self, inner: "Places") -> "Places":
        """Where `inner`, places in what lies at these places, lie."""
        return Places(self.first + self.step * inner.first, self.step * inner.step)

    def inverse(self) -> "Places":
        """Where the pixels of what these places lie in lie among them."""
        return Places(-self.first / self.step, 1 / self.step)


def resized_places(side: int, size: int) -> Places:
    """Places along an axis of `side` pixels of the `size` pixels to which it is stretched."""
    return Places((side / size - 1) / 2, side / size)


def band_places(taps: Sequence[float], *, detail: bool) -> Places:
    """Places of the coefficients of an analysis filter, `detail` if it is a high-pass one.

    The delay of a low-pass filter is its first moment, at which it leaves ramps and edges; the one
    of a high-pass filter, whose moments vanish, that of its energy.
    """
    weights = np.square(taps) if detail else np.asarray(taps, np.float64)
    delay = (weights * np.arange(len(weights))).sum() / weights.sum()
    return Places(1 - float(delay), 2.0)


# Compiled also where the caller is not: the same bits everywhere.
@partial(jax.jit, static_argnames=("axis", "size", "places"))
def read_at(x: jax.Array, axis: int, size: int, places: Places) -> jax.Array:
    """Reads `size` places along an axis of [N, H, W, C], linearly; antialiased if above 1 apart.

    As Pillow and `jax.image.resize` do. What lies beyond an end is what lies there. A sum of
    shifted rows, with rounding that does not depend on the size of the batch as that of a matrix
    product does.
    """
    n = x.shape[axis]
    centres = np.clip(places.first + np.arange(size) * places.step, -0.5, n - 0.5)
    weights = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(n)) / max(places.step, 1))
    weights /= weights.sum(axis=1, keepdims=True)
    reach = int(np.count_nonzero(weights, axis=1).max())
    first = np.minimum((weights > 0).argmax(axis=1), n - reach)
    shape = [1, 1, 1, 1]
    shape[axis] = size
    rows = np.arange(size)
    terms = [
        weights[rows, first + k].astype(np.float32).reshape(shape)
        * jnp.take(x, first + k, axis=axis)
        for k in range(reach)
    ]
    return add_up(terms)
