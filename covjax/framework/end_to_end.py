"""Scores of both stages together: a slice that stage 1 misses is lesion missed, a false alarm is lesion invented."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from covjax.config import write_json
from covjax.data.loader import SliceReader
from covjax.evaluation.results import shares, write_table
from covjax.metrics import per_image_dice, score, segmentation_scores, wilson
from covjax.stages import SEGMENTATION_CLASSES, Rows

Segment = Callable[[SliceReader], Rows]


def write_framework(
    folder: Path, part: str, threshold: float, screened: Rows, called: np.ndarray, reader: SliceReader, segment: Segment
) -> None:
    """Writes framework_PART.json, framework_PART.csv and framework_PART_patients.csv.

    Args:
      screened: rows of stage 1 over all slices of the part.
      called: bool [N], which slices stage 1 called infected; only those go through `segment` (stage 2).
      reader: all slices of the part, at stage 2's size.
    """
    confusion = gated_confusions(called, reader, segment)
    label, data, indices = screened["label"], reader.data, reader.indices
    true, predicted = shares(confusion)
    ids = [data.ids[i] for i in indices]
    patients = [data.patients[i] for i in indices]
    value = {
        "stage": "framework", "split": part, "threshold": threshold, "classes": list(SEGMENTATION_CLASSES),
        "n": len(indices), "n_patients": len(set(patients) - {""}) or None,
        "confusion": confusion.sum(0).tolist(),
        "scores": segmentation_scores(confusion, SEGMENTATION_CLASSES)
        | _screening_scores(label, called, true, predicted),
    }  # fmt: skip
    columns = {
        "id": ids, "patient": patients, "label": label, "probability_infected": screened["probability"],
        "called_infected": called.astype(int), "dice": per_image_dice(confusion), "true_share": true,
        "predicted_share": predicted,
    }  # fmt: skip
    write_table(folder / f"framework_{part}.csv", tuple(columns), list(zip(*columns.values(), strict=True)))
    write_table(folder / f"framework_{part}_patients.csv", *_patient_table(patients, label, called, confusion))
    write_json(folder / f"framework_{part}.json", value)


def gated_confusions(called: np.ndarray, reader: SliceReader, segment: Segment) -> np.ndarray:
    """Returns the confusion matrices [N, 2, 2] of all slices when only those called infected are segmented."""
    confusion = np.zeros((len(reader), 2, 2), np.int64)
    for i in np.flatnonzero(~called):
        mask = reader[i]["mask"]
        confusion[i, :, 0] = (mask == 0).sum(), (mask == 1).sum()
    if called.any():
        some = SliceReader(reader.data, reader.indices[called], reader.sizes, cache=False)
        confusion[called] = segment(some)["confusion"]
    return confusion


def _screening_scores(
    label: np.ndarray, called: np.ndarray, true: np.ndarray, predicted: np.ndarray
) -> dict[str, dict]:
    missed, infected = int((~called & (label == 1)).sum()), int((label == 1).sum())
    alarms, healthy = int((called & (label == 0)).sum()), int((label == 0).sum())
    error = float(np.abs(true - predicted).mean())
    return {
        "missed_infected_slices": _share(missed, infected, "no infected slice"),
        "false_alarm_slices": _share(alarms, healthy, "no healthy slice"),
        "share_mean_absolute_error": score(error, len(label)),
    }


def _share(count: int, n: int, reason: str) -> dict:
    return score(count / n, n, interval=wilson(count, n)) if n else score(None, 0, reason=reason)


def _patient_table(
    patients: list[str], label: np.ndarray, called: np.ndarray, confusion: np.ndarray
) -> tuple[tuple[str, ...], list[tuple]]:
    header = ("patient", "slices", "infected_slices", "called_infected", "true_share", "predicted_share", "dice")
    names = np.array(patients)
    lines = []
    for patient in sorted(set(patients)):
        chosen = names == patient
        total = confusion[chosen].sum(0, keepdims=True)
        true, predicted = shares(total)
        counts = (int(chosen.sum()), int(label[chosen].sum()), int(called[chosen].sum()))
        lines.append((patient, *counts, true[0], predicted[0], per_image_dice(total)[0]))
    return header, lines
