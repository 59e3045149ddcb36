"""The segmentation slice by slice: overlap, infected share, and examples; each section is empty
without its files.
"""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from covjax.colours import COLOURS
from covjax.report import pictures, plots
from covjax.report.parts import Picture, Section, class_words, split_title
from covjax.report.results import (
    RANKS,
    Results,
    kept_classes,
    primary,
    read_arrays,
    read_table,
    score_text,
)

EXAMPLES_PER_RANK = 4
PICTURES = ("image", "truth", "predicted")
SHAPES = {"id": 1, "rank": 1, "dice": 1, "shape": 2, **dict.fromkeys(PICTURES, 3)}


def slices(results: Results) -> Section:
    dice = _dice(results)
    return Section("Slice by slice", [[dice] if dice else [], _shares(results)])


def _image_table(
    results: Results, stage: str, numbers: Sequence[str]
) -> tuple[str | None, dict | None]:
    split = primary(results, stage)
    return split, None if split is None else read_table(
        results.file(split, "per_image.csv"), ["id"], numbers
    )


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
        counts, edges = np.histogram(dice, bins=np.linspace(0, 1, 21))
        numbers = {"from": edges[:-1], "to": edges[1:], "slices": counts}
        png = plots.dice_histogram(dice, edges)
        return Picture(
            f"{stage}_{split}_dice", png, caption, "Histogram of Dice per slice", numbers
        )
    return None


def _shares(results: Results) -> list[Picture]:
    """Returns the infected share as predicted against as marked, and how far the two differ."""
    for stage, column, columns in (
        ("framework", "framework_predicted_share", ["called"]),
        ("segmenter", "predicted_share", []),
    ):
        split, table = _image_table(results, stage, ["true_share", column, *columns])
        if table is None:
            continue
        known = np.isfinite(table["true_share"]) & np.isfinite(table[column])
        if known.any():
            ids = [name for name, chosen in zip(table["id"], known, strict=True) if chosen]
            called = table["called"][known] == 1 if columns else None
            pair = (table["true_share"][known], table[column][known])
            return [_share(stage, split, ids, *pair, called), *_agreement(stage, split, ids, *pair)]
    return []


def _share(
    stage: str,
    split: str,
    ids: list[str],
    true: np.ndarray,
    predicted: np.ndarray,
    called: np.ndarray | None,
) -> Picture:
    png = plots.share_scatter(true, predicted, called)
    healthy = "" if called is None else " Crosses are slices that the classifier called healthy."
    caption = (
        f"<strong>Infected share</strong> ({stage}, {escape(split_title(split))} part). The part of the "
        "slice that is infected, as predicted against as marked: points above the line are too high, "
        f"points below it too low.{healthy}"
    )
    numbers = {"id": ids, "true_share": true, "predicted_share": predicted}
    numbers |= {} if called is None else {"called_infected": called.astype(int)}
    return Picture(
        f"{stage}_{split}_share", png, caption, "Predicted against true infected share", numbers
    )


def _agreement(
    stage: str, split: str, ids: list[str], true: np.ndarray, predicted: np.ndarray
) -> list[Picture]:
    # Slices without infection in both agree on nothing; thousands of them would narrow the limits
    # to nothing.
    chosen = (true > 0) | (predicted > 0)
    if chosen.sum() < 2:
        return []
    mean = (true + predicted)[chosen] / 2
    difference = (predicted - true)[chosen]
    bias, limits = limits_of_agreement(difference)
    png = plots.bland_altman(mean, difference, bias, limits)
    empty = int((~chosen).sum())
    left_out = f" Not counted: {empty:,} without infection in both." if empty else ""
    caption = (
        f"<strong>Bland-Altman plot of the infected share</strong> ({stage}, {escape(split_title(split))} part, "
        f"n = {len(mean):,}). How far the predicted share is off, in percentage points, against how much there is: the "
        "bias is the mean difference, and between the limits of agreement lie about 95% of the slices, if the "
        f"differences are normally distributed.{left_out}"
    )
    numbers = {
        "id": [name for name, one in zip(ids, chosen, strict=True) if one], "mean": mean, "difference": difference,
        "bias": [bias] * len(mean), "lower_limit": [limits[0]] * len(mean), "upper_limit": [limits[1]] * len(mean),
    }  # fmt: skip
    return [
        Picture(
            f"{stage}_{split}_agreement",
            png,
            caption,
            "Bland-Altman plot of the infected share",
            numbers,
        )
    ]


