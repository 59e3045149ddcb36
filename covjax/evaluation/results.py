"""What an evaluation says of one part of the data, and its files: results/PART/."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, logit

from covjax.data.loader import SliceReader
from covjax.data.prepared.dataset import Prepared
from covjax.evaluation.predict import scores_of
from covjax.files import encode_json, encode_table, write_together
from covjax.metrics import (
    DEFINITIONS,
    infected_or_not,
    per_image_dice,
    per_image_iou,
    precision_recall_curve,
    roc_curve,
    threshold_table,
)
from covjax.metrics.calls import THRESHOLDS
from covjax.metrics.registry import OUTLINES, find
from covjax.metrics.surface import THETA, TOLERANCE
from covjax.metrics.thresholds import threshold_to_json
from covjax.stages.stage import CLASSIFICATION_CLASSES, Rows, Stage

LESION_ROWS = ("lesions", "lesions_lost", "unseen")  # of a segmenter, see `delivered.lesion_rows`


class Evaluated(NamedTuple):
    """What one stage says of one part: its section of summary.json and its columns of
    per_image.csv.
    """

    section: dict[str, Any]
    columns: dict[str, np.ndarray]  # name -> values [N] of the slices that the stage saw
    indices: np.ndarray  # [N], which slices of the data these are
    # int64 [N, 2, 2] of pixels infected or not, None where none are segmented
    confusion: np.ndarray | None = None


def evaluate_classifier(stage: Stage, rows: Rows, data: Prepared, indices: np.ndarray) -> Evaluated:
    """Returns scores, curves and per-slice columns of stage 1."""
    label = rows["label"]
    log_odds = rows["log_odds"]
    called = rows["called"].astype(int)
    confusion = np.zeros((2, 2), int)
    threshold = stage.threshold
    np.add.at(confusion, (label, called), 1)
    shown = {float(logit(p)): {"threshold": p} for p in THRESHOLDS}
    if not np.isnan(threshold):
        shown[threshold] = threshold_to_json(threshold)
    section = {
        **heading(stage.config.model.name, CLASSIFICATION_CLASSES, data, indices),
        **threshold_to_json(threshold),
        "threshold_rule": stage.config.threshold_rule,
        "calibration": stage.config.calibration,
        "temperature": None
        if np.isnan(stage.calibration.temperature)
        else stage.calibration.temperature,
        **({"notes": list(stage.calibration.notes)} if stage.calibration.notes else {}),
        "confusion": confusion.tolist(),
        "scores": scores_of(stage, rows, patients_of(data, indices)),
        "thresholds": [
            row | shown[row["threshold"]] for row in threshold_table(label, log_odds, sorted(shown))
        ],
    }
    if len(set(label.tolist())) == 2:
        section["curves"] = {
            "roc": _of_probability(roc_curve(label, log_odds)),
            "precision_recall": _of_probability(precision_recall_curve(label, log_odds)),
        }
    columns = {
        "probability": rows["probability"], "log_odds": log_odds, "called": called,
        "classifier_loss": _slice_loss(rows),
    }  # fmt: skip
    return Evaluated(section, columns, indices)


def _of_probability(curve: dict[str, list]) -> dict[str, list]:
    """Returns a curve over log-odds with probabilities for thresholds."""
    return curve | {
        "threshold": [None if t is None else float(expit(t)) for t in curve["threshold"]]
    }


def evaluate_segmenter(stage: Stage, rows: Rows, data: Prepared, indices: np.ndarray) -> Evaluated:
    """Returns scores and per-slice columns of stage 2 over the slices it works on."""
    classes = stage.task.classes
    confusion = rows["confusion"].astype(np.int64)
    infection = infected_or_not(confusion)
    scores = scores_of(stage, rows, patients_of(data, indices))
    for name in scores:
        if find("segmenter", name).unit == "distance":
            scores[name]["unit"] = data.unit
    section = {
        **heading(stage.config.model.name, classes, data, indices),
        "slices": stage.config.slices,
        "confusion": confusion.sum(0).tolist(),
        "scored_at": "each slice's own size",
        "surface": {"unit": data.unit, "theta_diagonals": THETA, "nsd_tolerance": TOLERANCE},
        "lesions": _lesions(rows, stage),
        "scores": scores,
    }
    _, predicted = shares(infection)
    columns = {
        "dice": per_image_dice(infection), "iou": per_image_iou(infection),
        **{in_unit(name, data.unit): rows[name][:, 1] for name in OUTLINES},
        "predicted_share": predicted, **{name: rows[name] for name in LESION_ROWS},
        "segmenter_loss": _slice_loss(rows),
    }  # fmt: skip
    if len(classes) > 2:
        columns |= _class_columns(confusion, classes)
    return Evaluated(section, columns, indices, infection)


def in_unit(name: str, unit: str) -> str:
    """Returns the column of an outline's score, a distance with its unit: mm or pixels."""
    score = find("segmenter", f"{name}_infected_per_image")
    return f"{name}_{unit}" if score.unit == "distance" else name


