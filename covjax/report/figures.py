"""The sections of a report that are figures; each is empty if its files are absent."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from covjax.errors import InputError
from covjax.report import plots
from covjax.report.parts import HEADLINES, SPLIT_TITLES, STAGE_TITLES, Picture, Section, split_title
from covjax.report.results import RANKS, Results, number, primary, read_examples, read_table, score_text

MAIN_SCORE = {"classifier": "mcc", "segmenter": "dice_infected"}
EXAMPLES_PER_RANK = 4


def training(results: Results) -> Section:
    content: list[str | list[Picture]] = []
    for stage, rows in results.history.items():
        if stage not in MAIN_SCORE:
            continue
        score = MAIN_SCORE[stage]
        best = (results.timing.get(stage) or {}).get("best_epoch")
        keep = f"; the dotted line marks epoch {best}, whose weights were kept" if isinstance(best, int) else ""
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
        label = HEADLINES[stage][score][0]
        main = _curves(
            rows,
            stage,
            score,
            ("val",),
            f"{label} (validation)",
            best,
            f"{label} on the validation part after each epoch, higher is better{keep}.",
        )
        pictures = [picture for picture in (loss, main) if picture]
        if pictures:
            content += [f"<h3>{STAGE_TITLES[stage]}</h3>", pictures]
    return Section("Training", content)


def _curves(
    rows: Sequence[Mapping[str, Any]],
    stage: str,
    quantity: str,
    parts: Sequence[str],
    ylabel: str,
    best: Any,
    caption: str,
) -> Picture | None:
    curves = {f"{SPLIT_TITLES[part]}": [number(row.get(f"{part}/{quantity}")) for row in rows] for part in parts}
    curves = {name: values for name, values in curves.items() if not all(map(math.isnan, values))}
    if not curves:
        return None
    png = plots.learning_curves(
        [int(row["epoch"]) for row in rows], curves, ylabel, best if isinstance(best, int) else None
    )
    return Picture(f"training_{stage}_{quantity}", png, escape(caption), f"{stage}: {quantity} over the epochs")


def confusion(results: Results) -> Section:
    pictures = []
    for stage, splits in results.scores.items():
        split = primary(results, stage)
        scored = splits[split]
        if scored.get("confusion") is None:
            continue
        matrix = np.array([[number(count) for count in row] for row in scored["confusion"]], dtype=object)
        classes = scored.get("classes") or ["healthy" if stage == "classifier" else "background", "infected"]
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
        png = plots.confusion(matrix.astype(float), [str(name) for name in classes])
        pictures.append(Picture(f"{stage}_{split}_confusion", png, caption, f"{stage}: confusion matrix"))
    return Section("Confusion matrix", [pictures])


def classifier_curves(results: Results) -> Section:
    split = primary(results, "classifier")
    if split is None:
        return Section("ROC and precision-recall curves", [])
    scored = results.scores["classifier"][split]
    pictures = [picture for picture in (_roc(scored, split), _precision_recall(scored, split)) if picture]
    return Section("ROC and precision-recall curves", [pictures])


def _curve(scored: Mapping[str, Any], name: str, x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the points of a curve with x ascending, without points that are undefined."""
    curve = (scored.get("curves") or {}).get(name) or {}
    points = np.array([[number(value) for value in curve.get(key) or ()] for key in (x, y)], float)
    points = points[:, np.isfinite(points).all(axis=0)]
    if points.shape[1] and points[0, 0] > points[0, -1]:
        points = points[:, ::-1]
    return points[0], points[1]


def _rates(scored: Mapping[str, Any]) -> dict[str, float]:
    """Returns the rates at the threshold in use, NaN where their denominator is 0 or nothing is recorded."""
    confusion = scored.get("confusion")
    if np.shape(confusion) != (2, 2):
        return dict.fromkeys(("false_positive", "recall", "precision", "prevalence"), math.nan)
    (tn, fp), (fn, tp) = confusion
    ratio = {
        "false_positive": (fp, tn + fp),
        "recall": (tp, fn + tp),
        "precision": (tp, fp + tp),
        "prevalence": (fn + tp, tn + fp + fn + tp),
    }
    return {name: above / below if below else math.nan for name, (above, below) in ratio.items()}


def _area(scored: Mapping[str, Any], name: str, drawn: float) -> float:
    """Returns the area as scored, so that figure and table agree, else the area under the points drawn."""
    score = number((scored["scores"].get(name) or {}).get("value"))
    return drawn if math.isnan(score) else score


def _roc(scored: Mapping[str, Any], split: str) -> Picture | None:
    x, y = _curve(scored, "roc", "false_positive_rate", "true_positive_rate")
    if len(x) < 2:
        return None
    rates = _rates(scored)
    area = _area(scored, "roc_auc", float(np.trapezoid(y, x)))
    png = plots.roc(x, y, area, (rates["false_positive"], rates["recall"]))
    caption = (
        "<strong>ROC curve.</strong> The share of infected slices found against the share of healthy slices "
        "wrongly called infected, for every threshold: the closer to the upper left corner, the better."
    )
    return Picture(f"classifier_{split}_roc", png, caption, "ROC curve of the classifier")


