"""What a source of slices is: a lazy list of them and a fingerprint of its inputs."""

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from covjax.data.label_map import IGNORE, infected
from covjax.data.listing import LeftOut
from covjax.errors import InputError


def truth_digest(mask: np.ndarray) -> str:
    """Returns a digest of where a mask [H, W] says background, infected and ignored."""
    meaning = np.where(mask == IGNORE, IGNORE, mask > 0).astype(np.uint8)
    return f"{zlib.crc32(meaning.tobytes(), zlib.crc32(repr(mask.shape).encode())):08x}"


class Slice(NamedTuple):
    """One decoded slice: image uint8 [H, W], mask uint8 [H, W] or None, label 0 or 1 (infected).

    The mask is 0 (background), 1 (infected; or 1, 2, .. where classes are kept apart) and 255
    (ignored).
    """

    id: str
    image: np.ndarray
    mask: np.ndarray | None
    label: int
    patient: str  # "" when unknown
    split: str = ""  # unless the source comes with a split
    # what the file held: 8bit, or hu brought to 0..255 through the window of the configuration
    values: str = "8bit"
    lungs: np.ndarray | None = None  # bool [H, W] where the source knows them
    # mm between rows and columns where the source knows it
    spacing: tuple[float, float] | None = None
    # what is uncertain but usable, a sentence each; without names, which may be patients'
    notes: tuple[str, ...] = ()


def _as_it_is(i: int, text: str) -> str:
    return text


@dataclass(frozen=True)
class Source:
    """A lazy sequence of slices, and a fingerprint that changes when its inputs do."""

    name: str
    ids: tuple[str, ...]
    load: Callable[[int], Slice]
    fingerprint: str
    origins: tuple[str, ...]  # of each slice, see covjax.data.contents.origin
    # names by the pseudonyms that stand for them
    patients: Mapping[str, str] = field(default_factory=dict)
    # what is in its folder and is not read, as results may show it
    left_out: tuple[LeftOut, ...] = ()
    hide: Callable[[int, str], str] = _as_it_is  # an error on slice i, without names of patients


def check_slice(found: Slice) -> None:
    """Raises InputError for a slice that cannot be trained on; an audit reads it all the same."""
    if found.label == 0 and found.mask is not None and infected(found.mask).any():
        raise InputError(
            f"{found.id}: labelled healthy in index.csv, but its mask marks infection, correct the "
            "label or the mask"
        )


READING = 3  # to be raised whenever the same files decode to other pixels or labels than before


def fingerprint(parts: list) -> str:
    return hashlib.sha256(json.dumps([READING, *parts], ensure_ascii=True).encode()).hexdigest()[
        :16
    ]
