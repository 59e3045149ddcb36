"""Differences between runs that were scored on the same slices, slice by slice, with tests."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covjax.errors import InputError
from covjax.metrics import delong_test, mcnemar, mean_of, paired_bootstrap

DICE = {"segmenter": "dice", "framework": "framework_dice"}
Rows = dict[str, dict[str, str]]  # id -> row of per_image.csv


def paired_differences(workdirs: Sequence[Path], part: str) -> list[dict[str, Any]]:
    """Compares each run with the first one on the slices of a part that both were scored on.

    The area under the ROC curve by DeLong's test, accuracy by McNemar's, the mean Dice over slices by a paired
    bootstrap of patients (see `covjax.metrics`).

    Returns:
      One score (see `covjax.metrics.score`) per run, stage and quantity, of the run minus the first one, with "run"
      (its index), "stage", "what", "test" and "p_value".

    Raises:
      InputError: a run has no per_image.csv of the part, or a damaged one.
    """
    tables = [_read(workdir / "results" / part / "per_image.csv") for workdir in workdirs]
    found = []
    for index, table in enumerate(tables[1:], start=1):
        every = [*_classifiers(tables[0], table), *_segmenters(tables[0], table)]
        found += [{"run": index, **one} for one in every]
    return found


def _classifiers(first: Rows, other: Rows) -> list[dict[str, Any]]:
    ids = _shared(first, other, "probability")
    if not ids:
        return []
    label = np.array([int(other[name]["label"]) for name in ids])
    right = [_values(rows, ids, "called") == label for rows in (other, first)]
    found = [{"stage": "classifier", "what": "accuracy", **mcnemar(*right)}]
    if min(np.bincount(label, minlength=2)) >= 2:
        areas = delong_test(label, *(_values(rows, ids, "probability") for rows in (other, first)))
        found.insert(0, {"stage": "classifier", "what": "ROC AUC", "test": "DeLong", **areas})
    return found


def _segmenters(first: Rows, other: Rows) -> list[dict[str, Any]]:
    found = []
    for stage, column in DICE.items():
        ids = _shared(first, other, column)
        if ids:
            dice = (mean_of(_values(rows, ids, column)) for rows in (other, first))
            score = paired_bootstrap(*dice, [other[name]["patient"] for name in ids])
            found.append({"stage": stage, "what": "Dice, per slice", "test": "paired bootstrap", **score})
    return found


def _shared(first: Rows, other: Rows, column: str) -> list[str]:
    """Returns the ids of the slices that have a value of a column in both tables."""
    return [name for name, row in other.items() if row.get(column) and first.get(name, {}).get(column)]


def _values(rows: Rows, ids: Sequence[str], column: str) -> np.ndarray:
    return np.array([float(rows[name][column]) for name in ids])


def _read(path: Path) -> Rows:
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            return {row["id"]: row for row in csv.DictReader(lines)}
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: missing or damaged ({error}), run the evaluation again") from error
