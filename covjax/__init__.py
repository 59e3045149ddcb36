"""covjax: screening and segmentation of COVID-19 infection in lung CT slices, in JAX."""

__version__ = "0.1.0"
