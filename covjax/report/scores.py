"""Which scores are shown where, and what they are called in words: one table."""

from collections.abc import Mapping
from typing import Any, NamedTuple

STAGES = ("classifier", "segmenter", "framework")
STAGE_TITLES = {
    "classifier": "Classifier",
    "segmenter": "Segmenter",
    "framework": "Framework (classifier, then segmenter)",
}


class Headline(NamedTuple):
    """A score that pages show first; every other one stands among the further scores.

    `short` puts it into the short text table of a run too, `curve` draws it over the epochs.
    """

    label: str
    meaning: str
    short: bool = False
    curve: bool = False


PER_SLICE = "mean over slices, each slice counts the same"
HEADLINES: Mapping[str, Mapping[str, Headline]] = {
    "classifier": {
        "accuracy": Headline("Accuracy", "share of slices called correctly", short=True),
        "sensitivity": Headline("Sensitivity", "share of infected slices called infected"),
        "specificity": Headline("Specificity", "share of healthy slices called healthy"),
        "roc_auc": Headline("ROC AUC", "0.5 is chance, 1 is perfect", short=True),
        "mcc": Headline(
            "MCC",
            "correlation of call and truth, 0 is chance, 1 is perfect",
            short=True,
            curve=True,
        ),
        "ece": Headline(
            "Calibration error",
            "mean gap between probability and share infected; lower is better",
        ),
    },
    "segmenter": {
        "dice_infected": Headline(
            "Dice, pooled",
            "overlap of the infected pixels of all slices together",
            short=True,
            curve=True,
        ),
        "dice_infected_per_image": Headline("Dice, per slice", PER_SLICE, short=True),
        "iou_infected": Headline(
            "IoU, pooled", "intersection over union of the infected pixels", short=True
        ),
        "mean_dice": Headline(
            "Dice, mean over classes",
            "overlap of the pixels of each class, pooled, averaged",
            curve=True,
        ),
        "bf_score_infected_per_image": Headline(
            "BF score, per slice", "agreement of the outlines, 1 is perfect"
        ),
        "hd95_infected_per_image": Headline(
            "HD95, per slice", "distance that 95% of the outlines keep within; lower is better"
        ),
    },
    "framework": {
        "dice_infected": Headline(
            "Dice, pooled", "overlap over all slices, healthy ones included", short=True
        ),
        "dice_infected_per_image": Headline("Dice, per slice", PER_SLICE),
        "missed_infected_slices": Headline(
            "Missed infected slices",
            "share of infected slices called healthy; lower is better",
            short=True,
        ),
        "false_alarm_slices": Headline(
            "False alarm slices", "share of healthy slices called infected; lower is better"
        ),
        "share_mean_absolute_error": Headline(
            "Infected share, mean absolute error",
            "as a part of the slice, 0 to 1; lower is better",
        ),
    },
}
# Of each class of infection, where a segmenter keeps several apart.
CLASS_SCORES = {
    "Dice, pooled": "dice_{}",
    "Dice, per slice": "dice_{}_per_image",
    "IoU, pooled": "iou_{}",
    "IoU, per slice": "iou_{}_per_image",
}
STUDY_SCORES = ("dice_infected_per_image", "dice_infected")  # the first also in the text table
PROTOCOL_SCORES = {
    "iou_infected": "IoU infected",
    "iou_background": "IoU background",
    "dice_infected": "Dice, pooled",
    "dice_infected_per_image": "Dice, per slice",
}
ABBREVIATIONS = {name.lower(): name for name in ("IoU", "F1", "BF", "HD95", "ASSD", "NSD")}


def score_label(stage: str, name: str, score: Mapping[str, Any] | None = None) -> str:
    """Returns what a score is called in words, with its unit where `score` has one."""
    headline = HEADLINES[stage].get(name)
    words = " ".join(ABBREVIATIONS.get(word, word) for word in name.split("_"))
    label = headline.label if headline else words[:1].upper() + words[1:]
    unit = (score or {}).get("unit")
    return f"{label} [{unit}]" if unit else label


def score_meaning(stage: str, name: str) -> str:
    """Returns how to read a headline score, '' for any other."""
    headline = HEADLINES[stage].get(name)
    return headline.meaning if headline else ""


def class_words(name: str) -> str:
    """Returns the name of a class in words."""
    return name.replace("_", " ").capitalize()
