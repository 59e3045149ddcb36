"""What the scores' functions are given: refused in one line that names the argument, before it
becomes a number.
"""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from covjax.errors import InputError
from covjax.ops.checks import shown


def as_array(name: str, values: Any, wanted: str) -> np.ndarray:
    """Returns numbers or truths as an array. Raises InputError, which says what is `wanted`, for
    anything else.
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # ragged lists
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name}: {_kind(values, array)}, give {wanted}")
    return array


def _kind(values: Any, array: np.ndarray) -> str:
    return type(values).__name__ if array.ndim == 0 else f"{array.dtype} {array.shape}"


def check_real(
    name: str, value: Any, low: float, high: float, wanted: str, *, above: bool = False
) -> None:
    """Raises InputError unless `value` is a number from `low` (or above it) to `high`; NaN is
    none.
    """
    fits = isinstance(value, numbers.Real) and (
        low < value <= high if above else low <= value <= high
    )
    if not fits:
        raise InputError(f"{name}: {shown(value)}, give {wanted}")


def check_names(classes: Any, count: int, name: str = "classes", hint: str = "") -> None:
    """Raises InputError unless `classes` are `count` distinct strings."""
    listed = isinstance(classes, Sequence)
    if not (
        listed
        and all(isinstance(one, str) for one in classes)
        and len(set(classes)) == len(classes) == count
    ):
        raise InputError(
            f"{name}: {shown(classes)}, give {count} distinct names, one per class{hint}"
        )


def check_patients(patients: Any, count: int, what: str = "case") -> None:
    """Raises InputError unless `patients` are names or numbers, "" where unknown, one per case."""
    listed = (
        hasattr(patients, "__len__")
        and hasattr(patients, "__getitem__")
        and not isinstance(patients, str | dict)
    )
    if not listed:
        raise InputError(f"patients: {shown(patients)}, give a list of names, one per {what}")
    if len(patients) != count:
        raise InputError(f"patients: {len(patients)} of {count} {what}s, give one per {what}")
    for k, patient in enumerate(patients):
        if not isinstance(patient, str | numbers.Integral):
            raise InputError(
                f"patients[{k}]: {shown(patient)}, give a name, or '' where the patient is unknown"
            )


def check_statistic(statistic: Any, patients: Any) -> None:
    """Raises InputError unless `statistic` is a function, and `patients` are names of as many
    images as it takes.
    """
    if not callable(statistic):
        raise InputError(
            f"statistic: {shown(statistic)}, give a function of weights, e.g. mean_of(values)"
        )
    check_patients(patients, len(patients) if hasattr(patients, "__len__") else 0, "image")


def check_labels(
    name: str, labels: np.ndarray, num_classes: int, counted: np.ndarray, hint: str = ""
) -> None:
    """Raises InputError if a label where `counted` is none of 0..num_classes - 1."""
    wrong = (
        counted & ((labels < 0) | (labels >= num_classes))
        if labels.dtype != bool
        else np.zeros(labels.shape, bool)
    )
    if wrong.any():
        found = np.unique(labels[wrong])
        listed = ", ".join(str(value) for value in found[:4]) + (", .." if found.size > 4 else "")
        raise InputError(f"{name}: labels {listed}, give classes 0..{num_classes - 1}{hint}")


def finite_number(value: Any) -> bool:
    """Whether `value` is a finite real number."""
    return isinstance(value, numbers.Real) and math.isfinite(value)
