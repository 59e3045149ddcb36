"""covjax: screening and segmentation of COVID-19 infection in lung CT slices, in JAX.

The names below are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from covjax import configs, enhance, framework, metrics, models, pooling, pretrained, wavelets
    from covjax.framework import Screener, train_run
    from covjax.models import create_model, list_models
    from covjax.pretrained import load_pretrained

__version__ = "0.2.0"
__all__ = [
    "Screener",
    "__version__",
    "configs",
    "create_model",
    "enhance",
    "framework",
    "list_models",
    "load_pretrained",
    "metrics",
    "models",
    "pooling",
    "pretrained",
    "train_run",
    "wavelets",
]
# The others are modules.
_IN_MODULE = {
    "Screener": "framework",
    "create_model": "models",
    "list_models": "models",
    "load_pretrained": "pretrained",
    "train_run": "framework",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'covjax' has no attribute '{name}'")
    module = import_module(f"covjax.{_IN_MODULE.get(name, name)}")
    return getattr(module, name) if name in _IN_MODULE else module


def __dir__() -> list[str]:
    return __all__
