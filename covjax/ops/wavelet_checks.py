"""Checks of what wavelet transforms are given."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from covjax.errors import InputError
from covjax.ops.checks import as_array, check_name, is_whole, shown
from covjax.ops.subbands import MODES


def axis_from_end(axis: int, ndim: int) -> int:
    if not is_whole(axis) or not -ndim <= axis < ndim:
        raise InputError(f"axis: {shown(axis)} does not exist, the array has {ndim} axes")
    return axis - ndim if axis >= 0 else axis


def checked_floats(name: str, x: object, least: int, wanted: str) -> jax.Array:
    array = as_array(name, x, wanted)
    if array.ndim < least:
        raise InputError(f"{name}: shape {array.shape} has {array.ndim} axes, pass {wanted}")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(f"{name}: type {array.dtype} is not floating point, convert it to float32")
    return array


def check_mode(mode: str) -> None:
    check_name("mode", mode, MODES)


def checked_levels(coeffs: object) -> Sequence[object]:
    if not isinstance(coeffs, Sequence) or isinstance(coeffs, str) or not coeffs:
        found = "no arrays" if isinstance(coeffs, Sequence) and not len(coeffs) else shown(coeffs)
        raise InputError(f"coeffs: {found}, pass what wavedec2 returned")
    return coeffs


def checked_arrays(name: str, arrays: object, count: int, wanted: str) -> Sequence[object]:
    if not isinstance(arrays, Sequence) or isinstance(arrays, str):
        raise InputError(f"{name}: {shown(arrays)}, pass {wanted}")
    if len(arrays) != count:
        raise InputError(f"{name}: {len(arrays)} arrays, pass {wanted}")
    return arrays
