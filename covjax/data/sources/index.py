"""index.csv: what a user says of the pictures or scans of a folder."""

import re
from pathlib import Path

import numpy as np

from covjax.data.formats.endings import bare_name
from covjax.data.label_map import infected
from covjax.data.sources.patients import patient_name
from covjax.errors import InputError
from covjax.tables import read_user_csv

LABELS = {"0": 0, "1": 1, "healthy": 0, "infected": 1}
PATIENT = "patient"  # the column that is read unless another is named
NAMES_PATIENTS = re.compile(r"(patient|subject)s?[\W_]*(id|uid|no|nr|num|number|name|code)?")
Rows = dict[str, dict[str, str]]  # what index.csv says of each stem
ROUNDED = re.compile(r"-?\d(\.\d+)?[eE]\+\d+")


def read_index(root: Path, images: dict[str, Path]) -> Rows:
    """Reads index.csv into {stem: row} by its columns `file` or `id`; {} when there is none."""
    path = root / "index.csv"
    if not path.is_file():
        return {}
    rows: Rows = {}
    lines: dict[str, int] = {}
    try:
        columns, listed = read_user_csv(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), check the file") from None
    if not {"id", "file"} & set(columns):
        raise InputError(
            f"{path}: has neither a column id nor a column file (found: {', '.join(columns)}), "
            "name one so and separate columns by commas"
        )
    for line, row in listed:
        stem = _stem_of(row, images, f"{path}: line {line}")
        if stem in rows:
            raise InputError(
                f"{path}: line {line} names {stem} again (first in line {lines[stem]}), remove one"
            )
        rows[stem] = row
        lines[stem] = line
    if not rows:
        raise InputError(
            f"{path}: has no rows, list the slices (columns id or file, label, patient) or remove "
            "it"
        )
    missing = sorted(images.keys() - rows.keys())
    if missing:
        raise InputError(
            f"{path}: {len(missing)} pictures are not listed, first {missing[0]}, add or remove "
            "them"
        )
    return rows


def read_patients(root: Path, rows: Rows, column: str) -> dict[str, str]:
    """Returns {stem: patient} as a column of index.csv says it, whatever its capitals.

    {} if that is the default column and there is none, or nothing in it. Raises InputError for
    another column that is not there or empty, for the default one where a column of another name
    names the patients, for patients who are known of some rows only, and for numbers that a
    spreadsheet has rounded.
    """
    path = root / "index.csv"
    name = column.strip().lower()
    if not rows and name != PATIENT:
        raise InputError(
            f"data.patient_column: '{column}', but there is no {path}; add it, or leave the field "
            "out"
        )
    columns = next(iter(rows.values()), {})
    similar = [one for one in columns if NAMES_PATIENTS.fullmatch(one)]
    if name not in columns and name == PATIENT and similar:
        raise InputError(
            f"{path}: has no column {PATIENT}, but '{similar[0]}': if it names the patients, "
            f"set --config.data.patient_column='{similar[0]}', else rename it"
        )
    if name not in columns and name != PATIENT:
        raise InputError(
            f"data.patient_column: {path} has no column '{column}', name one that it has "
            f"({', '.join(columns)})"
        )
    found = {stem: patient_name(row.get(name, "")) for stem, row in rows.items()}
    empty = [stem for stem, patient in found.items() if not patient]
    if len(empty) == len(found):
        if name != PATIENT:
            raise InputError(
                f"data.patient_column: the column '{column}' of {path} is empty, name another"
            )
        return {}
    if empty:
        raise InputError(
            f"{path}: {len(empty)} rows, first that of {empty[0]}, have no {name} where others do; "
            "fill them in, with a separate name for each patient who is not known"
        )
    for stem, patient in found.items():
        if ROUNDED.fullmatch(patient):
            raise InputError(
                f"{path}: {name} {patient} of {stem} is a number that a spreadsheet has rounded, "
                "so patients cannot be told apart; format the column as text and export it again"
            )
    return found


def _stem_of(row: dict[str, str], images: dict[str, Path], where: str) -> str:
    """Checks a row and returns the stem of its picture. `where` begins the error's line."""
    name = row.get("file") or row.get("id") or ""
    if not name:
        raise InputError(f"{where} has neither id nor file, fill one in")
    stem = name
    if row.get("file"):
        file = Path(name)
        # Names may hold dots ("2020.01.24-p27"), so only the suffix of a picture or scan is taken
        # off.
        stem = (file.parent / bare_name(file.name)).as_posix().removeprefix("images/")
    if stem not in images:
        raise InputError(
            f"{where} names {name}, which is not among the pictures, correct or remove it"
        )
    if row.get("label") and row["label"].lower() not in LABELS:
        raise InputError(f"{where}: label '{row['label']}', use 0 (healthy) or 1 (infected)")
    return stem


def label_of(row: dict[str, str], mask: np.ndarray | None, path: Path) -> int:
    if row.get("label"):
        return LABELS[row["label"].lower()]
    if mask is None:
        raise InputError(f"{path}: neither a label in index.csv nor a mask in masks/, add one")
    return int(infected(mask).any())
