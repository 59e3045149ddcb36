"""Wavelet enhancement of CT slices ahead of the classifier, in several readings of its source.

Source: Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep
Convolutional Neural Networks (arXiv:2009.08864). The text and the code its authors released differ;
both are presets.
"""

import jax
import jax.numpy as jnp
from jax import lax

from covjax.errors import InputError
from covjax.ops.checks import as_array, check_images, check_name, is_whole
from covjax.ops.filter_banks import filter_bank
from covjax.ops.wavelets import Bands, dwt2, idwt2
from covjax.preprocess.placement import Places, band_places, read_at, resized_places
from covjax.preprocess.presets import GAINS, PRESETS, RECIPES, Recipe

AXES = (1, 2)  # height and width


def enhance(
    image: jax.Array,
    preset: str = "paper_text",
    gain: str = "orthonormal",
    size: tuple[int, int] | None = None,
    aligned: bool = False,
) -> jax.Array:
    """Fuses the low-pass and the diagonal detail band of CT slices, at a reduced size.

    With LL_k, HH_k the bands of level k (LL_k is the one decomposed further; symmetric extension),
    D = dwt2, S = idwt2, clip to 0..255, and u(v) = clip(v) rounded half up, as MATLAB stores v in
    uint8:

      none        x
      paper_text  clip(S(D(LL_1)) + S(D(HH_1))), Haar           304 -> 152, resized to 82
      prlab21     clip(u(S(D(LL_1))) + u(S(D(HH_1)))), db4      304 -> 156
      db4_82      clip(S(D(LL_2)) + S(D(HH_2))), db4            304 -> 82
      ll_hh_only  clip(S'(D(LL_1)) + S'(D(HH_1))), Haar         304 -> 152, resized to 82;
                  S' is the inverse with LH = HL = 0

    S(D(.)) is the identity but for the edge that it repeats at the end of an odd axis, and is
    computed as that. Other input sizes go through the same transforms and are resized to the
    preset's size.

    Args:
      image: [N, H, W, C], floating point or uint8, 0..255.
      preset: a key of `PRESETS`, static.
      gain: "orthonormal", as published: LL is twice as bright per level, so that every flat region
        above 127 saturates ("db4_82": above 63, which whitens even the lungs); or "unit": LL is
        halved at every level on the way to the branches and keeps the brightness of the slice, HH_1
        is left as it is. Static; without effect on "none".
      size: (height, width) of the result, static; None for the preset's own ("none": that of the
        image). Resizing is bilinear and antialiased.
      aligned: whether the result lies over the picture as a plain resize to `size` would, as needed
        to compare pixels; static. As published, what is resized is the whole band: with db4 its
        first coefficients lie in the extension beyond the border, the second of its branches
        elsewhere than the first, and odd sides are one longer.

    Returns:
      float32 [N, H', W', C], 0..255.

    Raises:
      InputError: image is not such an array, size is not two positive integers, or an unknown
        preset or gain.

    A slice gets the same bits whatever the batch, jitted or not.

    Deviations: the text prints no formula. It speaks of no uint8, so in `paper_text` negative HH
    darkens, while the released code drops it. The released code resizes in uint8, `prlab21` in
    float (no difference for slices of 304x304, which come out at 156x156).
    """
    check_name("preset", preset, PRESETS)
    check_name("gain", gain, GAINS)
    image = _checked(image)
    own_size = (image.shape[1], image.shape[2])
    if preset == "none":
        return _resized(_clip(image), own_size if size is None else _size(size))

    recipe = RECIPES[preset]
    size = recipe.size if size is None else _size(size)
    bands = dwt2(image, recipe.wavelet)
    for _ in range(recipe.depth - 1):
        bands = dwt2(GAINS[gain] * bands.ll, recipe.wavelet)
    low, high = (_next_level(b, recipe) for b in (GAINS[gain] * bands.ll, bands.hh))
    if recipe.uint8:
        low, high = (jnp.floor(_clip(b) + 0.5) for b in (low, high))
    if not aligned:
        return _resized(_clip(low + high), size)
    of_low, of_high = _band_places(recipe)
    inverse = of_low.inverse()
    down, right = _stretched(own_size, size)
    fused = _clip(low + _onto(high, of_high, of_low))
    return _resized(fused, size, (inverse.of(down), inverse.of(right)))


