"""What a stage says of one split of the data: its scores, and its columns of the tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from covjax.data.prepared.dataset import Prepared
from covjax.metrics import infected_or_not
from covjax.scores import find
from covjax.stages.stage import Stage
from covjax.stages.task import Rows, Task


@dataclass(frozen=True)
class Evaluated:
    """A stage's section of summary.json and its columns of per_image.csv."""

    section: dict[str, Any]
    columns: dict[str, np.ndarray]  # name -> values [N] of the slices that the stage saw
    indices: np.ndarray  # [N], which slices of the data these are
    # int64 [N, 2, 2] of pixels infected or not, None where none are segmented
    confusion: np.ndarray | None = None


def evaluate_stage(stage: Stage, rows: Rows, data: Prepared, indices: np.ndarray) -> Evaluated:
    """Returns scores and per-slice columns of a stage over the slices that it works on."""
    columns = stage.task.columns(stage, rows, data.unit)
    columns[f"{stage.name}_loss"] = _slice_loss(rows)
    section = {"model": stage.config.model.name, **stage.task.section(stage, rows, data.unit)}
    return score_rows(
        stage.name, stage.task, stage.threshold, rows, data, indices, section, columns
    )


def score_rows(
    name: str, task: Task, threshold: float, rows: Rows, data: Prepared, indices: np.ndarray,
    section: Mapping[str, Any], columns: dict[str, np.ndarray],
) -> Evaluated:  # fmt: skip
    """Returns the scores of what a task says of slices, whoever said it.

    Args:
      name: of the stage, by which pages know the scores.
      task: what was asked for.
      threshold: log-odds from which a slice is called infected.
      rows: per-slice arrays [N], see `Task.rows`.
      data: what the slices are of.
      indices: [N], which slices of the data these are.
      section: further fields of its section in summary.json, its model first.
      columns: of per_image.csv.
    """
    scores = task.scores(rows, threshold, patients_of(data, indices))
    for score_name, score in scores.items():
        if find(name, score_name).unit == "distance":
            score["unit"] = data.unit
    model = section.get("model")
    fields = heading(model, task.classes, data, indices) | dict(section) | {"scores": scores}
    confusion = infected_or_not(rows["confusion"]) if task.predicts_masks else None
    return Evaluated(fields, columns, indices, confusion)


def patients_of(data: Prepared, indices: np.ndarray) -> list[str]:
    """Returns the patient of every slice, "" where unknown."""
    return [data.patients[i] for i in indices]


def heading(
    model: str | None, classes: tuple[str, ...], data: Prepared, indices: np.ndarray
) -> dict[str, Any]:
    """Returns the fields that every stage's section begins with."""
    patients = set(patients_of(data, indices)) - {""}
    named = {"model": model} if model else {}
    return named | {
        "classes": list(classes),
        "n": len(indices),
        "n_patients": len(patients) or None,
    }


def _slice_loss(rows: Rows) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return rows["loss"].astype(np.float64) / rows["weight"]
