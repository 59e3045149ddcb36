"""The segmentation slice by slice: overlap, infected share, and examples."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from covjax.colours import COLOURS
from covjax.report.charts import curves
from covjax.report.charts import slices as charts
from covjax.report.page import Figures, Picture
from covjax.report.reading import Columns, read_arrays, read_table
from covjax.report.results import Results, kept_classes, split_title
from covjax.report.scores import class_words
from covjax.report.text import score_text

EXAMPLES_PER_RANK = 4
RANKS = ("best", "median", "worst")
PICTURES = ("image", "truth", "predicted")
SHAPES = {"id": 1, "rank": 1, "dice": 1, "shape": 2, **dict.fromkeys(PICTURES, 3)}
Floats = NDArray[np.floating]


def dice(results: Results) -> Figures:
    """Returns how the Dice of single slices spreads."""
    for stage, prefix in (("segmenter", ""), ("two_stages", "two_stages_")):
        split, _ = results.shown(stage)
        path = results.file(split, "per_image.csv")
        table = read_table(path, ["id"], [f"{prefix}dice", f"{prefix}predicted_share"])
        if table is not None and not np.isnan(table[f"{prefix}dice"]).all():
            scored = int(np.isfinite(table[f"{prefix}predicted_share"]).sum())
            return {"": [_dice(stage, split, table[f"{prefix}dice"], scored)]}
    return {}


def _scored_on(stage: str, split: str) -> str:
    return f"{stage.replace('_', ' ')}, {split_title(split)} split"


def _dice(stage: str, split: str, values: Floats, scored: int) -> Picture:
    values = values[~np.isnan(values)]
    undefined = scored - len(values)
    left_out = f" Not counted: {undefined:,} with an undefined Dice." if undefined else ""
    counts, edges = np.histogram(values, bins=np.linspace(0, 1, 21))
    return Picture(
        f"{stage}_{split}_dice",
        curves.dice_histogram(values, edges),
        "Dice of single slices",
        f"({_scored_on(stage, split)}, n = {len(values):,}). How many slices reach which "
        f"overlap with the truth: 1 is perfect, 0 is no overlap.{left_out}",
        "Histogram of Dice per slice",
        {"from": edges[:-1], "to": edges[1:], "slices": counts},
    )


def shares(results: Results) -> Figures:
    """Returns the infected share as predicted against as marked, and how far the two differ."""
    for stage, column, further in (
        ("two_stages", "two_stages_predicted_share", ["called"]),
        ("segmenter", "predicted_share", []),
    ):
        split, _ = results.shown(stage)
        path = results.file(split, "per_image.csv")
        table = read_table(path, ["id"], ["true_share", column, *further])
        if table is None:
            continue
        known = np.isfinite(table["true_share"]) & np.isfinite(table[column])
        if known.any():
            table = {name: values[known] for name, values in table.items()}
            table["predicted_share"] = table[column]
            return {"": [_share(stage, split, table), _agreement(stage, split, table)]}
    return {}


def _share(stage: str, split: str, table: Columns) -> Picture:
    called = table["called"] == 1 if "called" in table else None
    healthy = "" if called is None else " Crosses are slices that the classifier called healthy."
    numbers = {name: table[name] for name in ("id", "true_share", "predicted_share")}
    if called is not None:
        numbers["called_infected"] = called.astype(int)
    return Picture(
        f"{stage}_{split}_share",
        curves.share_scatter(table["true_share"], table["predicted_share"], called),
        "Infected share",
        f"({_scored_on(stage, split)}). The part of the slice that is infected, as "
        "predicted against as marked: points above the line are too high, points below it too "
        f"low.{healthy}",
        "Predicted against true infected share",
        numbers,
    )


def _agreement(stage: str, split: str, table: Columns) -> Picture | None:
    true = table["true_share"]
    predicted = table["predicted_share"]
    # Slices without infection in both agree on nothing; thousands of them would narrow the limits
    # to nothing.
    chosen = (true > 0) | (predicted > 0)
    if chosen.sum() < 2:
        return None
    mean = (true + predicted)[chosen] / 2
    difference = (predicted - true)[chosen]
    bias, limits = limits_of_agreement(difference)
    empty = int((~chosen).sum())
    left_out = f" Not counted: {empty:,} without infection in both." if empty else ""
    name = "Bland-Altman plot of the infected share"
    text = (
        f"({_scored_on(stage, split)}, n = {len(mean):,}). How far the predicted share is "
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
    return Picture(f"{stage}_{split}_agreement", png, name, text, name, numbers)


def limits_of_agreement(difference: Floats) -> tuple[float, tuple[float, float]]:
    """Returns mean and 95 % limits of agreement of differences [N], N > 1.

    The limits are the mean -+ 1.96 standard deviations.

    Source: J. M. Bland, D. G. Altman, "Statistical methods for assessing agreement between two
    methods of clinical measurement", Lancet 327 (1986).
    """
    bias = float(difference.mean())
    spread = float(difference.std(ddof=1))
    return bias, (bias - 1.96 * spread, bias + 1.96 * spread)


def class_colours(results: Results) -> dict[str, str]:
    """Returns the colours of the classes that the segmenter keeps apart, {} for none."""
    _, scored = results.shown("segmenter")
    return dict(zip(map(class_words, kept_classes(scored)), COLOURS, strict=False))


def examples(results: Results) -> Figures:
    """Returns slices of the best, the median and the worst Dice."""
    split, scored = results.shown("segmenter")
    arrays = read_arrays(results.file(split, "examples.npz"), SHAPES)
    figures: dict[str, list[Picture]] = {}
    if arrays is None:
        return figures
    for rank in RANKS:
        chosen = np.flatnonzero(arrays["rank"] == rank)[:EXAMPLES_PER_RANK]
        figures[rank.capitalize()] = [
            _example(split, f"{rank}_{place}", _picked(arrays, i), bool(kept_classes(scored)))
            for place, i in enumerate(chosen, start=1)
        ]
    return figures


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
