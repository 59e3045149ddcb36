"""How a kernel moves over an image, and what its taps see: shifts of the image."""

import itertools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from covjax.ops.sides import Pair, sides_of, zeros_around

Padding = int | Pair | Literal["same"] | None  # pixels; None: k // 2 * dilation


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
        return list(itertools.product(*self.offsets))

    @property
    def opposite(self) -> "Geometry":
        """Of the convolution with the flipped kernel: at stride 1 the gradient to the input."""
        rows, columns = (
            reach - padding for reach, padding in zip(self.reach, self.padding, strict=True)
        )
        return self._replace(padding=(rows, columns))

    def output_sides(self, x: jax.Array) -> Pair:
        """Of an image x [N, H, W, C]."""
        axes = zip(sides_of(x), self.padding, self.reach, strict=True)
        rows, columns = (
            (side + 2 * padding - reach - 1) // self.stride + 1 for side, padding, reach in axes
        )
        return rows, columns


def same_padding(sides: Pair, size: Pair, stride: int, dilation: int = 1) -> tuple[Pair, Pair]:
    """Returns the ((above, below), (left, right)) pixels of TensorFlow's "SAME".

    A side then has ceil(side / stride) outputs.
    """

    def along(side: int, size: int) -> Pair:
        total = max(0, (-(-side // stride) - 1) * stride + (size - 1) * dilation + 1 - side)
        return total // 2, total - total // 2

    return along(sides[0], size[0]), along(sides[1], size[1])


def shifts(geometry: Geometry, x: jax.Array) -> list[jax.Array]:
    """Returns what every tap sees of x [N, H, W, C]: kh * kw images [N, H', W', C]."""
    x = padded(geometry, x)
    s = geometry.stride
    height, width = (side - reach for side, reach in zip(sides_of(x), geometry.reach, strict=True))
    return [x[:, i : i + height : s, j : j + width : s] for i, j in geometry.taps]


def padded(geometry: Geometry, x: jax.Array) -> jax.Array:
    (p, q) = geometry.padding
    return jnp.pad(x, ((0, 0), (p, p), (q, q), (0, 0)))


def shifted_back(geometry: Geometry, sides: Pair, images: list[jax.Array]) -> jax.Array:
    """Adds the images [N, H', W', C] of all taps up where they came from: [N, *sides, C].

    This is the transpose of `shifts`.
    """
    zero = jnp.zeros((), images[0].dtype)
    total = zero
    for tap, image in zip(geometry.taps, images, strict=True):
        rows, columns = (
            zeros_around(offset - padding, side, outputs, geometry.stride)
            for offset, padding, side, outputs in zip(
                tap, geometry.padding, sides, sides_of(image), strict=True
            )
        )
        total = total + lax.pad(image, zero, ((0, 0, 0), rows, columns, (0, 0, 0)))
    return total


def flipped(kernel: jax.Array) -> jax.Array:
    return kernel[::-1, ::-1].transpose(0, 1, 3, 2)


def wide(x: jax.Array) -> jnp.dtype:
    """The type to add up in: float32 at least."""
    return jnp.promote_types(x.dtype, jnp.float32)


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Sums the outer products [A, B] of a [..., A] and b [..., B] over all pixels.

    Adds up in float32 at least.
    """
    flat = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    return lax.dot_general(*flat, (((0,), (0,)), ((), ())), preferred_element_type=wide(a))
