"""Divisions of a data set that were made elsewhere: the splits.json of another run, or a CSV."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covjax.data.sources.patients import patient_name
from covjax.errors import InputError


def listed_parts(data: Any, path: Path, parts: Sequence[str]) -> tuple[np.ndarray, str]:
    """Returns the part [M] of each slice (its number in `parts`, -1 for none) as a file lists it.

    And the rule (split.by) by which another run made them, "" for a CSV.

    A splits.json lists slices by id; a CSV patients or slices in a column patient or id, their part
    in a column part. Patients may be listed by name where the data hold pseudonyms. Raises
    InputError naming what is not in the data.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        listed = (
            _from_json(text, parts) if path.suffix.lower() == ".json" else _from_csv(text, parts)
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise InputError(
            f"split.path: {path} cannot be read ({error}), name a splits.json or a CSV"
        ) from None
    key, part_of, rule = listed
    names = data.ids if key == "id" else data.patients
    known = set(names)
    if key == "patient":
        part_of = {data.pseudonyms.get(name, name): part for name, part in part_of.items()}
    missing = [number for number, name in enumerate(part_of, 1) if name not in known]
    if missing:
        first = (
            f"the {key} that is number {missing[0]}"
            if data.pseudonyms
            else list(part_of)[missing[0] - 1]
        )
        raise InputError(
            f"{path}: {len(missing)} listed, first {first}, not in the data, list what is there"
        )
    return np.array([part_of.get(name, -1) for name in names]), rule


def _from_json(text: str, parts: Sequence[str]) -> tuple[str, Mapping[str, int], str]:
    splits = json.loads(text)
    found = {name: k for k, part in enumerate(parts) for name in splits[part]}
    return "id", found, str(splits.get("listed_by") or splits.get("by") or "")


def _from_csv(text: str, parts: Sequence[str]) -> tuple[str, Mapping[str, int], str]:
    reader = csv.DictReader(text.splitlines())
    columns = [name.strip().lower() for name in reader.fieldnames or ()]
    key = next((name for name in ("patient", "id") if name in columns), None)
    if key is None or "part" not in columns:
        raise InputError(
            "needs the columns part and patient or id, name them so and separate them by commas"
        )
    found: dict[str, int] = {}
    for raw in reader:
        row = {name.strip().lower(): (value or "").strip() for name, value in raw.items() if name}
        row[key] = patient_name(row[key]) if key == "patient" else row[key]
        if row["part"] not in parts:
            raise InputError(
                f"line {reader.line_num}: part '{row['part']}', use {', '.join(parts)}"
            )
        if found.setdefault(row[key], parts.index(row["part"])) != parts.index(row["part"]):
            raise InputError(
                f"line {reader.line_num} puts {row[key]} into another part than before, keep one"
            )
    return key, found, ""
