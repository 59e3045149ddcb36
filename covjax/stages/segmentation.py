"""The segmenter's task: which pixels of a slice are infected, by one class or several."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from covjax.metrics import (
    confusion_matrix,
    infected_or_not,
    infection_scores,
    own_slice_scores,
    per_image_dice,
    per_image_iou,
    surface_summary,
)
from covjax.metrics.own import ROW
from covjax.metrics.surface import THETA, TOLERANCE
from covjax.scores import OUTLINES, WHILE_TRAINING, checkpoint_scores, find
from covjax.stages.settings import SegmenterSettings, StageSettings
from covjax.stages.task import Batch, Rows, Scores, Task

if TYPE_CHECKING:
    from covjax.stages.stage import Stage

CLASSES = ("background", "infected")
LESION_ROWS = ("lesions", "lesions_lost", "unseen")  # see `covjax.evaluation.delivered`


def segmentation_task(classes: tuple[str, ...] = CLASSES) -> Task:
    """The task of telling classes of pixels apart, background first.

    With several classes of infection their mean selects the best checkpoint.
    """
    return Task(
        settings=SegmenterSettings,
        classes=classes,
        truth=_truth,
        rows=_rows,
        scores=partial(_scores, classes=classes),
        best=checkpoint_scores("segmenter")[len(classes) > 2],
        section=_section,
        columns=_columns,
        predicts_masks=True,
        needs_masks=True,
        keep=("surface", "lesions"),
        while_training=WHILE_TRAINING["segmenter"],
        selection=_selection,
    )


def _truth(batch: Batch) -> jax.Array:
    return batch["mask"].astype(jnp.int32)


def _rows(logits: jax.Array, truth: jax.Array) -> dict[str, jax.Array]:
    classes = logits.shape[-1]
    # Of a tie the first class, background above all.
    predicted = logits[..., 1] > logits[..., 0] if classes == 2 else logits.argmax(-1)
    return {"confusion": confusion_matrix(truth, predicted.astype(jnp.uint8), classes)}


def _scores(
    rows: Rows, _: float, patients: Sequence[str] | None, classes: tuple[str, ...]
) -> Scores:
    scores = infection_scores(rows["confusion"], classes, patients)
    if OUTLINES[0] in rows:
        outlines = {name: rows[name] for name in OUTLINES}
        scores |= surface_summary(outlines, CLASSES, patients)
    return scores | own_slice_scores(rows, patients)


def _selection(config: StageSettings) -> str:
    return _own(config).slices


def _own(config: StageSettings) -> SegmenterSettings:
    assert isinstance(config, SegmenterSettings)
    return config


def _section(stage: "Stage", rows: Rows, unit: str) -> dict[str, Any]:
    """Returns the confusion matrix, and how outlines and lesions were measured."""
    return {
        "slices": _own(stage.config).slices,
        **mask_section(rows, unit),
        "lesions": _lesions(rows, stage),
    }


def mask_section(rows: Rows, unit: str) -> dict[str, Any]:
    """Returns the confusion matrix, and how outlines were measured."""
    return {
        "confusion": rows["confusion"].astype(np.int64).sum(0).tolist(),
        "scored_at": "each slice's own size",
        "surface": {"unit": unit, "theta_diagonals": THETA, "nsd_tolerance": TOLERANCE},
    }


def _lesions(rows: Rows, stage: "Stage") -> dict[str, Any]:
    """Says how many lesions vanish at the network's size, which no network can find there."""
    lesions = rows["lesions"]
    lost = rows["lesions_lost"]
    return {
        "definition": "pixels marked infected that touch by a side or a corner; vanished: none of "
        "them is left when the truth is sampled at the network's size",
        "network_size": list(stage.config.input.size),
        "n": int(lesions.sum()),
        "vanished": int(lost.sum()),
        "slices": int((lesions > 0).sum()),
        "slices_vanished": int(((lesions > 0) & (lesions == lost)).sum()),
        "pixels_outside_view": int(rows["unseen"].sum()),
    }


def _columns(stage: "Stage", rows: Rows, unit: str) -> dict[str, np.ndarray]:
    return mask_columns(rows, stage.task.classes, unit)


def mask_columns(rows: Rows, classes: Sequence[str], unit: str) -> dict[str, np.ndarray]:
    """Returns Dice, IoU, outlines and shares of infection, then those of each class kept apart."""
    confusion = rows["confusion"].astype(np.int64)
    infection = infected_or_not(confusion)
    _, predicted = shares(infection)
    columns = {
        "dice": per_image_dice(infection),
        "iou": per_image_iou(infection),
        **{in_unit(name, unit): rows[name][:, 1] for name in OUTLINES},
        "predicted_share": predicted,
        **{name: rows[name] for name in LESION_ROWS if name in rows},
        **{name: values for name, values in rows.items() if name.startswith(ROW)},
    }
    kept = enumerate(classes) if len(classes) > 2 else ()
    for k, name in list(kept)[1:]:
        true, predicted = shares(confusion, k)
        columns[f"dice_{name}"] = per_image_dice(confusion, k)
        columns[f"true_share_{name}"] = true
        columns[f"predicted_share_{name}"] = predicted
    return columns


def in_unit(name: str, unit: str) -> str:
    """Returns the column of an outline's score, a distance with its unit: mm or pixels."""
    score = find("segmenter", f"{name}_infected_per_image")
    return f"{name}_{unit}" if score.unit == "distance" else name


def shares(confusion: np.ndarray, cls: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Returns the true and predicted share [N] of a class in each slice.

    `confusion` holds the pixels of each slice, [N, K, K].
    """
    pixels = np.maximum(confusion.sum((1, 2)), 1)
    return confusion[:, cls].sum(1) / pixels, confusion[:, :, cls].sum(1) / pixels