def _precision_recall(scored: Mapping[str, Any], split: str) -> Picture | None:
    recall, precision = _curve(scored, "precision_recall", "recall", "precision")
    if len(recall) < 2:
        return None
    rates = _rates(scored)
    # The step-wise area (average precision): straight lines between the points would flatter the classifier.
    area = _area(scored, "average_precision", float(np.sum(np.diff(recall, prepend=0.0) * precision)))
    png = plots.precision_recall(recall, precision, area, rates["prevalence"], (rates["recall"], rates["precision"]))
    caption = (
        "<strong>Precision-recall curve.</strong> The share of calls that are right against the share of "
        "infected slices found, for every threshold: the closer to the upper right corner, the better."
    )
    return Picture(f"classifier_{split}_precision_recall", png, caption, "Precision-recall curve of the classifier")


def slices(results: Results) -> Section:
    pictures = [picture for picture in (_dice(results), _share(results)) if picture]
    return Section("Slice by slice", [pictures])


def _image_table(results: Results, stage: str, numbers: Sequence[str]) -> tuple[str | None, dict | None]:
    split = primary(results, stage)
    return split, None if split is None else read_table(results.file(split, "per_image.csv"), (), numbers)


def _dice(results: Results) -> Picture | None:
    for stage, prefix in (("segmenter", ""), ("framework", "framework_")):
        split, table = _image_table(results, stage, [f"{prefix}dice", f"{prefix}predicted_share"])
        if table is None or np.isnan(table[f"{prefix}dice"]).all():
            continue
        dice = table[f"{prefix}dice"][~np.isnan(table[f"{prefix}dice"])]
        undefined = int(np.isfinite(table[f"{prefix}predicted_share"]).sum()) - len(dice)
        left_out = f" Not counted: {undefined:,} with an undefined Dice." if undefined else ""
        caption = (
            f"<strong>Dice of single slices</strong> ({stage}, {escape(split_title(split))} part, "
            f"n = {len(dice):,}). How many slices reach which overlap with the truth: 1 is perfect, "
            f"0 is no overlap.{left_out}"
        )
        return Picture(f"{stage}_{split}_dice", plots.dice_histogram(dice), caption, "Histogram of Dice per slice")
    return None


def _share(results: Results) -> Picture | None:
    for stage, column, columns in (
        ("framework", "framework_predicted_share", ["called"]),
        ("segmenter", "predicted_share", []),
    ):
        split, table = _image_table(results, stage, ["true_share", column, *columns])
        if table is None:
            continue
        known = np.isfinite(table["true_share"]) & np.isfinite(table[column])
        if not known.any():
            continue
        called = table["called"][known] == 1 if columns else None
        png = plots.share_scatter(table["true_share"][known], table[column][known], called)
        healthy = " Crosses are slices that the classifier called healthy." if columns else ""
        caption = (
            f"<strong>Infected share</strong> ({stage}, {escape(split_title(split))} part). The part of the "
            "slice that is infected, as predicted against as marked: points above the line are too high, "
            f"points below it too low.{healthy}"
        )
        return Picture(f"{stage}_{split}_share", png, caption, "Predicted against true infected share")
    return None


def examples(results: Results) -> Section:
    split = primary(results, "segmenter")
    slices = read_examples(results.file(split, "examples.npz")) if split else None
    if slices is None or not len(slices["id"]):
        return Section("Example slices", [])
    content: list[str | list[Picture]] = [
        f"<p>Slices of the {escape(split_title(split))} part with the outline of the infection: "
        f'<span class="key" style="color:{plots.TRUTH}"></span>true (solid) and '
        f'<span class="key" style="color:{plots.PREDICTED};border-top-style:dashed"></span>'
        "predicted (dashed). "
        "Where the two run together the prediction is right.</p>"
    ]
    for rank in RANKS:
        chosen = np.flatnonzero(slices["rank"] == rank)[:EXAMPLES_PER_RANK]
        pictures = []
        for place, index in enumerate(chosen, start=1):
            png = plots.example_slice(*(slices[name][index] for name in ("image", "truth", "predicted")))
            identity, dice = str(slices["id"][index]), score_text({"value": float(slices["dice"][index])})
            caption = f"<strong>Dice {dice}</strong><br>{escape(identity)}"
            pictures.append(
                Picture(
                    f"segmenter_{split}_example_{rank}_{place}",
                    png,
                    caption,
                    f"Slice {identity} with true and predicted outline",
                )
            )
        if pictures:
            content += [f"<h3>{rank.capitalize()}</h3>", pictures]
    return Section("Example slices", content)
