"""What an audit needs to know of every slice, measured in one pass that keeps no picture."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from covjax.data.label_map import IGNORE, infected
from covjax.data.sources.source import Slice
from covjax.errors import InputError

SIDE = 64  # of the thumbnails that are compared
# grey levels by which the pixels of one flat border differ at most; JPEG noise stays below
SAME_GREY = 12
FLAT = 2 / 3  # share of a row or column in the border's grey; the rest may be tick labels
CONSTANT = 0.9  # share of the whole border in its grey; less, and it belongs to the picture
LISTED = ("ids", "patients", "splits", "notes", "picture", "mask")  # fields that are no arrays


@dataclass(frozen=True)
class Measured:
    """Every readable slice of a data set in numbers. `M` slices, in the order of the source.

    The fields up to `notes` are what `covjax.data.splits.splits.make_splits` needs of a data set.
    """

    source: str
    fingerprint: str
    ids: tuple[str, ...]
    labels: np.ndarray  # int32 [M], 0 healthy, 1 infected
    patients: tuple[str, ...]  # "" when unknown
    splits: tuple[str, ...]  # "" unless the source comes with a split
    notes: Mapping[int, tuple[str, ...]]  # of those slices that have any, by their positions
    size: np.ndarray  # int [M, 2], height and width
    mean: np.ndarray  # float [M], grey levels
    std: np.ndarray  # float [M], grey levels
    inner: np.ndarray  # int [M, 4], see `inner_box`
    pixels: np.ndarray  # int [M], that count: all but those labelled "ignore"
    infected: np.ndarray  # int [M], pixels labelled infected; -1 without a mask
    infected_in_border: np.ndarray  # int [M], of those, the ones outside `inner`
    # int [M], of those, the ones where the picture has the border's grey
    infected_on_flat: np.ndarray
    pixels_in_border: np.ndarray  # int [M]
    picture: tuple[str, ...]  # a digest of size and pixels
    mask: tuple[str, ...]  # the same of the mask, "" without one
    thumbnails: np.ndarray  # uint8 [M, SIDE, SIDE]
    unreadable: tuple[tuple[str, str], ...]  # id and reason of every slice that could not be read
    # file and reason of what the source does not read of its folder
    left_out: tuple[tuple[str, str], ...] = ()
    # of patients, where these stand for them
    pseudonyms: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


def measure(
    name: str, fingerprint: str, ids: Sequence[str], load: Callable[[int], Slice]
) -> Measured:
    """Measures every slice of a source; one that cannot be read is listed with its reason.

    Raises InputError if none can be read.
    """
    with ThreadPoolExecutor(4) as pool:
        measured = pool.map(lambda i: _try(load, i), range(len(ids)))
        bar = tqdm(measured, total=len(ids), desc="audit", unit="slice", leave=False)
        found = list(bar)
    unreadable = tuple((i, row) for i, row in zip(ids, found, strict=True) if isinstance(row, str))
    rows = [row for row in found if not isinstance(row, str)]
    if not rows:
        reason = unreadable[0][1] if unreadable else "it lists none"
        raise InputError(f"data: no slice of {name} can be read ({reason})")
    columns: dict[str, Any] = {key: tuple(row[key] for row in rows) for key in rows[0]}
    columns |= {key: np.array(values) for key, values in columns.items() if key not in LISTED}
    columns["notes"] = {i: notes for i, notes in enumerate(columns["notes"]) if notes}
    return Measured(source=name, fingerprint=fingerprint, unreadable=unreadable, **columns)


def _try(load: Callable[[int], Slice], i: int) -> dict[str, Any] | str:
    try:
        return _row(load(i))
    except InputError as error:
        return str(error)


def _row(s: Slice) -> dict[str, Any]:
    inner, grey = inner_box(s.image)
    top, left, bottom, right = inner
    border = np.ones(s.image.shape, bool)
    border[top:bottom, left:right] = False
    counted = np.ones(s.image.shape, bool) if s.mask is None else s.mask != IGNORE
    lesion = np.zeros(s.image.shape, bool) if s.mask is None else infected(s.mask)
    flat = np.abs(s.image.astype(np.int16) - grey) <= SAME_GREY
    thumbnail = Image.fromarray(s.image).resize((SIDE, SIDE), Image.Resampling.BOX)
    return {
        "ids": s.id, "labels": np.int32(s.label), "patients": s.patient, "splits": s.split,
        "notes": s.notes,
        "size": s.image.shape, "mean": s.image.mean(), "std": s.image.std(), "inner": inner,
        "pixels": int(counted.sum()), "infected": -1 if s.mask is None else int(lesion.sum()),
        "infected_in_border": int((lesion & border).sum()),
        "infected_on_flat": int((lesion & border & flat).sum()),
        "pixels_in_border": int((counted & border).sum()),
        "picture": _digest(s.image), "mask": "" if s.mask is None else _digest(s.mask),
        "thumbnails": np.asarray(thumbnail),
    }  # fmt: skip


def inner_box(image: np.ndarray) -> tuple[tuple[int, int, int, int], float]:
    """Finds the flat border of a picture uint8 [H, W]: a figure's margin, or air around a patient.

    Returns (top, left, bottom, right) of what is inside it, rows top..bottom-1 and columns
    left..right-1, and the border's grey, which is the median of the outermost pixels. From each
    side, rows or columns belong to the border as long as FLAT of their pixels have this grey, and
    CONSTANT of the border as a whole. A flat picture is all border; one without a border is all
    inside.
    """
    grey = float(np.median(np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])))
    flat = np.abs(image.astype(np.int16) - grey) <= SAME_GREY
    top, bottom = _span(flat.mean(1))
    left, right = _span(flat.mean(0))
    if top == bottom and left == right:
        # So small an inside leaves every row and column mostly flat.
        top, bottom = _span(np.all(flat, axis=1))
        left, right = _span(np.all(flat, axis=0))
    # A narrow inside leaves every row mostly flat, a low one every column: then measure next to
    # the other's border.
    if top == bottom:
        top, bottom = _span(flat[:, left:right].mean(1)) if left < right else (0, 0)
    if left == right:
        left, right = _span(flat[top:bottom].mean(0)) if top < bottom else (0, 0)
    border = np.ones(image.shape, bool)
    border[top:bottom, left:right] = False
    if border.any() and flat[border].mean() < CONSTANT:
        return (0, 0, *image.shape), grey
    return (top, left, bottom, right), grey


def _span(flat: np.ndarray) -> tuple[int, int]:
    inside = np.flatnonzero(flat < FLAT)
    return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)


def _digest(pixels: np.ndarray) -> str:
    shape = json.dumps(pixels.shape).encode()
    return hashlib.sha256(shape + np.ascontiguousarray(pixels).tobytes()).hexdigest()[:32]
