"""Checks of what functions of arrays are given.

By type and shape alone, which a program being traced knows too.
"""

import numbers
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from covjax.errors import InputError, unknown

IMAGES = "[N, H, W, C]"


def as_array(name: str, x: Any, wanted: str = IMAGES) -> jax.Array:
    """Returns numbers as an array, unseen. Raises InputError for anything else."""
    if isinstance(x, jax.Array):
        return x
    try:
        array = np.asarray(x)
    except (TypeError, ValueError):  # ragged lists
        array = np.asarray(None)
    # bfloat16 is of another kind
    number = array.dtype.kind in "biufc" or jnp.issubdtype(array.dtype, jnp.floating)
    if not number:
        raise InputError(f"{name}: {type(x).__name__} is no array of numbers, pass {wanted}")
    return jnp.asarray(array)


def check_images(name: str, x: jax.Array, wanted: str = "floating point, e.g. float32") -> None:
    """Raises InputError unless x is floating point [N, H, W, C] with pixels and channels."""
    x = as_array(name, x)
    if x.ndim != 4:
        raise InputError(f"{name}: shape {x.shape} has {x.ndim} axes, pass {IMAGES}")
    if 0 in x.shape[1:]:
        raise InputError(
            f"{name}: shape {x.shape} has no pixels, pass {IMAGES} with at least 1 of each but N"
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"{name}: type {x.dtype} is not usable, pass {wanted}")


def check_shape(name: str, x: Any, shape: tuple[int, ...]) -> None:
    """Raises InputError unless x has this shape."""
    if np.shape(x) != tuple(shape):
        raise InputError(f"{name}: shape {np.shape(x)}, pass {tuple(shape)}")


def check_count(name: str, value: Any, least: int, wanted: str) -> None:
    """Raises InputError unless `value` is a whole number of at least `least`."""
    if not is_whole(value) or value < least:
        raise InputError(f"{name}: {shown(value)}, give {wanted}")


def check_name(what: str, name: Any, table: Collection[str]) -> None:
    """Raises InputError, which lists the names of `table`, unless `name` is one of them."""
    if not isinstance(name, str) or name not in table:
        raise unknown(what, shown(name) if not isinstance(name, str) else name, table)


def is_whole(value: Any) -> bool:
    """Whether `value` is a whole number, of any type but bool."""
    return not isinstance(value, bool) and isinstance(value, numbers.Integral)


def shown(value: Any) -> str:
    """Returns what a value looks like in one short line."""
    shape = getattr(value, "shape", None)
    if shape:
        return f"an array {tuple(shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
