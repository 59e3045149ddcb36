"""The figures of a whole run: how it was trained, and what it confuses."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from covjax.errors import InputError
from covjax.report.charts import curves
from covjax.report.page import Figures, Picture
from covjax.report.results import SPLIT_TITLES, Results, split_title
from covjax.report.scores import stage_title
from covjax.report.text import number
from covjax.scores import SCORES, WHILE_TRAINING, checkpoint_scores, find, words

Rows = Sequence[Mapping[str, Any]]  # of metrics.jsonl
LOSS = (
    "Loss on the training and validation split after each epoch, lower is better: a validation "
    "curve that rises while the training curve falls means overfitting"
)


def training(results: Results) -> Figures:
    """Returns the loss and the score that chooses the epoch, over the epochs of each stage."""
    figures = {}
    for stage, rows in results.history.items():
        best = (results.timing.get(stage) or {}).get("best_epoch")
        kept = f"; the dotted line marks epoch {best}, whose weights were kept" if best else ""
        found = [_curves(rows, stage, "loss", ("train", "val"), "loss", best, f"{LOSS}{kept}.")]
        for name, label, about in _validated(stage, rows):
            text = f"{label} on the validation split after each epoch{about}{kept}."
            found.append(_curves(rows, stage, name, ("val",), f"{label} (validation)", best, text))
        figures[stage_title(stage)] = [picture for picture in found if picture]
    return figures


def _validated(stage: str, rows: Rows) -> list[tuple[str, str, str]]:
    """Returns the scores that may choose the epoch: name in the rows, label, what to know of it.

    Of a stage whose scores are not registered these are all of its validation.
    """
    if stage not in SCORES:
        names = [key.removeprefix("val/") for key in rows[0] if key.startswith("val/")]
        return [(name, words(name), "") for name in names if name != "loss"]
    ending = WHILE_TRAINING.get(stage, "")
    about = ", at the network's size, which only chooses the epoch" if ending else ""
    return [
        (f"{name}{ending}", find(stage, name).label, f"{about}: higher is better")
        for name in checkpoint_scores(stage)
    ]


def _curves(
    rows: Rows,
    stage: str,
    quantity: str,
    splits: Sequence[str],
    ylabel: str,
    best: int | None,
    text: str,
) -> Picture | None:
    drawn = {}
    for split in splits:
        values = [number(row.get(f"{split}/{quantity}")) for row in rows]
        if not all(map(math.isnan, values)):
            drawn[SPLIT_TITLES[split]] = values
    if not drawn:
        return None
    epochs = [int(row["epoch"]) for row in rows]
    png = curves.learning_curves(epochs, drawn, ylabel, best)
    alt = f"{stage}: {quantity} over the epochs"
    return Picture(f"training_{stage}_{quantity}", png, "", text, alt, {"epoch": epochs, **drawn})


def confusion(results: Results) -> Figures:
    """Returns the confusion matrix of each stage."""
    pictures = []
    for stage, splits in results.scores.items():
        split, scored = next(iter(splits.items()))
        if scored.get("confusion") is not None:
            pictures.append(_confusion(results, stage, split, scored))
    return {"": pictures}


def _confusion(results: Results, stage: str, split: str, scored: Mapping[str, Any]) -> Picture:
    counts = [[number(count) for count in row] for row in scored["confusion"]]
    pixels = "dice_infected" in scored["scores"]
    first = "background" if pixels else "healthy"
    classes = [str(name) for name in scored.get("classes") or (first, "infected")]
    if [len(row) for row in counts] != [len(classes)] * len(classes):
        raise InputError(
            f"{results.file(split, 'summary.json')}: field '{stage}.confusion' must be "
            f"{len(classes)} by {len(classes)} counts, run the evaluation again"
        )
    unit = "pixels" if pixels else "slices"
    matrix = np.array(counts)
    return Picture(
        f"{stage}_{split}_confusion",
        curves.confusion(matrix, [name.replace("_", " ") for name in classes]),
        f"{stage_title(stage)}, {split_title(split)} split.",
        "Each row is a true class and adds up to 100%, with the number of "
        f"{unit} below: a perfect result has 100% on the diagonal.",
        f"{stage}: confusion matrix",
        {
            "true": np.repeat(classes, len(classes)),
            "predicted": classes * len(classes),
            unit: matrix.ravel(),
        },
    )
