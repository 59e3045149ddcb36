"""Discrete wavelet transforms with PyWavelets' conventions, see `covjax.ops.wavelets`."""

from covjax.ops.wavelets import (
    MODES,
    Bands,
    FilterBank,
    dwt,
    dwt2,
    idwt,
    idwt2,
    wavedec2,
    waverec2,
)

__all__ = ["MODES", "Bands", "FilterBank", "dwt", "dwt2", "idwt", "idwt2", "wavedec2", "waverec2"]
