"""Discrete wavelet transforms in one and two dimensions, with the conventions of PyWavelets.

Every discrete wavelet of PyWavelets or filters of one's own, every way of PyWavelets to go on
beyond the ends, any size, any leading batch; each function is linear, so `grad`, `jvp` and `vmap`
of any order hold. PyWavelets supplies the filters by name and computes nothing. Source: S. Mallat,
"A Theory for Multiresolution Signal Decomposition", 1989.
"""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from covjax.errors import InputError
from covjax.ops.checks import is_whole
from covjax.ops.filter_banks import FilterBank, Wavelet, filter_bank, name_of
from covjax.ops.grids import in_float32
from covjax.ops.subbands import MODES, Axis, Filters, merge, split
from covjax.ops.wavelet_checks import (
    axis_from_end,
    check_mode,
    checked_arrays,
    checked_floats,
    checked_levels,
)

__all__ = [
    "MODES",
    "Bands",
    "Details",
    "FilterBank",
    "dwt",
    "dwt2",
    "idwt",
    "idwt2",
    "wavedec2",
    "waverec2",
]

HEIGHT = -3
WIDTH = -2  # of [..., H, W, C]


class Bands(NamedTuple):
    """The four sub-bands of one level, each [..., H', W', C].

    The first letter is the filter along the width, the second the one along the height, so that
    (ll, lh, hl, hh) are PyWavelets' (cA, cH, cV, cD): lh holds horizontal edges, hl vertical ones.
    """

    ll: jax.Array
    lh: jax.Array
    hl: jax.Array
    hh: jax.Array


class Details(NamedTuple):
    """What `wavedec2` keeps of a level besides the next one: the bands but ll."""

    lh: jax.Array
    hl: jax.Array
    hh: jax.Array


def dwt2(x: jax.Array, wavelet: Wavelet = "haar", mode: str = "symmetric") -> Bands:
    """Single-level 2-D discrete wavelet transform over height and width, as `pywt.dwt2`.

    Args:
      x: [..., H, W, C], floating point, any range, H and W >= 1. Half precision is computed in
        float32.
      wavelet: name of a discrete wavelet of PyWavelets, `FilterBank` or `pywt.Wavelet`, static.
      mode: how the signal goes on beyond its ends, a key of `MODES`, static; "symmetric" repeats
        the edge pixel (MATLAB's "sym"). All modes go on as often as a filter longer than the axis
        asks for.

    Returns:
      Bands of [..., H', W', C] with n' = floor((n + L - 1) / 2) for L taps, ceil(n / 2) under
      "periodization", in x's type. Low-pass filters of orthogonal wavelets are orthonormal: a
      constant image is 2 times its value in `ll`.

    Raises:
      InputError: x is not a floating-point array of three or more axes with pixels, an unknown
        wavelet or mode, or a single pixel along an axis that is to be reflected about it
        ("reflect", "antireflect").

    Deviations: float32 sums are rounded otherwise than PyWavelets'. Haar is exact on integers below
    2**22.
    """
    x = checked_floats("x", x, 3, "[..., H, W, C]")
    ll, lh, hl, hh = split(in_float32(x), _forward_axes(x.shape, wavelet, mode, (WIDTH, HEIGHT)))
    return Bands(*(band.astype(x.dtype) for band in (ll, lh, hl, hh)))


def idwt2(bands: Bands, wavelet: Wavelet = "haar", mode: str = "symmetric") -> jax.Array:
    """Inverse of `dwt2`, as `pywt.idwt2`.

    Args:
      bands: (ll, lh, hl, hh), each [..., H', W', C], floating point.
      wavelet, mode: those of the forward transform, static.

    Returns:
      [..., H, W, C] with n = 2 n' - L + 2 for L taps, 2 n' under "periodization". After `dwt2` of
      an odd size n is one larger than that size; the added last row or column is the extension of
      the signal.

    Raises:
      InputError: a band is not a floating-point array of three or more axes, the shapes differ or
        are too small for the filter (n' < L / 2), or an unknown wavelet or mode.
    """
    arrays = checked_arrays("bands", bands, 4, "the four (ll, lh, hl, hh)")
    named = {
        name: checked_floats(f"bands.{name}", array, 3, "[..., H, W, C]")
        for name, array in zip(Bands._fields, arrays, strict=True)
    }
    return _merged("bands", named, wavelet, mode, (WIDTH, HEIGHT))


def dwt(
    x: jax.Array, wavelet: Wavelet = "haar", mode: str = "symmetric", axis: int = -1
) -> tuple[jax.Array, jax.Array]:
    """Single-level 1-D transform of a floating-point x along one axis, as `pywt.dwt`: (low, high).

    Sizes, types and errors are those of `dwt2`; InputError also for an axis that x does not have.
    """
    x = checked_floats("x", x, 1, "[..., n]")
    places = _forward_axes(x.shape, wavelet, mode, (axis_from_end(axis, x.ndim),))
    low, high = split(in_float32(x), places)
    return low.astype(x.dtype), high.astype(x.dtype)


def idwt(
    low: jax.Array,
    high: jax.Array,
    wavelet: Wavelet = "haar",
    mode: str = "symmetric",
    axis: int = -1,
) -> jax.Array:
    """Inverse of `dwt`, as `pywt.idwt`. Sizes, types and errors are those of `idwt2`."""
    bands = {
        "low": checked_floats("low", low, 1, "[..., n]"),
        "high": checked_floats("high", high, 1, "[..., n]"),
    }
    return _merged("low and high", bands, wavelet, mode, (axis_from_end(axis, bands["low"].ndim),))


