"""The names of all scores: in files, on pages, and which of them is shown where.

A new score of a stage is one row here and its value in what the stage's task returns. Of a stage
that has no table here, pages show all scores, called by their names.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

from covjax.errors import InputError, check_new_name, unknown

# Version of the definitions of all scores; it goes up whenever a score of the same predictions
# changes. 2: boundary and calibration scores added; intervals resample patients, DeLong in place of
# Hanley-McNeil. 3: ranks and losses from log-odds; t intervals over patients; overlap and outlines
# of the delivered mask, in each slice's own size, distances in mm where known.
DEFINITIONS = 3

Scale = Literal["share", "correlation", "amount", "difference"]
ABBREVIATIONS = {name.lower(): name for name in ("IoU", "F1", "BF", "HD95", "ASSD", "NSD")}


@dataclass(frozen=True)
class Score:
    """One score of a stage. Of a class it stands here as that of "infected", see `find`."""

    name: str  # in summary.json
    label: str  # on pages
    meaning: str = ""  # how to read it
    higher_is_better: bool = True
    unit: Literal["", "distance"] = ""  # a distance is in mm where the spacing is known, or pixels
    scale: Scale | None = "share"  # on which its interval is made; None: it has none
    headline: bool = False  # in the first table of a page; the others are its details
    in_terminal: bool = False
    selects_checkpoint: bool = False  # on validation data
    function: Callable[..., Any] | None = None  # of a plug-in's, see `register_score`

    @property
    def reading(self) -> str:
        """How to read the score, with its better end where that is the lower one."""
        return self.meaning if self.higher_is_better else f"{self.meaning}; lower is better"


def words(name: str) -> str:
    """Returns the name of a score in words, as a label."""
    text = " ".join(ABBREVIATIONS.get(word, word) for word in name.split("_"))
    return text[:1].upper() + text[1:]


def _plain(*names: str) -> tuple[Score, ...]:
    return tuple(Score(name, words(name)) for name in names)


OVERALL = ("global_accuracy", "mean_accuracy", "mean_iou", "weighted_iou")  # of all classes at once
OUTLINES = ("bf_score", "hd95", "assd", "nsd")  # what is measured of an outline, slice by slice
_OVERLAP = _plain(
    *OVERALL,
    "accuracy_infected",
    *(f"{name}_per_image" for name in (*OVERALL, "accuracy_infected", "iou_infected")),
)

# Section of summary.json -> its scores, in the order in which pages show those in front.
SCORES: dict[str, tuple[Score, ...]] = {
    "classifier": (
        Score(
            "accuracy", "Accuracy", "share of slices called correctly",
            headline=True, in_terminal=True,
        ),
        Score(
            "sensitivity", "Sensitivity", "share of infected slices called infected", headline=True
        ),
        Score(
            "specificity", "Specificity", "share of healthy slices called healthy", headline=True
        ),
        Score(
            "roc_auc", "ROC AUC", "0.5 is chance, 1 is perfect", headline=True, in_terminal=True
        ),
        Score(
            "mcc", "MCC", "correlation of call and truth, 0 is chance, 1 is perfect",
            scale="correlation", headline=True, in_terminal=True, selects_checkpoint=True,
        ),
        Score(
            "ece", "Calibration error", "mean gap between probability and share infected",
            higher_is_better=False, scale=None, headline=True,
        ),
        *_plain("precision", "f1", "balanced_accuracy", "average_precision"),
        Score("kappa", "Kappa", scale="correlation"),
        Score("brier", "Brier", higher_is_better=False),
        Score("log_loss", "Log loss", higher_is_better=False, scale="amount"),
    ),
    "segmenter": (
        Score(
            "dice_infected", "Dice, pooled",
            "overlap of the infected pixels of all slices together",
            headline=True, in_terminal=True, selects_checkpoint=True,
        ),
        Score(
            "dice_infected_per_image", "Dice, per slice",
            "mean over slices, each slice counts the same", headline=True, in_terminal=True,
        ),
        Score(
            "iou_infected", "IoU, pooled", "intersection over union of the infected pixels",
            headline=True, in_terminal=True,
        ),
        Score(
            "mean_dice", "Dice, mean over classes",
            "overlap of the pixels of each class, pooled, averaged",
            headline=True, selects_checkpoint=True,
        ),
        Score(
            "bf_score_infected_per_image", "BF score, per slice",
            "agreement of the outlines, 1 is perfect", headline=True,
        ),
        Score(
            "hd95_infected_per_image", "HD95, per slice",
            "distance that 95% of the outlines keep within",
            higher_is_better=False, unit="distance", scale="amount", headline=True,
        ),
        *_OVERLAP,
        *_plain("mean_dice_per_image", "mean_bf_score", "nsd_infected_per_image"),
        Score(
            "assd_infected_per_image", "ASSD infected per image",
            higher_is_better=False, unit="distance", scale="amount",
        ),
    ),
    "two_stages": (
        Score(
            "dice_infected", "Dice, pooled", "overlap over all slices, healthy ones included",
            headline=True, in_terminal=True,
        ),
        Score(
            "dice_infected_per_image", "Dice, per slice",
            "mean over slices, each slice counts the same", headline=True,
        ),
        Score(
            "missed_infected_slices", "Missed infected slices",
            "share of infected slices called healthy",
            higher_is_better=False, headline=True, in_terminal=True,
        ),
        Score(
            "false_alarm_slices", "False alarm slices", "share of healthy slices called infected",
            higher_is_better=False, headline=True,
        ),
        Score(
            "share_mean_absolute_error", "Infected share, mean absolute error",
            "as a part of the slice, 0 to 1",
            higher_is_better=False, scale="amount", headline=True,
        ),
        *_OVERLAP,
        *_plain("iou_infected"),
    ),
}  # fmt: skip

# Ending of the names of a stage's validation scores where these are not those of an evaluation.
WHILE_TRAINING = {"segmenter": "_at_network_size"}
STUDY = ("dice_infected_per_image", "dice_infected")  # of a study; the first is the one it ranks by
PROTOCOLS = {  # of the protocols' table, both classes side by side
    "iou_infected": "IoU infected",
    "iou_background": "IoU background",
    "dice_infected": "Dice, pooled",
    "dice_infected_per_image": "Dice, per slice",
}

# The column of per_image.csv that is filled where a stage was scored; of other stages their loss.
SCORED_COLUMN = {
    "classifier": "probability",
    "segmenter": "predicted_share",
    "two_stages": "two_stages_predicted_share",
}


def find(stage: str, name: str) -> Score:
    """Returns a score of a stage by its name in summary.json; one without a row is in words alone.

    A score of another class is that of "infected" under its own name, and none of those in front.
    """
    table = SCORES.get(stage, ())
    for score in table:
        if score.name == name:
            return score
    alike = [score for score in table if _of_another_class(score.name, name)]
    if not alike:
        return Score(name, words(name))
    like = max(alike, key=lambda score: len(score.name))
    return Score(name, words(name), "", like.higher_is_better, like.unit, like.scale)


def _of_another_class(pattern: str, name: str) -> bool:
    start, infected, end = pattern.partition("infected")
    return bool(infected) and bool(start) and name.startswith(start) and name.endswith(end)


def register_score(
    stage: Literal["classifier", "segmenter"],
    name: str,
    function: Callable[..., Any],
    *,
    label: str = "",
    meaning: str = "",
    higher_is_better: bool = True,
    scale: Scale = "amount",
    override: bool = False,
) -> None:
    """Adds a score, which evaluations then compute, store and show with its interval.

    Args:
      stage: whose it is.
      name: in summary.json: small letters, digits and _.
      function: of the segmenter (truth, predicted [H, W] of classes in the slice's own size,
        spacing in mm or None) -> a number, NaN where it is undefined; the score is its mean over
        slices. Of the classifier (labels [N] of 0 and 1, log-odds [N] of infection) -> a number,
        NaN where it is undefined.
      label, meaning: on pages; by default its name in words, and nothing.
      higher_is_better: which end is the better one.
      scale: on which its interval is made: "share" 0 to 1, "correlation" -1 to 1, "amount" from
        0 on, "difference" any number.
      override: replaces a score that was registered.

    Raises InputError for another stage, and a name that cannot be used or is taken.
    """
    if stage not in ("classifier", "segmenter"):
        raise unknown(f"score '{name}': stage", stage, ("classifier", "segmenter"))
    if name in [score.name for score in SCORES[stage] if score.function is None]:
        raise InputError(f"score '{name}': is there already, use another name")
    check_new_name(f"score '{name}'", name, [score.name for score in SCORES[stage]], override)
    if not callable(function):
        raise InputError(f"score '{name}': {function!r} is no function")
    others = [score for score in SCORES[stage] if score.name != name]
    score = Score(
        name, label or words(name), meaning, higher_is_better, scale=scale, headline=True,
        function=function,
    )  # fmt: skip
    SCORES[stage] = (*others, score)


def registered(stage: str) -> list[Score]:
    """Returns the scores of a stage that plug-ins added."""
    return [score for score in SCORES.get(stage, ()) if score.function is not None]


def in_front(stage: str, names: Collection[str]) -> list[str]:
    """Returns which of these scores of a stage pages show in front, in order.

    Of a stage that has no table here these are all.
    """
    if stage not in SCORES:
        return list(names)
    return [score.name for score in SCORES[stage] if score.headline and score.name in names]


def checkpoint_scores(stage: str) -> tuple[str, ...]:
    """Returns the scores that may select the best checkpoint: of two classes, and of several."""
    return tuple(score.name for score in SCORES.get(stage, ()) if score.selects_checkpoint)
