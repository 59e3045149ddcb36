"""Wavelet enhancement of CT slices ahead of the classifier, in several readings of its source.

Source: Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep Convolutional
Neural Networks (arXiv:2009.08864). The text and the code its authors released differ; both are presets.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from covjax.errors import InputError, unknown
from covjax.wavelets import Bands, dwt2, idwt2


class _Recipe(NamedTuple):
    summary: str
    wavelet: str
    size: tuple[int, int]  # default output size
    depth: int = 1  # the level whose LL and HH are the two branches
    keeps_all: bool = True  # whether the next level's LH and HL survive in the inverse
    uint8: bool = False  # whether each branch is stored as uint8 before the addition


_RECIPES = {
    "paper_text": _Recipe("the paper's text: Haar, LL and HH added with saturation, 82x82", "haar", (82, 82)),
    "prlab21": _Recipe("the released code: db4, branches as uint8, 156x156", "db4", (156, 156), uint8=True),
    "db4_82": _Recipe("db4 one level deeper than the release, natively 82x82", "db4", (82, 82), depth=2),
    "ll_hh_only": _Recipe(
        "the strict reading: Haar, all but LL and HH of level 2 dropped, 82x82",
        "haar",
        (82, 82),
        keeps_all=False,
    ),
}
PRESETS: dict[str, str] = {
    "none": "the slice itself",
    **{name: recipe.summary for name, recipe in _RECIPES.items()},
}
# What a constant image is multiplied by in LL, relative to the orthonormal transform.
GAINS = {"orthonormal": 1.0, "unit": 0.5}


def enhance(
    image: jax.Array,
    preset: str = "paper_text",
    gain: str = "orthonormal",
    size: tuple[int, int] | None = None,
) -> jax.Array:
    """Fuses the low-pass and the diagonal detail band of CT slices, at a reduced size.

    With LL_k, HH_k the bands of level k (LL_k is the one decomposed further; symmetric extension), D = dwt2,
    S = idwt2, clip to 0..255, and u(v) = clip(v) rounded half up, as MATLAB stores v in uint8:

      none        x
      paper_text  clip(S(D(LL_1)) + S(D(HH_1))), Haar           304 -> 152, resized to 82
      prlab21     clip(u(S(D(LL_1))) + u(S(D(HH_1)))), db4      304 -> 156
      db4_82      clip(S(D(LL_2)) + S(D(HH_2))), db4            304 -> 82
      ll_hh_only  clip(S'(D(LL_1)) + S'(D(HH_1))), Haar         304 -> 152, resized to 82;
                  S' is the inverse with LH = HL = 0

    S(D(.)) is the identity but for the edge that it repeats at the end of an odd axis, and is computed as
    that. Other input sizes go through the same transforms and are resized to the preset's size.

    Args:
      image: [N, H, W, C], floating point or uint8, 0..255.
      preset: a key of `PRESETS`, static.
      gain: "orthonormal", as published: LL is twice as bright per level, so that every flat region above 127
        saturates ("db4_82": above 63, which whitens even the lungs); or "unit": LL is halved at every level
        on the way to the branches and keeps the brightness of the slice, HH_1 is left as it is. Static;
        without effect on "none".
      size: (height, width) of the result, static; None for the preset's own ("none": that of the image).
        Resizing is bilinear and antialiased.

    Returns:
      float32 [N, H', W', C], 0..255.

    Raises:
      InputError: image is not such an array, size is not two positive integers, or an unknown preset or gain.

    A slice gets the same bits whatever the batch, jitted or not.

    Deviations: the text prints no formula. It speaks of no uint8, so in `paper_text` negative HH darkens,
    while the released code drops it. The released code resizes in uint8, `prlab21` in float (no difference
    for slices of 304x304, which come out at 156x156).
    """
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    if gain not in GAINS:
        raise unknown("gain", gain, GAINS)
    image = _checked(image)
    if preset == "none":
        return _resized(_clip(image), image.shape[1:3] if size is None else size)

    recipe = _RECIPES[preset]
    low = image
    for _ in range(recipe.depth):
        bands = dwt2(low, recipe.wavelet)
        low = GAINS[gain] * bands.ll
    branches = [_next_level(b, recipe) for b in (low, bands.hh)]
    if recipe.uint8:
        branches = [jnp.floor(_clip(b) + 0.5) for b in branches]
    return _resized(_clip(branches[0] + branches[1]), recipe.size if size is None else size)


def _next_level(branch: jax.Array, recipe: _Recipe) -> jax.Array:
    """Decomposes a branch once more and reconstructs it from the sub-bands that the recipe keeps."""
    if recipe.keeps_all:  # perfect reconstruction of the branch, extended to even sizes
        _, h, w, _ = branch.shape
        return jnp.pad(branch, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), mode="edge")
    ll, lh, hl, hh = dwt2(branch, recipe.wavelet)
    return idwt2(Bands(ll, jnp.zeros_like(lh), jnp.zeros_like(hl), hh), recipe.wavelet)


def _clip(x: jax.Array) -> jax.Array:
    return jnp.clip(x, 0.0, 255.0)


def _resized(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    pair = isinstance(size, tuple | list) and len(size) == 2
    if not pair or not all(isinstance(n, int) and n > 0 for n in size):
        raise InputError(f"size: {size} is not usable, pass two positive integers (height, width)")
    if x.shape[1:3] == tuple(size):
        return x
    for axis, side in ((1, size[0]), (2, size[1])):
        x = lax.optimization_barrier(_resampled(x, axis, side))
    return _clip(x)  # the weights may sum to one plus a rounding error


@partial(jax.jit, static_argnames=("axis", "size"))  # compiled also where the caller is not: the same bits everywhere
def _resampled(x: jax.Array, axis: int, size: int) -> jax.Array:
    """Resizes one axis: bilinear, antialiased where it shrinks (as Pillow and `jax.image.resize`).

    A sum of shifted rows, whose rounding does not depend on the size of the batch as that of a matrix product does.
    """
    n = x.shape[axis]
    centres = (np.arange(size) + 0.5) * n / size - 0.5
    weights = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(n)) / max(n / size, 1))
    weights /= weights.sum(axis=1, keepdims=True)
    reach = int(np.count_nonzero(weights, axis=1).max())
    first = np.minimum((weights > 0).argmax(axis=1), n - reach)
    shape = [1, 1, 1, 1]
    shape[axis] = size
    terms = []
    for k in range(reach):
        weight = weights[np.arange(size), first + k].astype(np.float32).reshape(shape)
        terms.append(weight * jnp.take(x, first + k, axis=axis))
    return sum(terms)


def _checked(image: jax.Array) -> jax.Array:
    image = jnp.asarray(image)
    if image.ndim != 4:
        raise InputError(f"image: shape {image.shape} has {image.ndim} axes, pass [N, H, W, C]")
    if 0 in image.shape[1:3]:
        raise InputError(f"image: shape {image.shape} has no pixels, height and width must be at least 1")
    if image.dtype != jnp.uint8 and not jnp.issubdtype(image.dtype, jnp.floating):
        raise InputError(f"image: type {image.dtype} is not usable, pass uint8 or floating point, 0..255")
    return image.astype(jnp.float32)
