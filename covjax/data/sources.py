"""Where slices come from. A source lists its slices cheaply and decodes one at a time."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from covjax.data import phantom
from covjax.data.images import SUFFIXES, list_images, read_image, read_mask
from covjax.errors import InputError, unknown

LABELS = {"0": 0, "1": 1, "healthy": 0, "infected": 1}


class Slice(NamedTuple):
    """One decoded slice: image uint8 [H, W], mask uint8 [H, W] (0, 1, 255) or None, label 0 healthy or 1 infected."""

    id: str
    image: np.ndarray
    mask: np.ndarray | None
    label: int
    patient: str  # "" when unknown
    split: str  # "" unless the source comes with a split


@dataclass(frozen=True)
class Source:
    """A lazy sequence of slices, and a fingerprint that changes when its inputs do."""

    name: str
    ids: tuple[str, ...]
    load: Callable[[int], Slice]
    fingerprint: str


def check_slice(found: Slice) -> None:
    """Raises InputError for a slice that cannot be trained on. Apart from `load`, so that an audit sees them all."""
    if found.label == 0 and found.mask is not None and (found.mask == 1).any():
        raise InputError(
            f"{found.id}: labelled healthy in index.csv, but its mask marks infection, correct the label or the mask"
        )


def open_source(config: Any) -> Source:
    """Opens the source that `config` (the `data` section of a run) names.

    Raises InputError for an unknown source, a path that is not a folder, or a folder that is not of the source's form.
    """
    if config.source not in SOURCES:
        raise unknown("data.source", config.source, SOURCES)
    if config.source == "phantom":
        return open_phantom(config)
    if not config.path:
        raise InputError(f"data.path: empty, name the folder that holds the {config.source} slices")
    root = Path(config.path).expanduser()
    if not root.is_dir():
        raise InputError(f"data.path: {root} is not a folder, check the path")
    return SOURCES[config.source](root, config)


def open_phantom(config: Any) -> Source:
    """Synthetic chest CT, generated as it is read."""
    p = config.phantom
    if p.patients < 1 or p.slices_per_patient < 1 or p.size < 32:
        raise InputError("data.phantom: patients and slices_per_patient must be at least 1 and size at least 32")

    def load(i: int) -> Slice:
        patient, index = divmod(i, p.slices_per_patient)
        image, mask, label = phantom.phantom_slice(
            patient, index, slices_per_patient=p.slices_per_patient, size=p.size, seed=p.seed
        )
        return Slice(ids[i], image, mask, label, f"phantom{patient:04d}", "")

    count = p.patients * p.slices_per_patient
    ids = tuple(f"phantom{i // p.slices_per_patient:04d}_{i % p.slices_per_patient:03d}" for i in range(count))
    stamp = ["phantom", phantom.PHANTOM_VERSION, p.patients, p.slices_per_patient, p.size, p.seed]
    return Source("phantom", ids, load, _fingerprint(stamp))


def open_folder(root: Path, config: Any) -> Source:
    """Any folder of pictures: images/ (or the folder itself), masks/ with the same stems, index.csv (id or file, ..).

    A healthy slice needs no mask file: nothing in it is infected. Whose slice it is stands in the column
    `config.patient_column`.
    """
    images = list_images(root / "images") if (root / "images").is_dir() else list_images(root, but="masks")
    masks = list_images(root / "masks") if (root / "masks").is_dir() else {}
    rows = _read_index(root, images)
    for stem, path in masks.items():
        if stem not in images:
            raise InputError(f"{path}: a mask without its image, add images/{stem} or remove the mask")
    ids = tuple(rows or images)
    column = config.patient_column
    if column != "patient" and column not in next(iter(rows.values()), {}):
        raise InputError(f"data.patient_column: {root / 'index.csv'} has no column '{column}', name one that it has")

    def load(i: int) -> Slice:
        stem = ids[i]
        row = rows.get(stem, {})
        image = read_image(images[stem], config.bits)
        mask = read_mask(masks[stem], config.mask_threshold) if stem in masks else None
        label = _label(row, mask, images[stem])
        if mask is None and label == 0:
            mask = np.zeros_like(image)
        if mask is not None and mask.shape != image.shape:
            raise InputError(
                f"{images[stem]}: image {image.shape} and mask {mask.shape} differ in size, export them alike"
            )
        return Slice(stem, image, mask, label, row.get(column, ""), row.get("split", ""))

    files = [*images.values(), *masks.values(), *([root / "index.csv"] if rows else [])]
    named = [column] if column != "patient" else []
    return Source(
        "folder",
        ids,
        load,
        _fingerprint(["folder", config.bits, config.mask_threshold, *named, _stamps(root, files)]),
    )


# The paper's released pictures are screenshots of figures; this is where the CT lies in them (rows, columns).
PRLAB21_CT = (slice(16, 264), slice(40, 263))
PRLAB21_FRAMES = {
    "ct": "the CT, cut out of the figure",
    "full": "the whole figure, its margin labelled infected, as released and as the paper scores it",
    "ignore_margin": "the whole figure, its margin labelled 255, which no loss and no score counts",
}
IGNORE = 255  # mask value of a pixel that counts nowhere


def open_prlab21(root: Path, config: Any) -> Source:
    """The paper's own 829 slices, 304x304 screenshots: brought to `data.frame`, the JPEG masks thresholded."""
    images, masks = list_images(root / "images"), list_images(root / "masks")
    rows = _read_index(root, images)
    if not rows or "patient" not in next(iter(rows.values())):
        raise InputError(f"{root / 'index.csv'}: prlab21 needs it with the columns id, label and patient")
    ids = tuple(rows)

    def load(i: int) -> Slice:
        image = read_image(images[ids[i]])
        margin = _margin(images[ids[i]], image)
        label = _label(rows[ids[i]], None, images[ids[i]])
        mask = np.zeros_like(image)
        if label == 1:
            if ids[i] not in masks:
                raise InputError(f"{images[ids[i]]}: infected, but masks/ holds no {ids[i]}, restore the mask")
            mask = read_image(masks[ids[i]])
            _margin(masks[ids[i]], mask)
            mask = (mask > 127).astype(np.uint8)
        if config.frame == "ignore_margin":
            mask[margin] = IGNORE
        if config.frame == "ct":
            image, mask = image[PRLAB21_CT], mask[PRLAB21_CT]
        return Slice(ids[i], image, mask, label, rows[ids[i]]["patient"], "")

    files = [*images.values(), *masks.values(), root / "index.csv"]
    return Source("prlab21", ids, load, _fingerprint(["prlab21", config.frame, _stamps(root, files)]))


