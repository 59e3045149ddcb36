"""covjax: screening and segmentation of COVID-19 infection in lung CT slices, in JAX."""

from importlib import import_module

__version__ = "0.1.0"
_ON_DEMAND = {"Screener": "covjax.framework"}  # what imports jax


def __getattr__(name: str) -> object:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module 'covjax' has no attribute '{name}'")
    return getattr(import_module(_ON_DEMAND[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_ON_DEMAND])
