"""Reads the result files of a workdir; every problem with them is an InputError that names the
file.
"""

import csv
import json
import math
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from covjax.errors import InputError

STAGES = ("classifier", "segmenter", "framework")
SPLITS = ("test", "val", "train")  # in the order in which a reader wants them
RANKS = ("best", "median", "worst")


@dataclass(frozen=True)
class Results:
    """What a workdir holds; a missing file is an empty mapping.

    `history` maps a stage to its metrics.jsonl rows, one per epoch in ascending order. `scores`
    maps a stage to its splits (test first), and a split to the stage's section of
    results/SPLIT/summary.json. `options` maps a split to the evaluation options that were in force,
    `definitions` to the version of what its scores mean.
    """

    workdir: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    splits: Mapping[str, Any]
    timing: Mapping[str, Any]
    history: Mapping[str, Sequence[Mapping[str, Any]]]
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]]
    options: Mapping[str, Mapping[str, Any]]
    definitions: Mapping[str, Any]

    def file(self, split: str, name: str) -> Path:
        """Returns the path of a file of an evaluated part."""
        return self.workdir / "results" / split / name


def read_results(workdir: Path) -> Results:
    """Returns everything in `workdir` but the per-image tables; raises InputError where there is
    nothing.
    """
    workdir = Path(workdir)
    summaries = _read_summaries(workdir / "results")
    results = Results(
        workdir=workdir,
        config=read_json(workdir / "config.json"),
        environment=read_json(workdir / "environment.json"),
        splits=read_json(workdir / "splits.json"),
        timing=read_json(workdir / "results" / "timing.json"),
        history=_read_history(workdir / "metrics.jsonl"),
        scores={
            stage: {
                split: summary[stage] for split, summary in summaries.items() if stage in summary
            }
            for stage in STAGES
            if any(stage in summary for summary in summaries.values())
        },
        options={split: summary.get("options") or {} for split, summary in summaries.items()},
        definitions={split: summary.get("definitions") for split, summary in summaries.items()},
    )
    if not results.history and not results.scores:
        raise InputError(
            f"{workdir}: holds no results (metrics.jsonl, results/PART/), train or evaluate first"
        )
    return results


def primary(results: Results, stage: str) -> str | None:
    """Returns the split whose scores are shown first: test, else val, else train; None if never
    evaluated.
    """
    return next(iter(results.scores.get(stage, {})), None)


def kept_classes(scored: Mapping[str, Any]) -> list[str]:
    """Returns the classes of infection that a segmenter's section keeps apart, [] where it is
    infected or not.
    """
    classes = [str(name) for name in scored.get("classes") or ()]
    return classes[1:] if len(classes) > 2 else []


def read_json(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file, {} if the file does not exist."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path}: is not valid JSON ({error}), run the evaluation again"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold a JSON object, run the evaluation again")
    return content


def _read_history(path: Path) -> dict[str, list[dict[str, Any]]]:
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    stages: dict[str, dict[int, dict[str, Any]]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            # A resumed run repeats the epochs after its checkpoint: the later line is the one that
            # counts.
            stages.setdefault(row["stage"], {})[int(row["epoch"])] = row
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):
                break  # the run was stopped, or is still going, while this line was written
            raise InputError(
                f"{path}: line {number} is not a metrics row, remove the line"
            ) from error
    return {stage: [rows[epoch] for epoch in sorted(rows)] for stage, rows in stages.items()}


def _read_summaries(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns the summary of every part evaluated so far, test first."""
    found = {path.parent.name: _read_summary(path) for path in folder.glob("*/summary.json")}
    if not found and any(
        re.match(f"({'|'.join(STAGES)})_", path.name) for path in folder.glob("*_*.json")
    ):
        raise InputError(
            f"{folder}: was written by an older covjax, run eval.py --workdir {folder.parent} again"
        )
    order = {split: position for position, split in enumerate(SPLITS)}
    return dict(sorted(found.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))


def _read_summary(path: Path) -> dict[str, Any]:
    summary = read_json(path)
    for stage in STAGES:
        section = summary.get(stage, {"scores": {}})
        scores = section.get("scores") if isinstance(section, dict) else None
        if not isinstance(scores, dict) or not all(
            isinstance(score, dict) for score in scores.values()
        ):
            raise InputError(
                f"{path}: field '{stage}.scores' is not a table of scores, run the evaluation again"
            )
    return summary


def read_table(path: Path, text: Iterable[str], numbers: Iterable[str]) -> dict[str, Any] | None:
    """Returns the columns of a CSV file, or None if the file does not exist.

    Args:
        path: the file; its first row names the columns.
        text: columns to return as lists of str.
        numbers: columns to return as float64 [rows] arrays, NaN where a cell is empty.
    """
    if not path.is_file():
        return None
    text = list(text)
    numbers = list(numbers)
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        missing = [name for name in text + numbers if name not in (reader.fieldnames or [])]
        if missing:
            raise InputError(f"{path}: column '{missing[0]}' is missing, run the evaluation again")
        rows = list(reader)
    columns: dict[str, Any] = {name: [row[name] or "" for row in rows] for name in text}
    for name in numbers:
        try:
            columns[name] = np.array([float(row[name] or "nan") for row in rows])
        except ValueError as error:
            raise InputError(
                f"{path}: column '{name}' is not numeric, run the evaluation again"
            ) from error
    return columns


def read_arrays(path: Path, dimensions: Mapping[str, int]) -> dict[str, np.ndarray] | None:
    """Returns arrays of a file by name, or None if it does not exist.

    All must have the given number of dimensions and agree in the first one; an image and its masks,
    in all.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in dimensions}
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: damaged or of another kind ({error}), run the evaluation again"
        ) from error
    wrong = [name for name, array in arrays.items() if array.ndim != dimensions[name]]
    shapes = {array.shape for array in arrays.values() if array.ndim == 3}
    if wrong or len({len(array) for array in arrays.values()}) != 1 or len(shapes) > 1:
        raise InputError(f"{path}: its arrays do not fit each other, run the evaluation again")
    return arrays


def number(value: Any) -> float:
    """Returns a JSON number as a float, NaN for null or anything that is not a finite number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else math.nan


def score_text(score: Mapping[str, Any]) -> str:
    """Returns the value of a score as text: counts as they are, others to 3 decimals, null as
    undefined.
    """
    value = score.get("value")
    if math.isnan(number(value)):
        return f"undefined ({score['reason']})" if score.get("reason") else "undefined"
    if isinstance(value, int):
        return f"{value:,}"
    return "<0.001" if 0 < value < 0.0005 else f"{value:.3f}".replace("-0.000", "0.000")


def interval_text(score: Mapping[str, Any]) -> str:
    """Returns the interval of a score as 'low to high', '' where it has none."""
    ends = [number(end) for end in score.get("interval") or ()]
    if len(ends) != 2 or any(math.isnan(end) for end in ends):
        return ""
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def options_text(options: Mapping[str, Any]) -> str:
    """Returns evaluation options as 'name value, ...', '' where none is in force."""
    return ", ".join(
        name if value is True else f"{name} {_plain(value)}"
        for name, value in options.items()
        if value
    )


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " and ".join(map(_plain, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