def _margin(path: Path, picture: np.ndarray) -> np.ndarray:
    """Returns where a 304x304 figure is margin, bool [304, 304]; that it is white there is what tells such a figure."""
    margin = np.ones(picture.shape, bool)
    margin[PRLAB21_CT] = False
    if picture.shape != (304, 304) or (picture[margin] > 200).mean() < 0.8:
        raise InputError(f"{path}: not a 304x304 figure with a white margin, use data.source=folder for plain slices")
    return margin


SOURCES = {"folder": open_folder, "phantom": open_phantom, "prlab21": open_prlab21}


def _read_index(root: Path, images: dict[str, Path]) -> dict[str, dict[str, str]]:
    """Reads index.csv into {stem: row}; {} when there is none. Rows are found by `file`, or else by `id`."""
    path = root / "index.csv"
    if not path.is_file():
        return {}
    rows: dict[str, dict[str, str]] = {}
    lines: dict[str, int] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.DictReader(text)
            _check_columns(path, reader.fieldnames or ())
            for raw in reader:
                row = {k.strip().lower(): (v or "").strip() for k, v in raw.items() if k}
                stem = _stem_of(row, images, f"{path}: line {reader.line_num}")
                if stem in rows:
                    raise InputError(
                        f"{path}: line {reader.line_num} names {stem} again (first in line {lines[stem]}), remove one"
                    )
                rows[stem], lines[stem] = row, reader.line_num
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a UTF-8 CSV file ({error}), export it again") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), check the file") from None
    if not rows:
        raise InputError(f"{path}: has no rows, list the slices (columns id or file, label, patient) or remove it")
    missing = sorted(images.keys() - rows.keys())
    if missing:
        raise InputError(f"{path}: {len(missing)} pictures are not listed, first {missing[0]}, add or remove them")
    return rows


def _check_columns(path: Path, columns: Iterable[str]) -> None:
    names = [name.strip().lower() for name in columns]
    if not {"id", "file"} & set(names):
        raise InputError(
            f"{path}: has neither a column id nor a column file (found: {', '.join(names)}), "
            "name one so and separate columns by commas"
        )


def _stem_of(row: dict[str, str], images: dict[str, Path], where: str) -> str:
    """Returns the stem of a row's picture, after checking what the row says. `where` begins the error's line."""
    name = row.get("file") or row.get("id") or ""
    if not name:
        raise InputError(f"{where} has neither id nor file, fill one in")
    stem = name
    if row.get("file"):
        file = Path(name)
        # Names may hold dots ("2020.01.24-p27"), so only a picture's suffix is taken off.
        stem = (file.with_suffix("") if file.suffix.lower() in SUFFIXES else file).as_posix().removeprefix("images/")
    if stem not in images:
        raise InputError(f"{where} names {name}, which is not among the pictures, correct or remove it")
    if row.get("label") and row["label"].lower() not in LABELS:
        raise InputError(f"{where}: label '{row['label']}', use 0 (healthy) or 1 (infected)")
    return stem


def _label(row: dict[str, str], mask: np.ndarray | None, path: Path) -> int:
    if row.get("label"):
        return LABELS[row["label"].lower()]
    if mask is None:
        raise InputError(f"{path}: neither a label in index.csv nor a mask in masks/, add one")
    return int(mask.any())


def _stamps(root: Path, files: list[Path]) -> list[tuple[str, int, int]]:
    return [(f.relative_to(root).as_posix(), f.stat().st_size, f.stat().st_mtime_ns) for f in files]


READING = 1  # to be raised whenever the same files decode to other pixels or labels than before


def _fingerprint(parts: list) -> str:
    return hashlib.sha256(json.dumps([READING, *parts], ensure_ascii=True).encode()).hexdigest()[:16]
