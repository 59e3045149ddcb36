"""Reads result files; every problem with one is an InputError that names the file."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from covjax import files, records, tables
from covjax.errors import InputError

EVALUATE = "run the evaluation again"
Columns = dict[str, NDArray[Any]]
T = TypeVar("T")


def read_record(path: Path, kind: type[T], remedy: str = EVALUATE) -> T:
    """Returns what a JSON file holds, of the type `kind`, {} if the file does not exist."""
    return records.read_record(path, kind, remedy) if path.is_file() else cast(T, {})


def read_table(
    path: Path, text: Iterable[str], numbers: Iterable[str], remedy: str = EVALUATE
) -> Columns | None:
    """Returns the columns of a CSV file, or None if the file does not exist.

    Args:
      path: the file; its first row names the columns.
      text: columns to return as arrays of str, [rows].
      numbers: columns to return as float64 arrays, [rows], NaN where a cell is empty.
      remedy: what to do about a damaged file.
    """
    text = list(text)
    numbers = list(numbers)
    if not path.is_file():
        return None
    rows = tables.read_rows(path, [*text, *numbers], remedy)
    columns: Columns = {name: np.array([row[name] for row in rows], object) for name in text}
    return columns | {name: tables.read_numbers(path, rows, name, remedy) for name in numbers}


def read_arrays(
    path: Path, dimensions: Mapping[str, int], remedy: str = EVALUATE
) -> Columns | None:
    """Returns arrays of a file by name, or None if it does not exist.

    All must have the given number of dimensions and agree in the first one, those of three
    dimensions (an image and its masks) in all.
    """
    if not path.is_file():
        return None
    with files.damage_named(path, remedy):
        found = files.read_arrays(path, remedy)
        arrays = {name: found[name] for name in dimensions}
    wrong = [name for name, array in arrays.items() if array.ndim != dimensions[name]]
    shapes = {array.shape for array in arrays.values() if array.ndim == 3}
    if wrong or len({len(array) for array in arrays.values()}) != 1 or len(shapes) > 1:
        raise InputError(f"{path}: its arrays do not fit each other, {remedy}")
    return arrays
