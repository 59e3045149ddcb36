"""Discrete wavelet transforms with PyWavelets' conventions, see `covjax.ops.wavelets`."""

from covjax.ops.wavelets import Bands, FilterBank, dwt, dwt2, idwt2, wavedec2, waverec2

__all__ = ["Bands", "FilterBank", "dwt", "dwt2", "idwt2", "wavedec2", "waverec2"]
