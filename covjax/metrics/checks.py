"""Arguments of the scores' functions: types, and refusals in one line that names the argument."""

import math
import numbers
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike as ArrayLike
from numpy.typing import NDArray

from covjax.errors import InputError
from covjax.ops.checks import shown

Numbers = NDArray[Any]  # of any type
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]


def as_array(name: str, values: Any, wanted: str) -> Numbers:
    """Returns numbers or truths as an array.

    Raises:
      InputError: they are something else; it says what is `wanted`.
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # ragged lists
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        found = type(values).__name__ if array.ndim == 0 else f"{array.dtype} {array.shape}"
        raise InputError(f"{name}: {found}, give {wanted}")
    return array


def check_real(name: str, value: Any, low: float, high: float, wanted: str) -> None:
    """Raises InputError unless `value` is a number from `low` to `high`, and not NaN."""
    if not isinstance(value, numbers.Real) or not low <= float(value) <= high:
        raise InputError(f"{name}: {shown(value)}, give {wanted}")


def check_names(classes: Any, count: int, hint: str = "") -> None:
    """Raises InputError unless `classes` are `count` distinct strings."""
    strings = _is_sequence(classes) and all(isinstance(one, str) for one in classes)
    if not strings or not len(set(classes)) == len(classes) == count:
        raise InputError(
            f"classes: {shown(classes)}, give {count} distinct names, one per class{hint}"
        )


def _is_sequence(values: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(values, Sequence)


def check_patients(patients: Any, count: int | None, what: str = "case") -> None:
    """Raises InputError unless `patients` are names, "" where unknown, one per case.

    Numbers will do as names. `count` None: as many as there are.
    """
    listed = hasattr(patients, "__len__") and hasattr(patients, "__getitem__")
    if not listed or isinstance(patients, str | dict):
        raise InputError(f"patients: {shown(patients)}, give a list of names, one per {what}")
    if count is not None and len(patients) != count:
        raise InputError(f"patients: {len(patients)} of {count} {what}s, give one per {what}")
    for k, patient in enumerate(patients):
        if not isinstance(patient, str | numbers.Integral):
            raise InputError(
                f"patients[{k}]: {shown(patient)}, give a name, or '' where the patient is unknown"
            )


def check_statistic(statistic: Any, patients: Any) -> None:
    """Raises InputError unless `statistic` is a function and `patients` are names of images."""
    if not callable(statistic):
        raise InputError(
            f"statistic: {shown(statistic)}, give a function of weights, e.g. mean_of(values)"
        )
    check_patients(patients, None, "image")


def check_labels(
    name: str, labels: Numbers, num_classes: int, counted: Bools, hint: str = ""
) -> None:
    """Raises InputError if a label where `counted` is none of 0..num_classes - 1."""
    if labels.dtype == bool:
        return
    wrong = np.unique(labels[counted & ((labels < 0) | (labels >= num_classes))])
    if wrong.size:
        listed = ", ".join(str(value) for value in wrong[:4]) + (", .." if wrong.size > 4 else "")
        raise InputError(f"{name}: labels {listed}, give classes 0..{num_classes - 1}{hint}")


def is_finite(value: Any) -> TypeGuard[float]:
    """Whether `value` is a finite real number."""
    return isinstance(value, numbers.Real) and math.isfinite(value)
