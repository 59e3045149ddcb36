"""Two-dimensional discrete wavelet transforms as lax convolutions, with the conventions of PyWavelets.

Both directions work on the four phases of the pixel grid (even / odd row, even / odd column): the stride-2
convolution by an L x L filter equals a stride-1 convolution by L/2 x L/2 over the phases as channels, and the
transposed one equals such a convolution followed by interleaving the phases. Nothing is computed on inserted
zeros, and the gradient of either direction is again a plain stride-1 convolution.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pywt
from jax import lax

from covjax.errors import InputError, unknown

# How a signal goes on beyond its ends: PyWavelets' name -> jnp.pad's name.
MODES = {"symmetric": "symmetric"}


class Bands(NamedTuple):
    """The four sub-bands of one level, each [N, H', W', C].

    The first letter is the filter along the width, the second the one along the height, so that
    (ll, lh, hl, hh) are PyWavelets' (cA, cH, cV, cD): lh holds horizontal edges, hl vertical ones.
    """

    ll: jax.Array
    lh: jax.Array
    hl: jax.Array
    hh: jax.Array


class _Kernels(NamedTuple):
    length: int  # L, the number of filter taps
    analysis: np.ndarray  # [L/2, L/2, phase, band]
    synthesis: np.ndarray  # [L/2, L/2, band, phase]


@functools.lru_cache
def _kernels(wavelet: str) -> _Kernels:
    """Returns the convolution kernels of a wavelet, from PyWavelets' filter banks (float64, read-only)."""
    names = pywt.wavelist(kind="discrete")
    if wavelet not in names:
        raise unknown("wavelet", wavelet, names)
    bank = pywt.Wavelet(wavelet)
    half = bank.dec_len // 2

    # Filters are reversed because lax correlates. Row k, column r of the results is the weight of phase r of
    # the k-th pair of samples (analysis) or that of the k-th coefficient in output phase r (synthesis).
    dec_lo, dec_hi = (np.reshape(f[::-1], (half, 2)) for f in (bank.dec_lo, bank.dec_hi))
    rec_lo, rec_hi = (np.reshape(f, (half, 2))[::-1] for f in (bank.rec_lo, bank.rec_hi))

    def outer(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return np.einsum("ir,js->ijrs", rows, columns).reshape(half, half, 4)

    def bands(lo: np.ndarray, hi: np.ndarray, axis: int) -> np.ndarray:
        return np.stack([outer(lo, lo), outer(hi, lo), outer(lo, hi), outer(hi, hi)], axis)

    kernels = _Kernels(2 * half, bands(dec_lo, dec_hi, -1), bands(rec_lo, rec_hi, -2))
    for array in kernels[1:]:
        array.setflags(write=False)  # shared by every caller of the cache
    return kernels


def dwt2(x: jax.Array, wavelet: str = "haar", mode: str = "symmetric") -> Bands:
    """Single-level 2-D discrete wavelet transform over height and width, as `pywt.dwt2`.

    Args:
      x: [N, H, W, C], floating point, any range, H and W >= 1. Half precision is computed in float32.
      wavelet: name of a discrete wavelet of PyWavelets, static.
      mode: how the signal goes on beyond its ends, static; "symmetric" repeats the edge pixel (half-sample
        symmetry, MATLAB's "sym"), also when the filter is longer than the axis.

    Returns:
      Bands of [N, H', W', C] with n' = floor((n + L - 1) / 2) for L filter taps, in x's type. The low-pass
      filters are orthonormal: a constant image keeps its value times 2 in `ll`.

    Raises:
      InputError: x is not a floating-point array of four axes with pixels, or an unknown wavelet or mode.
    """
    length, kernel, _ = _kernels(wavelet)
    x = _checked("x", x)
    _check_mode(mode)
    if 0 in x.shape[1:3]:
        raise InputError(f"x: shape {x.shape} has no pixels, height and width must be at least 1")
    pads = [(length - 2, n % 2 + length - 2) for n in x.shape[1:3]]
    extended = jnp.pad(x, ((0, 0), *pads, (0, 0)), mode=MODES[mode])

    n, h, w, c = extended.shape
    phases = extended.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 5, 1, 3, 2, 4)
    y = _convolve(phases.reshape(n * c, h // 2, w // 2, 4), kernel)
    y = y.reshape(n, c, *y.shape[1:])
    return Bands(*(jnp.moveaxis(y[..., band], 1, -1) for band in range(4)))


def idwt2(bands: Bands, wavelet: str = "haar", mode: str = "symmetric") -> jax.Array:
    """Inverse of `dwt2`, as `pywt.idwt2`.

    Args:
      bands: (ll, lh, hl, hh), each [N, H', W', C], floating point.
      wavelet: name of a discrete wavelet of PyWavelets, static.
      mode: the mode of the forward transform, static; the inverse is the same for all present modes.

    Returns:
      [N, H, W, C] with n = 2 n' - L + 2 for L filter taps. After `dwt2` of an odd size n is one larger than
      that size; the added last row or column is the extension of the signal.

    Raises:
      InputError: a band is not a floating-point array of four axes, the shapes differ or are too small for
        the filter (n' < L / 2), or an unknown wavelet or mode.
    """
    length, _, kernel = _kernels(wavelet)
    _check_mode(mode)
    bands = Bands(*(_checked(f"bands.{name}", b) for name, b in zip(Bands._fields, bands, strict=True)))
    if len({b.shape for b in bands}) > 1:
        shapes = ", ".join(f"{name} {b.shape}" for name, b in zip(Bands._fields, bands, strict=True))
        raise InputError(f"bands: shapes differ ({shapes}), pass the four bands of one transform")
    n, h, w, c = bands.ll.shape
    least = length // 2
    if min(h, w) < least:
        raise InputError(f"bands: {h}x{w} is too small for '{wavelet}', needs at least {least} per axis")

    stacked = jnp.stack([jnp.moveaxis(b, -1, 1).reshape(n * c, h, w) for b in bands], axis=-1)
    y = _convolve(stacked, kernel)
    h, w = y.shape[1:3]
    return y.reshape(n, c, h, w, 2, 2).transpose(0, 2, 4, 3, 5, 1).reshape(n, 2 * h, 2 * w, c)


def _convolve(x: jax.Array, kernel: np.ndarray) -> jax.Array:
    # Half precision would spoil the reconstruction, and the default precision of an accelerator (TF32) too.
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    y = lax.conv_general_dilated(
        x.astype(dtype),
        jnp.asarray(kernel, dtype),
        window_strides=(1, 1),
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,
    )
    return y.astype(x.dtype)


def _checked(name: str, x: jax.Array) -> jax.Array:
    x = jnp.asarray(x)
    if x.ndim != 4:
        raise InputError(f"{name}: shape {x.shape} has {x.ndim} axes, pass [N, H, W, C]")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"{name}: type {x.dtype} is not floating point, convert it to float32")
    return x


def _check_mode(mode: str) -> None:
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
