"""Differences between runs that were scored on the same slices, slice by slice."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covjax.errors import InputError

DICE = {"segmenter": "dice", "framework": "framework_dice"}


def paired_differences(workdirs: Sequence[Path], part: str) -> list[dict[str, Any]]:
    """Compares each run with the first one on the slices of a part that both were scored on.

    Returns:
      One dict per run (its index) and stage: "run", "stage", "what", "n" slices and mean "difference", above 0 where
      the run is better than the first.

    Raises:
      InputError: a run has no per_image.csv of the part, or a damaged one.
    """
    tables = [_read(workdir / "results" / part / "per_image.csv") for workdir in workdirs]
    found = []
    for index, other in enumerate(tables[1:], start=1):
        for stage, column in DICE.items():
            first, second = _shared(tables[0], other, column)
            if len(first):
                found.append({
                    "run": index, "stage": stage, "what": "Dice per slice", "n": len(first),
                    "difference": float((second - first).mean()),
                })  # fmt: skip
    return found


def _shared(one: dict, other: dict, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the values of a column in two tables, of the slices where both have one."""
    pairs = [
        (row[column], other[name][column])
        for name, row in one.items()
        if name in other and row.get(column) and other[name].get(column)
    ]
    values = np.array(pairs, np.float64).reshape(-1, 2)
    return values[:, 0], values[:, 1]


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            return {row["id"]: row for row in csv.DictReader(lines)}
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: missing or damaged ({error}), run the evaluation again") from error