def _lesions(rows: Rows, stage: Stage) -> dict[str, Any]:
    """Says how many lesions vanish at the network's size, which no network can find there."""
    lesions = rows["lesions"]
    lost = rows["lesions_lost"]
    return {
        "definition": "pixels marked infected that touch by a side or a corner; vanished: none of them is left when "
        "the truth is sampled at the network's size",
        "network_size": list(stage.config.input.size),
        "n": int(lesions.sum()), "vanished": int(lost.sum()), "slices": int((lesions > 0).sum()),
        "slices_vanished": int(((lesions > 0) & (lesions == lost)).sum()),
        "pixels_outside_view": int(rows["unseen"].sum()),
    }  # fmt: skip


def _class_columns(confusion: np.ndarray, classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Returns Dice and shares of every class but the background, from confusion matrices [N, K,
    K].
    """
    columns = {}
    for k, name in list(enumerate(classes))[1:]:
        true, predicted = shares(confusion, k)
        columns |= {
            f"dice_{name}": per_image_dice(confusion, k),
            f"true_share_{name}": true,
            f"predicted_share_{name}": predicted,
        }
    return columns


def patients_of(data: Prepared, indices: np.ndarray) -> list[str]:
    """Returns the patient of every slice, "" where unknown."""
    return [data.patients[i] for i in indices]


def heading(
    model: str | None, classes: tuple[str, ...], data: Prepared, indices: np.ndarray
) -> dict[str, Any]:
    """Returns the fields that every stage's section begins with."""
    patients = {data.patients[i] for i in indices} - {""}
    named = {"model": model} if model else {}
    return named | {
        "classes": list(classes),
        "n": len(indices),
        "n_patients": len(patients) or None,
    }


def write_part(
    folder: Path, part: str, data: Prepared, indices: np.ndarray, stages: Mapping[str, Evaluated],
    arrays: Mapping[str, Mapping[str, np.ndarray]], options: Mapping[str, Any],
) -> None:  # fmt: skip
    """Writes results/PART/ in place of what an earlier evaluation left there: all files together,
    summary.json last.

    Args:
      folder: results/PART.
      indices: [N], all slices of the part, in the order of per_image.csv.
      stages: what each stage says, by its name in summary.json.
      arrays: name -> arrays of NAME.npz.
      options: the evaluation options in force, {} for none.

    Raises:
      InputError: a file cannot be written; the former ones are then as they were.
    """
    columns = per_image_columns(data, indices, stages)
    summary = {"definitions": DEFINITIONS, "split": part, "options": dict(options)}
    files = {
        "per_image.csv": encode_table(tuple(columns), list(zip(*columns.values(), strict=True))),
        "per_patient.csv": encode_table(*_patient_table(columns, data, indices, stages)),
        **{f"{name}.npz": _encode_arrays(content) for name, content in arrays.items()},
        "summary.json": encode_json(
            summary | {name: stage.section for name, stage in stages.items()}
        ),
    }
    write_together({folder / name: content for name, content in files.items()})
    for old in folder.glob("*.npz"):
        # What only an earlier evaluation wrote would pass for this one's.
        if old.name not in files:
            old.unlink()


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
    """Returns the infected share of the pixels that count of each slice; NaN where it has no
    mask.
    """
    counted = data.counted_pixels[indices]
    known = data.has_mask[indices] & (counted > 0)
    return np.where(known, data.infected_pixels[indices] / np.maximum(counted, 1), np.nan)


def example_arrays(
    reader: SliceReader, predicted: Sequence[np.ndarray], dice: np.ndarray, rank: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns slices with their true and predicted masks for the report: the arrays of
    examples.npz.

    Slices may differ in size: pictures are filled up at the bottom and on the right to one "shape"
    [n, 2] each.
    """
    images, masks = zip(*(reader.data.decode(i) for i in reader.indices), strict=True)
    return {
        "id": np.array([reader.data.ids[i] for i in reader.indices]),
        "shape": np.array([image.shape for image in images]),
        "image": filled_up(images),
        "truth": filled_up(masks),
        "predicted": filled_up(predicted),
        "dice": dice,
        "rank": rank,
    }


def filled_up(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks pictures uint8 [H, W] of any sizes, zeros at the bottom and on the right: [n, largest
    H, largest W].
    """
    sides = np.max([picture.shape for picture in pictures], 0)
    out = np.zeros((len(pictures), *sides), np.uint8)
    for k, picture in enumerate(pictures):
        out[k, : picture.shape[0], : picture.shape[1]] = picture
    return out


def shares(confusion: np.ndarray, cls: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Returns the true and predicted share [N] of a class in each slice from its confusion matrix
    [N, K, K].
    """
    pixels = np.maximum(confusion.sum((1, 2)), 1)
    return confusion[:, cls].sum(1) / pixels, confusion[:, :, cls].sum(1) / pixels


def rank_examples(dice: np.ndarray, each: int = 4) -> dict[str, np.ndarray]:
    """Returns the positions of the best, median and worst slices by Dice, no slice twice; fewer
    when there are few.
    """
    order = np.flatnonzero(np.isfinite(dice))
    order = order[np.argsort(-dice[order], kind="stable")]
    each = min(each, len(order) // 3) if len(order) >= 3 else 0
    middle = (len(order) - each) // 2
    worst = order[len(order) - each :]
    return {"best": order[:each], "median": order[middle : middle + each], "worst": worst}


def _rows_of(indices: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Returns the positions in `indices` of `some` of them."""
    position = {index: row for row, index in enumerate(indices.tolist())}
    return np.array([position[index] for index in some.tolist()], int)


PATIENT_COLUMNS = ("patient", "slices", "infected_slices", "called_infected", "marked_slices", "true_share",
                   "scored_slices", "scored_true_share", "predicted_share", "dice")  # fmt: skip


def _patient_table(
    columns: Mapping[str, np.ndarray],
    data: Prepared,
    indices: np.ndarray,
    stages: Mapping[str, Evaluated],
) -> tuple[tuple[str, ...], list[tuple]]:
    """Counts slices and adds up the pixels of each patient.

    "true_share" is of the "marked_slices", all with a mask; the three last of the "scored_slices":
    those that both stages together were scored on, or the segmenter alone.
    """
    pixels = stages.get("framework", stages.get("segmenter"))
    confusion = np.zeros((len(indices), 2, 2), np.int64)
    scored = np.zeros(len(indices), bool)
    if pixels is not None:
        rows = _rows_of(indices, pixels.indices)
        confusion[rows] = pixels.confusion
        scored[rows] = True
    marked, sick, counted = (
        of_all[indices] for of_all in (data.has_mask, data.infected_pixels, data.counted_pixels)
    )
    lines = []
    for patient in sorted(set(columns["patient"].tolist())):
        chosen = columns["patient"] == patient
        called = columns["called"][chosen].sum() if "called" in columns else np.nan
        known = counted[chosen & marked].sum()
        share = sick[chosen & marked].sum() / known if known else np.nan
        total = confusion[chosen].sum(0, keepdims=True)
        found = (
            np.concatenate([*shares(total), per_image_dice(total)])
            if total.any()
            else np.full(3, np.nan)
        )
        counts = (
            int(chosen.sum()),
            int(columns["label"][chosen].sum()),
            called,
            int((chosen & marked).sum()),
        )
        lines.append((patient, *counts, share, int((chosen & scored).sum()), *found))
    return PATIENT_COLUMNS, lines


def _encode_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def _slice_loss(rows: Rows) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return rows["loss"].astype(np.float64) / rows["weight"]
