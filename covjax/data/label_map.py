"""What the numbers in a mask mean: infected or not, or several classes of infection."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from covjax.colours import COLOURS
from covjax.errors import InputError, unknown

IGNORE = 255  # mask value of a pixel that counts nowhere
MEANINGS = {"background": 0, "infected": 1, "ignore": IGNORE}
MOST = len(COLOURS)  # classes other than the background: as many as everyone can tell apart
# The first part of columns and the last of scores, where a class of this name would pass for
# something else.
TAKEN = re.compile(r"lung|.*_per_image")


def infected(mask: np.ndarray) -> np.ndarray:
    """Returns where a mask says infected, of whatever class: bool of its shape."""
    return (mask > 0) & (mask != IGNORE)


def parse_classes(text: str) -> dict[int, int]:
    """Reads `data.classes` into {value in files: value in masks}.

    "1:infected,2:infected,3:background" makes masks of infected or not. Other names are classes
    that are kept, numbered as they are first named: "1:ground_glass,2:consolidation,3:ignore".
    Empty: {}, anything above 0 is infected. Background stays background if it is not named. Raises
    InputError.
    """
    named = {name: number for number, name in enumerate(class_names(text))} | {"ignore": IGNORE}
    classes = {value: named[meaning] for value, meaning in _pairs(text).items()}
    return {0: 0} | classes if classes else {}


def class_names(text: str) -> tuple[str, ...]:
    """Returns the classes of the masks that `data.classes` makes, in the order of their numbers.

    They are background and infected, or background and two or more that are kept. Raises
    InputError.
    """
    meanings = dict.fromkeys(_pairs(text).values())
    kept = [meaning for meaning in meanings if meaning not in MEANINGS]
    if not kept:
        return "background", "infected"
    if "infected" in meanings:
        raise InputError(
            f"data.classes: infected is all classes together, so it cannot stand with {kept[0]}; "
            "give it another name, or call all of them infected"
        )
    if len(kept) == 1:
        raise InputError(
            f"data.classes: {kept[0]} is the only class, call it infected, or name two or more"
        )
    if len(kept) > MOST:
        raise InputError(
            f"data.classes: {len(kept)} classes, at most {MOST} are kept, give some the same name"
        )
    return "background", *kept


def stamp(text: str) -> list:
    """Returns what of `data.classes` goes into a fingerprint; [] for ""."""
    names = class_names(text)
    pairs = [list(pair) for pair in sorted(parse_classes(text).items())]
    return pairs if names[1:] == ("infected",) else [*pairs, list(names)]


def map_classes(values: np.ndarray, classes: Mapping[int, int], path: Path) -> np.ndarray:
    """Turns the numbers of a mask [H, W] into classes and 255. Raises InputError."""
    if not classes:
        return (values > 0).astype(np.uint8)
    found = np.unique(values)
    strange = [value for value in found.tolist() if value not in classes]
    if strange:
        raise InputError(
            f"{path}: mask value {strange[0]:g} has no meaning, add it to data.classes"
        )
    return np.array([classes[value] for value in found.tolist()], np.uint8)[
        np.searchsorted(found, values)
    ]


def _pairs(text: str) -> dict[int, str]:
    """Returns {value in files: its meaning} as it is written."""
    pairs: dict[int, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        value, _, meaning = (word.strip() for word in part.partition(":"))
        if not (value.isascii() and value.isdecimal()):
            raise InputError(
                f"data.classes: '{part}' must be a number of the mask and what it means, as "
                "1:infected"
            )
        if meaning not in MEANINGS:
            _check_name(part, meaning)
        if pairs.setdefault(int(value), meaning) != meaning:
            raise InputError(
                f"data.classes: {int(value)} is both {pairs[int(value)]} and {meaning}, name it "
                "once"
            )
    return pairs


def _check_name(part: str, name: str) -> None:
    if difflib.get_close_matches(name, MEANINGS, n=1, cutoff=0.8):  # a slip would become a class
        raise unknown("data.classes", name, MEANINGS)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or TAKEN.fullmatch(name):
        raise InputError(
            f"data.classes: '{part}' names no class, use small letters, digits and _, as "
            "1:ground_glass (not lung, nor an end in _per_image)"
        )
