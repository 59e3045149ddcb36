"""What stages return for the slices of a split, before any score is computed: rows.npz."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from covjax.data.prepared.dataset import Prepared
from covjax.stages.task import Rows


class StageOutput(NamedTuple):
    """What a stage returns for the slices that it works on."""

    indices: np.ndarray  # [n], which slices of the data
    rows: Rows


def outputs_to_arrays(
    outputs: Mapping[str, StageOutput], data: Prepared, indices: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the arrays of rows.npz, from which a split can be scored again."""
    arrays = {
        "id": np.array([data.ids[i] for i in indices]),
        "patient": np.array([data.patients[i] for i in indices]),
        "label": data.labels[indices],
        "notes": np.array(["; ".join(data.notes.get(i, ())) for i in indices.tolist()]),
        "has_mask": data.has_mask[indices],
        "infected_pixels": data.infected_pixels[indices],
        "counted_pixels": data.counted_pixels[indices],
        "truth": np.array([data.truth[i] for i in indices]),
        "unit": np.array(data.unit),
    }
    position = {index: place for place, index in enumerate(indices.tolist())}
    for name, (some, rows) in outputs.items():
        arrays[f"{name}/position"] = np.array([position[i] for i in some.tolist()], np.int64)
        arrays |= {f"{name}/{row}": values for row, values in rows.items()}
    return arrays


def outputs_from_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, StageOutput]:
    """Reads what `outputs_to_arrays` returned; slices are numbered by their place in "id"."""
    found: dict[str, Rows] = {}
    for key, values in arrays.items():
        stage, _, row = key.rpartition("/")
        if stage:
            found.setdefault(stage, {})[row] = values
    return {name: StageOutput(rows.pop("position"), rows) for name, rows in found.items()}


def joined_outputs(parts: Sequence[StageOutput]) -> StageOutput:
    """Joins what a stage returned for several sets of slices."""
    rows = {name: np.concatenate([part.rows[name] for part in parts]) for name in parts[0].rows}
    return StageOutput(np.concatenate([part.indices for part in parts]), rows)
