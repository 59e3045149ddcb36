"""Scores and per-slice tables of one stage on one part of the data, written to results/."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from covjax.config import write_json
from covjax.data.loader import SliceReader, resize
from covjax.data.prepared import Prepared
from covjax.evaluation.predict import scores_of
from covjax.metrics import per_image_dice, per_image_iou, precision_recall_curve, roc_curve
from covjax.stages import CLASSIFICATION_CLASSES, SEGMENTATION_CLASSES, Rows, Stage


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Writes a CSV atomically; a NaN is an empty field."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(header)
        writer.writerows([[_field(v) for v in row] for row in rows])
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)


def write_classifier(folder: Path, part: str, stage: Stage, rows: Rows, data: Prepared, indices: np.ndarray) -> None:
    """Writes classifier_PART.json and .csv."""
    label, probability = rows["label"], rows["probability"]
    called = (probability >= stage.config.threshold).astype(int)
    confusion = np.zeros((2, 2), int)
    np.add.at(confusion, (label, called), 1)
    value = {
        **_heading(stage, part, CLASSIFICATION_CLASSES, data, indices),
        "threshold": stage.config.threshold,
        "confusion": confusion.tolist(),
        "scores": scores_of(stage, rows),
    }
    if len(set(label.tolist())) == 2:
        value["curves"] = {
            "roc": roc_curve(label, probability),
            "precision_recall": precision_recall_curve(label, probability),
        }
    header = ("id", "patient", "label", "probability_infected", "predicted", "loss")
    columns = (_names(data, indices), label, probability, called, _slice_loss(rows))
    write_table(folder / f"classifier_{part}.csv", header, _lines(*columns))
    write_json(folder / f"classifier_{part}.json", value)


def write_segmenter(folder: Path, part: str, stage: Stage, rows: Rows, data: Prepared, indices: np.ndarray) -> None:
    """Writes segmenter_PART.json and .csv."""
    confusion = rows["confusion"].astype(np.int64)
    value = {
        **_heading(stage, part, SEGMENTATION_CLASSES, data, indices),
        "slices": stage.config.slices,
        "confusion": confusion.sum(0).tolist(),
        "scores": scores_of(stage, rows),
    }
    true, predicted = shares(confusion)
    header = ("id", "patient", "label", "dice", "iou", "true_share", "predicted_share", "loss")
    columns = (data.labels[indices], per_image_dice(confusion), per_image_iou(confusion), true, predicted)
    lines = _lines(_names(data, indices), *columns, _slice_loss(rows))
    write_table(folder / f"segmenter_{part}.csv", header, lines)
    write_json(folder / f"segmenter_{part}.json", value)


def write_examples(path: Path, reader: SliceReader, predicted: np.ndarray, dice: np.ndarray, rank: np.ndarray) -> None:
    """Writes slices with their true and predicted masks for the report, as a plain npz without pickles."""
    size = reader.sizes.mask
    items = [reader[i] for i in range(len(reader))]
    arrays = {
        "id": np.array([reader.data.ids[i] for i in reader.indices]),
        "image": np.stack([resize(item["image"], size, Image.Resampling.BILINEAR) for item in items]),
        "truth": np.stack([item["mask"] for item in items]),
        "predicted": predicted.astype(np.uint8),
        "dice": dice,
        "rank": rank,
    }
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as out:
        np.savez_compressed(out, **arrays)
    partial.replace(path)


def shares(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the true and predicted infected share [N] of each slice from its confusion matrix [N, 2, 2]."""
    pixels = np.maximum(confusion.sum((1, 2)), 1)
    return confusion[:, 1].sum(1) / pixels, confusion[:, :, 1].sum(1) / pixels


def rank_examples(dice: np.ndarray, each: int = 4) -> dict[str, np.ndarray]:
    """Returns the positions of the best, median and worst slices by Dice, no slice twice; fewer when there are few."""
    order = np.flatnonzero(np.isfinite(dice))
    order = order[np.argsort(-dice[order], kind="stable")]
    each = min(each, len(order) // 3) if len(order) >= 3 else 0
    middle = (len(order) - each) // 2
    worst = order[len(order) - each :]
    return {"best": order[:each], "median": order[middle : middle + each], "worst": worst}


def _heading(stage: Stage, part: str, classes: tuple[str, ...], data: Prepared, indices: np.ndarray) -> dict[str, Any]:
    patients = {data.patients[i] for i in indices} - {""}
    return {
        "stage": stage.name, "split": part, "model": stage.config.model.name, "classes": list(classes),
        "n": len(indices), "n_patients": len(patients) or None,
    }  # fmt: skip


def _names(data: Prepared, indices: np.ndarray) -> list[tuple[str, str]]:
    return [(data.ids[i], data.patients[i]) for i in indices]


def _lines(names: list[tuple[str, str]], *columns: np.ndarray) -> list[tuple]:
    return [(*name, *values) for name, *values in zip(names, *columns, strict=True)]


def _slice_loss(rows: Rows) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return rows["loss"].astype(np.float64) / rows["weight"]


def _field(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return "" if not np.isfinite(value) else f"{value:.6g}"
    return value
