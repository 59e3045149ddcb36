"""What the numbers in a mask mean."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from covjax.data.source import IGNORE
from covjax.errors import InputError, unknown

MEANINGS = {"background": 0, "infected": 1, "ignore": IGNORE}


def parse_classes(text: str) -> dict[int, int]:
    """Reads `data.classes`, as "1:infected,2:infected,3:background", into {value in files: value in masks}.

    Empty: {}, anything above 0 is infected. Background stays background if it is not named. Raises InputError.
    """
    classes: dict[int, int] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        value, _, meaning = (word.strip() for word in part.partition(":"))
        if not value.isdecimal():
            raise InputError(f"data.classes: '{part}' must be a number of the mask and what it means, as 1:infected")
        if meaning not in MEANINGS:
            raise unknown("data.classes", meaning, MEANINGS)
        classes[int(value)] = MEANINGS[meaning]
    return {0: 0} | classes if classes else {}


def map_classes(values: np.ndarray, classes: Mapping[int, int], path: Path) -> np.ndarray:
    """Turns the numbers of a mask [H, W] into 0, 1 and 255. Raises InputError for a value without meaning."""
    if not classes:
        return (values > 0).astype(np.uint8)
    found = np.unique(values)
    strange = [value for value in found.tolist() if value not in classes]
    if strange:
        raise InputError(f"{path}: mask value {strange[0]:g} has no meaning, add it to data.classes")
    return np.array([classes[value] for value in found.tolist()], np.uint8)[np.searchsorted(found, values)]
