"""The files of an evaluation: what results/SPLIT/ holds."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from covjax.data.prepared.dataset import Prepared
from covjax.evaluation.results import Evaluated
from covjax.files import encode_json, write_whole
from covjax.metrics import DEFINITIONS, per_image_dice
from covjax.stages.segmentation import shares
from covjax.tables import encode_table

PATIENT_COLUMNS = (
    "patient",
    "slices",
    "infected_slices",
    "called_infected",
    "marked_slices",
    "true_share",
    "scored_slices",
    "scored_true_share",
    "predicted_share",
    "dice",
)


def write_results(
    folder: Path, split: str, data: Prepared, indices: np.ndarray, stages: Mapping[str, Evaluated],
    arrays: Mapping[str, Mapping[str, np.ndarray]], options: Mapping[str, Any],
) -> None:  # fmt: skip
    """Writes the files of an evaluation into a folder.

    Args:
      folder: that becomes results/SPLIT.
      split: train, val or test.
      data: what the slices are of.
      indices: [N], all slices of the split, in the order of per_image.csv.
      stages: what each stage says, by its name in summary.json.
      arrays: name -> arrays of NAME.npz.
      options: the evaluation options in force, {} for none.

    Raises:
      InputError: a file cannot be written.
    """
    columns = per_image_columns(data, indices, stages)
    summary = {"definitions": DEFINITIONS, "split": split, "options": dict(options)}
    files = {
        "per_image.csv": encode_table(tuple(columns), list(zip(*columns.values(), strict=True))),
        "per_patient.csv": encode_table(*_patient_table(columns, data, indices, stages)),
        **{f"{name}.npz": _encode_arrays(content) for name, content in arrays.items()},
        "summary.json": encode_json(
            summary | {name: stage.section for name, stage in stages.items()}
        ),
    }
    for name, content in files.items():
        write_whole(folder / name, content)


def per_image_columns(
    data: Prepared, indices: np.ndarray, stages: Mapping[str, Evaluated]
) -> dict[str, np.ndarray]:
    """Returns the columns of per_image.csv, [N] each; NaN where a stage does not see the slice.

    "truth" is a digest of the mask's pixels (infected or not), by which runs that were scored on
    others are noticed.
    """
    columns = {
        "id": np.array([data.ids[i] for i in indices]),
        "patient": np.array([data.patients[i] for i in indices]),
        "label": data.labels[indices],
        "truth": np.array([data.truth[i] if data.has_mask[i] else "" for i in indices]),
        "true_share": true_shares(data, indices),
    }
    for stage in stages.values():
        rows = _rows_of(indices, stage.indices)
        for name, values in stage.columns.items():
            columns[name] = np.full(len(indices), np.nan)
            columns[name][rows] = values
    columns["notes"] = np.array(["; ".join(data.notes.get(i, ())) for i in indices.tolist()])
    return columns


def true_shares(data: Prepared, indices: np.ndarray) -> np.ndarray:
    """Returns the infected share of each slice's counted pixels; NaN where it has no mask."""
    counted = data.counted_pixels[indices]
    known = data.has_mask[indices] & (counted > 0)
    return np.where(known, data.infected_pixels[indices] / np.maximum(counted, 1), np.nan)


def _rows_of(indices: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Returns the positions in `indices` of `some` of them."""
    position = {index: row for row, index in enumerate(indices.tolist())}
    return np.array([position[index] for index in some.tolist()], int)


def _patient_table(
    columns: Mapping[str, np.ndarray],
    data: Prepared,
    indices: np.ndarray,
    stages: Mapping[str, Evaluated],
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Counts slices and adds up the pixels of each patient.

    "true_share" is of the "marked_slices", all with a mask; the three last of the "scored_slices":
    those of the last stage that says which pixels are infected.
    """
    confusion = np.zeros((len(indices), 2, 2), np.int64)
    scored = np.zeros(len(indices), bool)
    for stage in stages.values():
        if stage.confusion is not None:
            rows = _rows_of(indices, stage.indices)
            confusion[rows] = stage.confusion
            scored[rows] = True
    marked = data.has_mask[indices]
    infected = data.infected_pixels[indices]
    counted = data.counted_pixels[indices]
    called = columns.get("called", np.full(len(indices), np.nan))
    lines = []
    for patient in sorted(set(columns["patient"].tolist())):
        chosen = columns["patient"] == patient
        pixels = counted[chosen & marked].sum()
        total = confusion[chosen].sum(0, keepdims=True)
        found = [np.nan, np.nan, np.nan]
        if total.any():
            found = np.concatenate([*shares(total), per_image_dice(total)])
        lines.append(
            (
                patient,
                int(chosen.sum()),
                int(columns["label"][chosen].sum()),
                called[chosen].sum(),
                int((chosen & marked).sum()),
                infected[chosen & marked].sum() / pixels if pixels else np.nan,
                int((chosen & scored).sum()),
                *found,
            )
        )
    return PATIENT_COLUMNS, lines


def _encode_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    out = io.BytesIO()
    values: dict[str, Any] = dict(arrays)
    np.savez_compressed(out, **values)
    return out.getvalue()
