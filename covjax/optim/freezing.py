"""Fine-tuning: which parameters a training leaves as they are, and how fast the others learn.

Both are chosen by shell patterns over the parameters' paths, "stage1_unit1/first/conv/kernel".
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from fnmatch import fnmatchcase
from typing import Any

import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from covjax.errors import InputError
from covjax.nn.layers import BatchNorm


def is_frozen(path: Sequence[str], freeze: str) -> bool:
    """Returns whether `freeze` freezes the parameter at `path`.

    `freeze` is a list of patterns as "*,!fc3/*": the last that fits wins, "!" excepts what fits.
    """
    frozen = False
    name = "/".join(path)
    for pattern in _words(freeze):
        if fnmatchcase(name, pattern.removeprefix("!")):
            frozen = not pattern.startswith("!")
    return frozen


def split_frozen(params: Any, freeze: str) -> tuple[Any, Any]:
    """Splits nested `params` into (those that train, those that are frozen).

    Gradients and optimiser see the former alone: masking by optax would compute all gradients.
    """
    return _split(params, lambda path: is_frozen(path, freeze))


def split_statistics(batch_stats: Any, freeze: str) -> tuple[Any, Any]:
    """Splits nested BatchNorm statistics into (those that move, those of frozen layers)."""
    return _split(batch_stats, lambda path: keeps_statistics(path[:-1], freeze))


def overlay(params: Any, changed: Any) -> Any:
    """Returns nested `params` with the leaves of `changed`, a part of them, in place of theirs."""
    return unflatten_dict(flatten_dict(params) | flatten_dict(changed))


def keeps_statistics(layer: Sequence[str], freeze: str) -> bool:
    """Returns whether training uses and keeps the statistics of the BatchNorm at path `layer`."""
    return is_frozen((*layer, "scale"), freeze)


def frozen_statistics(freeze: str) -> AbstractContextManager:
    """In this context a training network's frozen BatchNorm layers use the statistics they have."""

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        if isinstance(context.module, BatchNorm) and keeps_statistics(context.module.path, freeze):
            kwargs = kwargs | {"train": False}
        return call(*args, **kwargs)

    return nn.intercept_methods(intercept) if freeze else nullcontext()


def rate_of(path: Sequence[str], rates: str) -> float:
    """Returns the learning rate of the parameter at `path`, as a multiple.

    `rates` is a list as "stem/*:0.1,*bias:2": the first that fits wins.
    """
    name = "/".join(path)
    return next((rate for pattern, rate in _rates(rates) if fnmatchcase(name, pattern)), 1.0)


def scale_by_part(rates: str) -> optax.GradientTransformation:
    """Multiplies the update of every parameter by its `rate_of`.

    Without state: `optax.partition` by rates would keep one for each of them.
    """

    def scaled(updates: Any, _: Any) -> Any:
        flat: dict[tuple[str, ...], Any] = flatten_dict(updates)
        return unflatten_dict({path: rate_of(path, rates) * u for path, u in flat.items()})

    return optax.stateless(scaled)


def check_parts(field: str, params: Any, freeze: str, rates: str) -> None:
    """Raises InputError for a pattern that matches no parameter, a wrong rate, or all frozen."""
    paths = list(flatten_dict(params))
    patterns = {
        "freeze": [p.removeprefix("!") for p in _words(freeze)],
        "rates": [p for p, _ in _rates(rates, field)],
    }
    for name, words in patterns.items():
        for pattern in words:
            if not any(fnmatchcase("/".join(path), pattern) for path in paths):
                parts = ", ".join(sorted({f"{path[0]}/*" for path in paths}))
                raise InputError(
                    f"{field}.{name}: '{pattern}' matches no parameter, the parts are {parts}"
                )
    if all(is_frozen(path, freeze) for path in paths):
        raise InputError(
            f"{field}.freeze: '{freeze}' leaves nothing to train, "
            "except a part of it, as in '*,!head/*'"
        )


def _split(tree: Any, chosen: Callable[[Sequence[str]], bool]) -> tuple[Any, Any]:
    flat = flatten_dict(tree)
    first = {path: value for path, value in flat.items() if not chosen(path)}
    second = {path: value for path, value in flat.items() if path not in first}
    return unflatten_dict(first), unflatten_dict(second)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _rates(rates: str, field: str = "optimizer") -> list[tuple[str, float]]:
    found = []
    for word in _words(rates):
        pattern, _, number = word.rpartition(":")
        try:
            rate = float(number)
        except ValueError:
            rate = 0.0
        if not pattern or not 0 < rate < math.inf:
            raise InputError(
                f"{field}.rates: '{word}' is not PATTERN:NUMBER with a number above 0, "
                "as in 'stem/*:0.1'"
            )
        found.append((pattern, rate))
    return found
