"""The parts that a report page is put together from: sections, pictures, tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

STAGE_TITLES = {
    "classifier": "Classifier",
    "segmenter": "Segmenter",
    "framework": "Framework (classifier, then segmenter)",
}
SPLIT_TITLES = {"train": "training", "val": "validation", "test": "test"}
# name: (label, how to read it), in the order of the table; every other score goes into the details.
HEADLINES = {
    "classifier": {
        "accuracy": ("Accuracy", "share of slices called correctly"),
        "sensitivity": ("Sensitivity", "share of infected slices called infected"),
        "specificity": ("Specificity", "share of healthy slices called healthy"),
        "roc_auc": ("ROC AUC", "0.5 is chance, 1 is perfect"),
        "mcc": ("MCC", "correlation of call and truth, 0 is chance, 1 is perfect"),
        "ece": (
            "Calibration error",
            "mean gap between probability and share infected; lower is better",
        ),
    },
    "segmenter": {
        "dice_infected": ("Dice, pooled", "overlap of the infected pixels of all slices together"),
        "dice_infected_per_image": (
            "Dice, per slice",
            "mean over slices, each slice counts the same",
        ),
        "iou_infected": ("IoU, pooled", "intersection over union of the infected pixels"),
        "mean_dice": (
            "Dice, mean over classes",
            "overlap of the pixels of each class, pooled, averaged",
        ),
        "bf_score_infected_per_image": (
            "BF score, per slice",
            "agreement of the outlines, 1 is perfect",
        ),
        "hd95_infected_per_image": (
            "HD95, per slice",
            "distance that 95% of the outlines keep within; lower is better",
        ),
    },
    "framework": {
        "dice_infected": ("Dice, pooled", "overlap over all slices, healthy ones included"),
        "dice_infected_per_image": (
            "Dice, per slice",
            "mean over slices, each slice counts the same",
        ),
        "missed_infected_slices": (
            "Missed infected slices",
            "share of infected slices called healthy; lower is better",
        ),
        "false_alarm_slices": (
            "False alarm slices",
            "share of healthy slices called infected; lower is better",
        ),
        "share_mean_absolute_error": (
            "Infected share, mean absolute error",
            "as a part of the slice, 0 to 1; lower is better",
        ),
    },
}


UNITLESS: Mapping[str, Any] = {}
ABBREVIATIONS = {name.lower(): name for name in ("IoU", "F1", "BF", "HD95", "ASSD", "NSD")}


@dataclass(frozen=True)
class Picture:
    """A figure of the page, its file NAME.png and its numbers, NAME.csv; `caption` is HTML, `alt`
    plain text.
    """

    name: str
    png: bytes
    caption: str
    alt: str
    numbers: Mapping[str, Sequence[Any]]  # columns of one length


@dataclass(frozen=True)
class Section:
    """A heading of the page and what is under it: HTML and groups of pictures, in reading order.

    `slices` says that the pictures are of slices, not charts.
    """

    title: str
    content: Sequence[str | list[Picture]]
    slices: bool = False


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    caption: str = "",
    kind: str = "",
    numbers: bool = True,
    foot: Sequence[str] = (),
) -> str:
    """Returns a table of HTML cells; the first column heads the rows, `numbers` aligns the others
    right.
    """
    align = ' class="number"' if numbers else ""

    def row(cells: Sequence[str]) -> str:
        return (
            f'<tr><th scope="row">{cells[0]}</th>'
            + "".join(f"<td{align}>{cell}</td>" for cell in cells[1:])
            + "</tr>"
        )

    title = f"<caption>{caption}</caption>" if caption else ""
    top = f'<th scope="col">{head[0]}</th>' + "".join(
        f'<th scope="col"{align}>{cell}</th>' for cell in head[1:]
    )
    bottom = f"<tfoot>{row(foot)}</tfoot>" if foot else ""
    body = "".join(row(cells) for cells in rows)
    return (
        f'<div class="scroll {kind}" tabindex="0"><table>{title}<thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody>{bottom}</table></div>"
    )


def details(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def class_words(name: str) -> str:
    """Returns the name of a class in words."""
    return name.replace("_", " ").capitalize()


def split_title(split: str) -> str:
    return SPLIT_TITLES.get(split, split)


def score_label(stage: str, name: str, score: Mapping[str, Any] = UNITLESS) -> tuple[str, str]:
    """Returns what a score is called in words, with the unit of one that has any, and how to read a
    headline score.
    """
    words = " ".join(ABBREVIATIONS.get(word, word) for word in name.split("_"))
    label, meaning = HEADLINES[stage].get(name, (words[:1].upper() + words[1:], ""))
    return (f"{label} [{score['unit']}]" if score.get("unit") else label), meaning
