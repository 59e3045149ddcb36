"""The figures of a whole run: how it was trained, and what it confuses; each is empty if its files
are absent.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from covjax.errors import InputError
from covjax.report import plots
from covjax.report.parts import HEADLINES, SPLIT_TITLES, STAGE_TITLES, Picture, Section, split_title
from covjax.report.results import Results, number, primary

# those that a run has
MAIN_SCORES = {"classifier": ("mcc",), "segmenter": ("dice_infected", "mean_dice")}
# What is added to them in training, and said of them.
WHILE_TRAINING = {
    "classifier": ("", ""),
    "segmenter": ("_at_network_size", ", at the network's size, which only chooses the epoch"),
}


def training(results: Results) -> Section:
    content: list[str | list[Picture]] = []
    for stage, rows in results.history.items():
        if stage not in MAIN_SCORES:
            continue
        best = (results.timing.get(stage) or {}).get("best_epoch")
        keep = (
            f"; the dotted line marks epoch {best}, whose weights were kept"
            if isinstance(best, int)
            else ""
        )
        loss = _curves(
            rows,
            stage,
            "loss",
            ("train", "val"),
            "loss",
            best,
            "Loss on the training and validation part after each epoch, lower is better: a validation "
            f"curve that rises while the training curve falls means overfitting{keep}.",
        )
        pictures = [picture for picture in (loss, *_main(rows, stage, best, keep)) if picture]
        if pictures:
            content += [f"<h3>{STAGE_TITLES[stage]}</h3>", pictures]
    return Section("Training", content)


def _main(
    rows: Sequence[Mapping[str, Any]], stage: str, best: Any, keep: str
) -> list[Picture | None]:
    pictures = []
    for score in MAIN_SCORES[stage]:
        label = HEADLINES[stage][score][0]
        ending, said = WHILE_TRAINING[stage]
        caption = f"{label} on the validation part after each epoch{said}: higher is better{keep}."
        pictures.append(
            _curves(rows, stage, score + ending, ("val",), f"{label} (validation)", best, caption)
        )
    return pictures


def _curves(
    rows: Sequence[Mapping[str, Any]],
    stage: str,
    quantity: str,
    parts: Sequence[str],
    ylabel: str,
    best: Any,
    caption: str,
) -> Picture | None:
    curves = {
        f"{SPLIT_TITLES[part]}": [number(row.get(f"{part}/{quantity}")) for row in rows]
        for part in parts
    }
    curves = {name: values for name, values in curves.items() if not all(map(math.isnan, values))}
    if not curves:
        return None
    epochs = [int(row["epoch"]) for row in rows]
    png = plots.learning_curves(epochs, curves, ylabel, best if isinstance(best, int) else None)
    alt = f"{stage}: {quantity} over the epochs"
    return Picture(
        f"training_{stage}_{quantity}", png, escape(caption), alt, {"epoch": epochs, **curves}
    )


def confusion(results: Results) -> Section:
    pictures = []
    for stage, splits in results.scores.items():
        split = primary(results, stage)
        scored = splits[split]
        if scored.get("confusion") is None:
            continue
        matrix = np.array(
            [[number(count) for count in row] for row in scored["confusion"]], dtype=object
        )
        classes = scored.get("classes") or [
            "healthy" if stage == "classifier" else "background",
            "infected",
        ]
        if matrix.shape != (len(classes), len(classes)):
            raise InputError(
                f"{results.file(split, 'summary.json')}: field '{stage}.confusion' must be "
                f"{len(classes)} by {len(classes)} counts, run the evaluation again"
            )
        unit = "slices" if stage == "classifier" else "pixels"
        caption = (
            f"<strong>{STAGE_TITLES[stage]}, {escape(split_title(split))} part.</strong> Each row is a true "
            f"class and adds up to 100%, with the number of {unit} below: a perfect result has 100% on the "
            "diagonal."
        )
        classes = [str(name) for name in classes]
        png = plots.confusion(matrix.astype(float), [name.replace("_", " ") for name in classes])
        numbers = {
            "true": np.repeat(classes, len(classes)).tolist(),
            "predicted": classes * len(classes),
            unit: [number(count) for count in matrix.ravel()],
        }
        pictures.append(
            Picture(
                f"{stage}_{split}_confusion", png, caption, f"{stage}: confusion matrix", numbers
            )
        )
    return Section("Confusion matrix", [pictures])
