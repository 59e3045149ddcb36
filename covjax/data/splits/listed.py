"""Divisions of a data set that were made elsewhere: the splits.json of another run, or a CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from covjax.data.sources.patients import patient_name
from covjax.errors import InputError
from covjax.files import damage_named
from covjax.records import read_record
from covjax.tables import read_user_csv

REMEDY = "name a splits.json or a CSV in split.path"


class ListedFile(TypedDict):
    """What is used of the splits.json of another run."""

    train: list[str]
    val: list[str]
    test: list[str]
    by: NotRequired[str]
    listed_by: NotRequired[str]


def listed_splits(data: Any, path: Path, names: Sequence[str]) -> tuple[np.ndarray, str]:
    """Returns the split [M] of each slice (its number in `names`, -1 for none) as a file lists it.

    And the rule (split.by) by which another run made them, "" for a CSV.

    A splits.json lists slices by id; a CSV patients or slices in a column patient or id, their
    split in a column split. Patients may be listed by name where the data hold pseudonyms. Raises
    InputError naming what is not in the data.
    """
    with damage_named(path, REMEDY):
        if path.suffix.lower() == ".json":
            key, split_of, rule = _from_json(read_record(path, ListedFile, REMEDY), names)
        else:
            key, split_of, rule = _from_csv(path, names)
    listable = data.ids if key == "id" else data.patients
    known = set(listable)
    if key == "patient":
        split_of = {data.pseudonyms.get(name, name): split for name, split in split_of.items()}
    missing = [number for number, name in enumerate(split_of, 1) if name not in known]
    if missing:
        first = (
            f"the {key} that is number {missing[0]}"
            if data.pseudonyms
            else list(split_of)[missing[0] - 1]
        )
        raise InputError(
            f"{path}: {len(missing)} listed, first {first}, not in the data, list what is there"
        )
    return np.array([split_of.get(name, -1) for name in listable]), rule


def _from_json(splits: ListedFile, names: Sequence[str]) -> tuple[str, Mapping[str, int], str]:
    found = {name: k for k, split in enumerate(names) for name in splits[split]}
    return "id", found, str(splits.get("listed_by") or splits.get("by") or "")


def _from_csv(path: Path, names: Sequence[str]) -> tuple[str, Mapping[str, int], str]:
    columns, rows = read_user_csv(path)
    key = next((name for name in ("patient", "id") if name in columns), None)
    if key is None or "split" not in columns:
        raise InputError(
            f"{path}: needs the columns split and patient or id, name them so and separate them by "
            "commas"
        )
    found: dict[str, int] = {}
    for line, row in rows:
        row[key] = patient_name(row[key]) if key == "patient" else row[key]
        if row["split"] not in names:
            raise InputError(f"{path}: line {line}: split '{row['split']}', use {', '.join(names)}")
        if found.setdefault(row[key], names.index(row["split"])) != names.index(row["split"]):
            raise InputError(
                f"{path}: line {line} puts {row[key]} into another split than before, keep one"
            )
    return key, found, ""
