"""One warp of a slice and its mask, affine and elastic: where each pixel is read from, and reading.

Places are fixed-point integers: the same bits however a program is compiled.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from covjax.data.sources.source import IGNORE

PIECES = 4  # of the cubic B-spline along each side, by which an elastic deformation bends a slice
# bits of a pixel's fraction in the coordinates of a warp; sides of 4096 need 12 more of 31
FRACTION = 12


class Warp(NamedTuple):
    """Point p is read from matrix p + shift + what the nodes say, in shares of the sides.

    Points are counted from the middle.
    """

    matrix: jax.Array  # [2, 2]
    shift: jax.Array  # [2]
    nodes: jax.Array | None  # [2, 7, 7] of a cubic B-spline, if there is an elastic part


def draw_warp(
    key: jax.Array,
    shape: tuple[int, ...],
    *,
    rotation: float = 0.0,
    scale: float = 0.0,
    translation: float = 0.0,
    shear: float = 0.0,
    elastic: float = 0.0,
) -> Warp:
    """Draws a warp of a picture of `shape` (rows, columns), up to the given measures.

    These are as of `covjax.preprocess.augment.Augmentation`.
    """
    affine_key, elastic_key = jax.random.split(key)
    angle, zoom, lean, *shift = jax.random.uniform(affine_key, (5,), minval=-1.0, maxval=1.0)
    angle = jnp.deg2rad(rotation * angle)
    lean = jnp.deg2rad(shear * lean)
    turned = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
    sheared = jnp.array([[1.0, 0.0], [jnp.tan(lean), 1.0]])
    matrix = jnp.matmul(turned, sheared, precision="highest") / (1 + scale * zoom)
    # from pixels to shares of the sides
    matrix *= np.array([[1, shape[1] / shape[0]], [shape[0] / shape[1], 1]], np.float32)
    nodes = jax.random.uniform(
        elastic_key, (2, PIECES + 3, PIECES + 3), minval=-elastic, maxval=elastic
    )
    # Behind a barrier, so that sines are not computed for every pixel.
    return lax.optimization_barrier(
        Warp(matrix, translation * jnp.stack(shift), nodes if elastic else None)
    )


def places(side: int) -> np.ndarray:
    """Where the pixels of a side lie, as shares of it, from the middle."""
    return ((np.arange(side) - (side - 1) / 2) / side).astype(np.float32)


def read_from(warp: Warp, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Returns row and column [H, W] that each pixel is read from, int32 in units of 2^-FRACTION.

    One pixel further than the slice, where its frame lies, is far enough. Integers, because
    programs that round a float to a pixel here and take its fraction there may contradict each
    other by a pixel.
    """
    down = places(shape[0])[:, None]
    right = places(shape[1])[None]
    found = []
    for k, side in enumerate(shape):
        place = warp.matrix[k, 0] * down + warp.matrix[k, 1] * right + warp.shift[k]
        if warp.nodes is not None:
            rows, columns = map(_spline, shape)
            place += sum(
                rows[:, j, None] * (warp.nodes[k, j] * columns).sum(-1) for j in range(PIECES + 3)
            )
        pixel = jnp.clip(place * side + (side - 1) / 2, -1, side) + 1
        found.append(jnp.round(pixel * 2**FRACTION).astype(jnp.int32))
    return lax.optimization_barrier((found[0], found[1]))


def _spline(side: int) -> np.ndarray:
    """The weights [side, 7] of the nodes of a uniform cubic B-spline at every pixel of a side."""
    u = (np.arange(side) + 0.5) / side * PIECES
    distance = np.abs(u[:, None] + 1 - np.arange(PIECES + 3))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def read_linear(x: jax.Array, place: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Reads uint8 [H, W] at places within its frame of zeros, linearly, as float32.

    A pixel and its three neighbours are packed into one word, so that one gather reads them all.
    """
    framed = jnp.pad(x, ((1, 2), (1, 2))).astype(jnp.uint32)
    words = framed[:-1, :-1] | framed[:-1, 1:] << 8 | framed[1:, :-1] << 16 | framed[1:, 1:] << 24
    read = lax.optimization_barrier(_gather(words, *(p >> FRACTION for p in place)))
    corners = [(read >> shift & 255).astype(jnp.float32) for shift in (0, 8, 16, 24)]
    down, right = ((p & (2**FRACTION - 1)).astype(jnp.float32) / 2**FRACTION for p in place)
    above = corners[0] + (corners[1] - corners[0]) * right
    below = corners[2] + (corners[3] - corners[2]) * right
    return above + (below - above) * down


def read_nearest(x: jax.Array, place: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Reads a mask uint8 [H, W] at places within its frame of 255, by nearest neighbour."""
    framed = jnp.pad(x, 1, constant_values=IGNORE)
    return _gather(framed, *(p + 2 ** (FRACTION - 1) >> FRACTION for p in place))


def _gather(x: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    return x.reshape(-1).at[rows * x.shape[1] + columns].get(mode="promise_in_bounds")
