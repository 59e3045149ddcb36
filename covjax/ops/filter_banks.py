"""Filters of wavelets: by name, as PyWavelets supplies them, or given as numbers."""

import functools
from typing import NamedTuple

import numpy as np
import pywt

from covjax.errors import InputError, unknown


class FilterBank(NamedTuple):
    """Filters of a wavelet, as `pywt.Wavelet.filter_bank`: as many taps each, in its order."""

    dec_lo: tuple[float, ...]
    dec_hi: tuple[float, ...]
    rec_lo: tuple[float, ...]
    rec_hi: tuple[float, ...]


Wavelet = str | FilterBank | pywt.Wavelet


def filter_bank(wavelet: Wavelet) -> FilterBank:
    """Returns the filters of a wavelet, of the same even number of taps."""
    if isinstance(wavelet, str):
        return _named(wavelet)
    bank = wavelet.filter_bank if isinstance(wavelet, pywt.Wavelet) else wavelet
    try:
        arrays = [np.asarray(taps, np.float64) for taps in bank]
    except (TypeError, ValueError):
        arrays = []
    sizes = {array.shape for array in arrays}
    usable = len(arrays) == 4 and len(sizes) == 1 and arrays[0].ndim == 1 and arrays[0].size > 0
    if not usable or not np.isfinite(arrays).all():
        raise InputError(
            "wavelet: pass a name, a pywt.Wavelet or FilterBank of four tuples of as many finite "
            "numbers"
        )
    odd = arrays[0].size % 2  # as in PyWavelets, a zero makes them even
    return FilterBank(*(tuple(np.append(array, [0.0] * odd).tolist()) for array in arrays))


@functools.lru_cache
def _named(wavelet: str) -> FilterBank:
    names = pywt.wavelist(kind="discrete")
    if wavelet not in names:
        raise unknown("wavelet", wavelet, names)
    return FilterBank(*(tuple(taps) for taps in pywt.Wavelet(wavelet).filter_bank))


def name_of(wavelet: Wavelet) -> str:
    return wavelet if isinstance(wavelet, str) else getattr(wavelet, "name", "the filter bank")