def limits_of_agreement(difference: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Returns mean and 95 % limits of agreement, mean -+ 1.96 standard deviations, of differences
    [N], N > 1.

    Source: J. M. Bland, D. G. Altman, "Statistical methods for assessing agreement between two
    methods of clinical measurement", Lancet 327 (1986).
    """
    bias = float(difference.mean())
    spread = float(difference.std(ddof=1))
    return bias, (bias - 1.96 * spread, bias + 1.96 * spread)


def examples(results: Results) -> Section:
    split = primary(results, "segmenter")
    arrays = read_arrays(results.file(split, "examples.npz"), SHAPES) if split else None
    if arrays is None or not len(arrays["id"]):
        return Section("Example slices", [])
    classes = kept_classes(results.scores["segmenter"][split])
    content: list[str | list[Picture]] = [_legend(split, classes)]
    for rank in RANKS:
        chosen = np.flatnonzero(arrays["rank"] == rank)[:EXAMPLES_PER_RANK]
        picked = [_picked(arrays, i) for i in chosen]
        shown = [_example(split, rank, k, one, classes) for k, one in enumerate(picked, start=1)]
        if shown:
            content += [f"<h3>{rank.capitalize()}</h3>", shown]
    return Section("Example slices", content, slices=True)


def _picked(arrays: Mapping[str, np.ndarray], i: int) -> dict[str, np.ndarray]:
    """Returns slice i of examples.npz, its pictures cut to its own size."""
    rows, columns = arrays["shape"][i]
    return {
        name: values[i][:rows, :columns] if name in PICTURES else values[i]
        for name, values in arrays.items()
    }


def _legend(split: str, classes: Sequence[str]) -> str:
    keys = (
        (pictures.TRUTH, "border-top-style:solid", "marked"),
        (pictures.PREDICTED, "border-top-style:dashed", "predicted"),
    )
    outlines = "".join(
        f'<li><span class="key" style="color:{c};{line}"></span>{name}</li>'
        for c, line, name in keys
    )
    fills = _patches(
        {
            "missed (marked only)": pictures.TRUTH,
            "invented (predicted only)": pictures.PREDICTED,
            "correct": pictures.BOTH,
        }
    )
    text = "in the middle the outlines of the infection"
    head = "Outlines"
    shown = outlines
    if classes:
        text = "then its classes as marked and as predicted"
        head = "Classes"
        shown = _patches(dict(zip(map(class_words, classes), COLOURS, strict=False)))
        fills += "<li>of infected or not, whatever the class</li>"
    return (
        f"<p>Slices of the {escape(split_title(split))} part by their Dice. On the left the slice, {text}, on the "
        "right the errors.</p>"
        f'<ul class="legend"><li>{head}:</li>{shown}</ul><ul class="legend"><li>Errors:</li>{fills}</ul>'
    )


def _patches(colours: Mapping[str, str]) -> str:
    return "".join(
        f'<li><span class="patch" style="background:{colour}"></span>{escape(name)}</li>'
        for name, colour in colours.items()
    )


def _example(split: str, rank: str, place: int, one: dict, classes: Sequence[str]) -> Picture:
    draw = pictures.class_slice if classes else pictures.example_slice
    png = draw(one["image"], one["truth"], one["predicted"])
    identity = str(one["id"])
    dice = score_text({"value": float(one["dice"])})
    counts = pictures.error_counts(one["truth"], one["predicted"])
    caption = f"<strong>Dice {dice}</strong><br>{escape(identity)}"
    numbers = {
        "id": [identity],
        "rank": [rank],
        "dice": [float(one["dice"])],
        **{k: [v] for k, v in counts.items()},
    }
    drawn = "its classes as marked and as predicted" if classes else "true and predicted outline"
    alt = f"Slice {identity}: as it is, with {drawn}, and with the errors"
    return Picture(f"segmenter_{split}_example_{rank}_{place}", png, caption, alt, numbers)