def wavedec2(
    x: jax.Array, wavelet: Wavelet = "haar", mode: str = "symmetric", level: int | None = None
) -> list[jax.Array | Details]:
    """Multi-level 2-D transform, as `pywt.wavedec2`.

    Returns [ll of the last level, its Details, ..., Details of level 1]. `level` is static; None
    takes as many as leave coefficients that no edge touches (none for a tiny image: [x]). More than
    that warn (UserWarning), as in PyWavelets. Raises InputError for a level that is not an integer
    of at least 1 and for what `dwt2` refuses.
    """
    x = checked_floats("x", x, 3, "[..., H, W, C]")
    most = min(
        _max_level(n, len(filter_bank(wavelet).dec_lo)) for n in (x.shape[HEIGHT], x.shape[WIDTH])
    )
    if level is None:
        level = most
    elif not is_whole(level) or level < 1:
        raise InputError(
            f"level: {level} is not usable, pass an integer of at least 1, or None for the most "
            "there are"
        )
    if level > most:
        warnings.warn(
            f"level: {level} is too high, edges touch all coefficients beyond level {most}",
            UserWarning,
            stacklevel=2,
        )
    coeffs: list[jax.Array | Details] = []
    for _ in range(level):
        x, *details = dwt2(x, wavelet, mode)
        coeffs.append(Details(*details))
    return [x, *reversed(coeffs)]


def waverec2(
    coeffs: Sequence[jax.Array | Details], wavelet: Wavelet = "haar", mode: str = "symmetric"
) -> jax.Array:
    """Inverse of `wavedec2`, as `pywt.waverec2`.

    The result is one row or column longer than what was transformed if that was odd. Raises
    InputError if coeffs is empty, the shapes of two levels do not belong together, and for what
    `idwt2` refuses.
    """
    levels = checked_levels(coeffs)
    ll = checked_floats("coeffs[0]", levels[0], 3, "[..., H, W, C]")
    for k, level in enumerate(levels[1:], 1):
        arrays = checked_arrays(f"coeffs[{k}]", level, 3, "the three (lh, hl, hh)")
        details = [checked_floats(f"coeffs[{k}]", one, 3, "[..., H, W, C]") for one in arrays]
        shape = details[0].shape
        for axis in (HEIGHT, WIDTH):  # the inverse of an odd size is one longer
            if len(shape) == ll.ndim and ll.shape[axis] == shape[axis] + 1:
                ll = jax.lax.slice_in_dim(ll, 0, -1, axis=ll.ndim + axis)
        if ll.shape != shape:
            raise InputError(
                f"coeffs[{k}]: shape {shape} does not belong to {ll.shape} of the level before it"
            )
        ll = idwt2(Bands(ll, *details), wavelet, mode)
    return ll


def _max_level(size: int, taps: int) -> int:
    return max(0, math.floor(math.log2(size / (taps - 1)))) if size else 0


def _forward_axes(
    shape: tuple[int, ...], wavelet: Wavelet, mode: str, axes: tuple[int, ...]
) -> tuple[Axis, ...]:
    bank = filter_bank(wavelet)
    check_mode(mode)
    least = 2 if mode in ("reflect", "antireflect") else 1
    for axis in axes:
        if shape[axis] < least:
            pixels = "no pixels" if 0 in shape else "a single pixel to reflect about"
            raise InputError(
                f"x: shape {shape} has {pixels} along axis {axis}, mode '{mode}' needs at least "
                f"{least}"
            )
    sizes = [shape[axis] for axis in axes]
    # reversed: splitting correlates
    return _places(bank.dec_lo[::-1], bank.dec_hi[::-1], axes, sizes, mode)


def _places(
    low: tuple[float, ...],
    high: tuple[float, ...],
    axes: tuple[int, ...],
    sizes: Sequence[int],
    mode: str,
) -> tuple[Axis, ...]:
    # Two axes share the scale sqrt(2) and sqrt(1/2): the taps of Haar are then 1 and 1/2, exact on
    # integers.
    scales = (math.sqrt(2), math.sqrt(0.5)) if len(axes) == 2 else (1.0,)

    def scaled(scale: float) -> Filters:
        return Filters(*(tuple(scale * tap for tap in taps) for taps in (low, high)))

    return tuple(
        Axis(axis, size, scaled(scale), mode)
        for axis, size, scale in zip(axes, sizes, scales, strict=True)
    )


def _merged(
    what: str, bands: dict[str, jax.Array], wavelet: Wavelet, mode: str, axes: tuple[int, ...]
) -> jax.Array:
    """Checks that bands belong together and inverts along the axes."""
    bank = filter_bank(wavelet)
    first = next(iter(bands.values()))
    check_mode(mode)
    if len({b.shape for b in bands.values()}) > 1:
        shapes = ", ".join(f"{name} {b.shape}" for name, b in bands.items())
        raise InputError(f"{what}: shapes differ ({shapes}), pass all bands of one transform")
    taps = len(bank.rec_lo)
    periodic = mode == "periodization"
    least = 1 if periodic else taps // 2
    if min(first.shape[axis] for axis in axes) < least:
        sides = "x".join(str(first.shape[axis]) for axis in sorted(axes))
        raise InputError(
            f"{what}: {sides} is too small for '{name_of(wavelet)}', needs at least {least} per "
            "axis"
        )
    # The inverse undoes no extension but drops what reaches beyond the ends: the adjoint of
    # extending by zeros.
    sizes = [2 * first.shape[axis] - (0 if periodic else taps - 2) for axis in axes]
    places = _places(bank.rec_lo, bank.rec_hi, axes, sizes, mode if periodic else "zero")
    return merge([in_float32(b) for b in bands.values()], places).astype(
        jnp.result_type(*bands.values())
    )