def _next_level(branch: jax.Array, recipe: Recipe) -> jax.Array:
    """Decomposes a branch once more and reconstructs it from the bands that the recipe keeps."""
    if recipe.keeps_all:  # perfect reconstruction of the branch, extended to even sizes
        _, h, w, _ = branch.shape
        return jnp.pad(branch, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), mode="edge")
    ll, lh, hl, hh = dwt2(branch, recipe.wavelet)
    return idwt2(Bands(ll, jnp.zeros_like(lh), jnp.zeros_like(hl), hh), recipe.wavelet)


def _clip(x: jax.Array) -> jax.Array:
    return jnp.clip(x, 0.0, 255.0)


def _resized(
    x: jax.Array, size: tuple[int, int], places: tuple[Places, Places] | None = None
) -> jax.Array:
    """Brings x to `size`, or reads it at `places` along height and width."""
    if places is None:
        if x.shape[1:3] == size:
            return x
        places = _stretched((x.shape[1], x.shape[2]), size)
    for axis, side, along in zip(AXES, size, places, strict=True):
        x = lax.optimization_barrier(read_at(x, axis, side, along))
    return _clip(x)  # the weights may sum to one plus a rounding error


def _size(size: tuple[int, int]) -> tuple[int, int]:
    pair = isinstance(size, tuple | list) and len(size) == 2
    if not pair or not all(is_whole(n) and n > 0 for n in size):
        raise InputError(f"size: {size} is not usable, pass two positive integers (height, width)")
    height, width = size
    return height, width


def _stretched(shape: tuple[int, int], size: tuple[int, int]) -> tuple[Places, Places]:
    """Places along height and width in a picture of `shape` that is stretched to `size`."""
    return resized_places(shape[0], size[0]), resized_places(shape[1], size[1])


def _band_places(recipe: Recipe) -> tuple[Places, Places]:
    """Places of the two branches, low and detail, along either axis of the picture."""
    filters = filter_bank(recipe.wavelet)
    low = band_places(filters.dec_lo, detail=False)
    high = band_places(filters.dec_hi, detail=True)
    before = Places()
    for _ in range(recipe.depth - 1):
        before = before.of(low)
    return before.of(low), before.of(high)


def _onto(detail: jax.Array, places: Places, low: Places) -> jax.Array:
    """Reads the detail band where the coefficients of the low band lie."""
    if places == low:
        return detail
    for axis in AXES:
        detail = read_at(detail, axis, detail.shape[axis], places.inverse().of(low))
    return detail


def places_of(preset: str, shape: tuple[int, int], size: tuple[int, int]) -> tuple[Places, Places]:
    """Places in a picture of `shape` of the pixels that `enhance` makes of it, not aligned.

    Along height and width; with `aligned` they are `resized_places`.
    """
    if preset == "none":
        return _stretched(shape, size)
    recipe = RECIPES[preset]
    low, _ = _band_places(recipe)
    taps = len(filter_bank(recipe.wavelet).dec_lo)
    height, width = shape
    for _ in range(recipe.depth):
        height = (height + taps - 1) // 2
        width = (width + taps - 1) // 2
    down, right = _stretched((height + height % 2, width + width % 2), size)
    return low.of(down), low.of(right)


def _checked(image: jax.Array) -> jax.Array:
    image = as_array("image", image)
    if image.dtype == jnp.uint8:
        image = image.astype(jnp.float32)
    check_images("image", image, "uint8 or floating point, 0..255")
    return image.astype(jnp.float32)
