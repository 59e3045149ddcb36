"""The two sides of an image, and steps along them."""

import jax

Pair = tuple[int, int]  # of rows and of columns


def sides_of(x: jax.Array) -> Pair:
    """Returns height and width of images [..., H, W, C]."""
    return x.shape[-3], x.shape[-2]


def zeros_around(before: int, side: int, outputs: int, stride: int) -> tuple[int, int, int]:
    """Returns the zeros before, after and between, as `lax.pad` takes them, that fill a side.

    The `outputs` values then lie `stride` apart on `side` pixels, the first after `before`.
    """
    return before, side - before - (outputs - 1) * stride - 1, stride - 1
