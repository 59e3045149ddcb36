"""index.csv: what a user says of the pictures or scans of a folder."""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from covjax.data.images import SUFFIXES
from covjax.data.source import infected
from covjax.errors import InputError

LABELS = {"0": 0, "1": 1, "healthy": 0, "infected": 1}
SCANS = (".nii.gz", ".nii", ".dcm", ".dicom", ".ima")


def bare_name(name: str) -> str:
    """Returns a file name without the suffix of a picture or scan, if it has one."""
    for suffix in (*SCANS, *SUFFIXES):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def read_index(root: Path, images: dict[str, Path]) -> dict[str, dict[str, str]]:
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
        # Names may hold dots ("2020.01.24-p27"), so only the suffix of a picture or scan is taken off.
        stem = (file.parent / bare_name(file.name)).as_posix().removeprefix("images/")
    if stem not in images:
        raise InputError(f"{where} names {name}, which is not among the pictures, correct or remove it")
    if row.get("label") and row["label"].lower() not in LABELS:
        raise InputError(f"{where}: label '{row['label']}', use 0 (healthy) or 1 (infected)")
    return stem


def label_of(row: dict[str, str], mask: np.ndarray | None, path: Path) -> int:
    if row.get("label"):
        return LABELS[row["label"].lower()]
    if mask is None:
        raise InputError(f"{path}: neither a label in index.csv nor a mask in masks/, add one")
    return int(infected(mask).any())
