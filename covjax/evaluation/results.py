"""What a stage says of one split of the data: its scores, and its columns of the tables."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from covjax.data.prepared.dataset import Prepared
from covjax.metrics import infected_or_not
from covjax.scores import find
from covjax.stages.stage import Stage
from covjax.stages.task import Rows


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
    task = stage.task
    scores = task.scores(rows, stage.threshold, patients_of(data, indices))
    for name, score in scores.items():
        if find(stage.name, name).unit == "distance":
            score["unit"] = data.unit
    section = {
        **heading(stage.config.model.name, task.classes, data, indices),
        **task.section(stage, rows, data.unit),
        "scores": scores,
    }
    columns = task.columns(stage, rows, data.unit)
    columns[f"{stage.name}_loss"] = _slice_loss(rows)
    confusion = infected_or_not(rows["confusion"]) if task.predicts_masks else None
    return Evaluated(section, columns, indices, confusion)


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
