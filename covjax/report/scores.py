"""What stages, classes and scores are called on pages."""

from collections.abc import Iterable, Mapping
from typing import Any

from covjax.scores import find

STAGE_TITLES = {  # in the order of pages; those of other tasks follow
    "classifier": "Classifier",
    "segmenter": "Segmenter",
    "two_stages": "Two stages (classifier, then segmenter)",
}
STAGES = tuple(STAGE_TITLES)


def score_label(stage: str, name: str, score: Mapping[str, Any] | None = None) -> str:
    """Returns what a score is called in words, with its unit where `score` has one."""
    label = find(stage, name).label
    unit = (score or {}).get("unit")
    return f"{label} [{unit}]" if unit else label


def score_meaning(stage: str, name: str) -> str:
    """Returns how to read a score that pages show in front, '' for any other."""
    score = find(stage, name)
    return score.reading if score.headline else ""


def stage_title(stage: str) -> str:
    """Returns what a stage is called on pages."""
    return STAGE_TITLES.get(stage, class_words(stage))


def class_words(name: str) -> str:
    """Returns the name of a class in words."""
    return name.replace("_", " ").capitalize()


def pick(scores: Mapping[str, Any], names: Iterable[str]) -> list[Any]:
    """Returns the scores that are named."""
    return [scores[name] for name in names]
