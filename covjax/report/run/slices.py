"""The segmentation slice by slice: overlap, infected share, and examples."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from covjax.colours import COLOURS
from covjax.report.charts import curves
from covjax.report.charts import slices as charts
from covjax.report.page import Figures, Picture, Section
from covjax.report.reading import Columns, read_arrays, read_table
from covjax.report.results import Results, kept_classes, split_title
from covjax.report.scores import class_words
from covjax.report.text import score_text

EXAMPLES_PER_RANK = 4
RANKS = ("best", "median", "worst")
PICTURES = ("image", "truth", "predicted")
SHAPES = {"id": 1, "rank": 1, "dice": 1, "shape": 2, **dict.fromkeys(PICTURES, 3)}
ERRORS = {
    "missed (marked only)": charts.TRUTH,
    "invented (predicted only)": charts.PREDICTED,
    "correct": charts.BOTH,
}
Floats = NDArray[np.floating]


def slices(results: Results) -> Section | None:
    """Returns how well single slices are segmented."""
    figures = [Figures(_dice(results)), Figures(_shares(results))]
    shown = any(group.pictures for group in figures)
    return Section("Slice by slice", figures=figures) if shown else None


def _dice(results: Results) -> list[Picture]:
    for stage, prefix in (("segmenter", ""), ("framework", "framework_")):
        split, path = results.shown_file(stage, "per_image.csv")
        table = read_table(path, ["id"], [f"{prefix}dice", f"{prefix}predicted_share"])
        if table is None or np.isnan(table[f"{prefix}dice"]).all():
            continue
        dice = table[f"{prefix}dice"]
        dice = dice[~np.isnan(dice)]
        undefined = int(np.isfinite(table[f"{prefix}predicted_share"]).sum()) - len(dice)
        left_out = f" Not counted: {undefined:,} with an undefined Dice." if undefined else ""
        text = (
            f"({stage}, {split_title(split)} part, n = {len(dice):,}). How many slices reach which "
            f"overlap with the truth: 1 is perfect, 0 is no overlap.{left_out}"
        )
        counts, edges = np.histogram(dice, bins=np.linspace(0, 1, 21))
        picture = Picture(
            f"{stage}_{split}_dice",
            curves.dice_histogram(dice, edges),
            "Dice of single slices",
            text,
            "Histogram of Dice per slice",
            {"from": edges[:-1], "to": edges[1:], "slices": counts},
        )
        return [picture]
    return []


def _shares(results: Results) -> list[Picture]:
    """Returns the infected share as predicted against as marked, and how far the two differ."""
    for stage, column, further in (
        ("framework", "framework_predicted_share", ["called"]),
        ("segmenter", "predicted_share", []),
    ):
        split, path = results.shown_file(stage, "per_image.csv")
        table = read_table(path, ["id"], ["true_share", column, *further])
        if table is None:
            continue
        known = np.isfinite(table["true_share"]) & np.isfinite(table[column])
        if known.any():
            table = {name: values[known] for name, values in table.items()}
            table["predicted_share"] = table[column]
            return [_share(stage, split, table), *_agreement(stage, split, table)]
    return []


def _share(stage: str, split: str, table: Columns) -> Picture:
    called = table["called"] == 1 if "called" in table else None
    healthy = "" if called is None else " Crosses are slices that the classifier called healthy."
    text = (
        f"({stage}, {split_title(split)} part). The part of the slice that is infected, as "
        "predicted against as marked: points above the line are too high, points below it too "
        f"low.{healthy}"
    )
    numbers = {name: table[name] for name in ("id", "true_share", "predicted_share")}
    if called is not None:
        numbers["called_infected"] = called.astype(int)
    return Picture(
        f"{stage}_{split}_share",
        curves.share_scatter(table["true_share"], table["predicted_share"], called),
        "Infected share",
        text,
        "Predicted against true infected share",
        numbers,
    )


def _agreement(stage: str, split: str, table: Columns) -> list[Picture]:
    true = table["true_share"]
    predicted = table["predicted_share"]
    # Slices without infection in both agree on nothing; thousands of them would narrow the limits
    # to nothing.
    chosen = (true > 0) | (predicted > 0)
    if chosen.sum() < 2:
        return []
    mean = (true + predicted)[chosen] / 2
    difference = (predicted - true)[chosen]
    bias, limits = limits_of_agreement(difference)
    empty = int((~chosen).sum())
    left_out = f" Not counted: {empty:,} without infection in both." if empty else ""
    name = "Bland-Altman plot of the infected share"
    text = (
        f"({stage}, {split_title(split)} part, n = {len(mean):,}). How far the predicted share is "
        "off, in percentage points, against how much there is: the bias is the mean difference, "
        "and between the limits of agreement lie about 95% of the slices, if the differences are "
        f"normally distributed.{left_out}"
    )
    numbers = {
        "id": table["id"][chosen],
        "mean": mean,
        "difference": difference,
        "bias": [bias] * len(mean),
        "lower_limit": [limits[0]] * len(mean),
        "upper_limit": [limits[1]] * len(mean),
    }
    png = curves.bland_altman(mean, difference, bias, limits)
    return [Picture(f"{stage}_{split}_agreement", png, name, text, name, numbers)]


def limits_of_agreement(difference: Floats) -> tuple[float, tuple[float, float]]:
    """Returns mean and 95 % limits of agreement of differences [N], N > 1.

    The limits are the mean -+ 1.96 standard deviations.

    Source: J. M. Bland, D. G. Altman, "Statistical methods for assessing agreement between two
    methods of clinical measurement", Lancet 327 (1986).
    """
    bias = float(difference.mean())
    spread = float(difference.std(ddof=1))
    return bias, (bias - 1.96 * spread, bias + 1.96 * spread)


def examples(results: Results) -> Section | None:
    """Returns slices of the best, the median and the worst Dice."""
    split, path = results.shown_file("segmenter", "examples.npz")
    arrays = read_arrays(path, SHAPES)
    if arrays is None or not len(arrays["id"]):
        return None
    classes = kept_classes(results.scores["segmenter"][split])
    figures = []
    for rank in RANKS:
        chosen = np.flatnonzero(arrays["rank"] == rank)[:EXAMPLES_PER_RANK]
        pictures = [
            _example(split, f"{rank}_{place}", _picked(arrays, i), bool(classes))
            for place, i in enumerate(chosen, start=1)
        ]
        if pictures:
            figures.append(Figures(pictures, rank.capitalize()))
    values = {
        "split": split_title(split),
        "classes": dict(zip(map(class_words, classes), COLOURS, strict=False)),
        "errors": ERRORS,
        "truth": charts.TRUTH,
        "predicted": charts.PREDICTED,
    }
    return Section(
        "Example slices", figures=figures, slices=True, template="examples.html", values=values
    )


def _picked(arrays: Columns, i: int) -> dict[str, Any]:
    """Returns slice i of examples.npz, its pictures cut to its own size."""
    rows, columns = arrays["shape"][i]
    return {
        name: values[i][:rows, :columns] if name in PICTURES else values[i]
        for name, values in arrays.items()
    }


def _example(split: str, place: str, one: dict[str, Any], classes: bool) -> Picture:
    draw = charts.class_slice if classes else charts.example_slice
    identity = str(one["id"])
    counts = charts.error_counts(one["truth"], one["predicted"])
    drawn = "its classes as marked and as predicted" if classes else "true and predicted outline"
    return Picture(
        f"segmenter_{split}_example_{place}",
        draw(one["image"], one["truth"], one["predicted"]),
        f"Dice {score_text({'value': float(one['dice'])})}",
        identity,
        f"Slice {identity}: as it is, with {drawn}, and with the errors",
        {
            "id": [identity],
            "rank": [str(one["rank"])],
            "dice": [float(one["dice"])],
            **{name: [count] for name, count in counts.items()},
        },
    )
