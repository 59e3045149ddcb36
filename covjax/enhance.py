"""Wavelet enhancement of CT slices, see `covjax.preprocess.enhance`."""

from covjax.preprocess.enhance import PRESETS, enhance

__all__ = ["PRESETS", "enhance"]
