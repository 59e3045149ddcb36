"""The section of all scores of a run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from covjax.metrics.registry import headlines
from covjax.report.page import Cell, Section, Table
from covjax.report.results import Results, kept_classes, split_title
from covjax.report.scores import CLASS_SCORES, STAGE_TITLES, class_words, score_label, score_meaning
from covjax.report.text import (
    chance_text,
    count_text,
    interval_methods,
    interval_note,
    interval_text,
    number,
    number_text,
    options_text,
    score_text,
)

COUNTS = ("tp", "fp", "fn", "tn")  # at a threshold
RATES = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "f1": "F1",
    "mcc": "MCC",
}
Scored = Mapping[str, Any]  # a stage's section of summary.json


def scores(results: Results) -> Section | None:
    """Returns the scores of all stages, those of the first split before those of the others."""
    if not results.scores:
        return None
    stages = [_stage(results, stage, splits) for stage, splits in results.scores.items()]
    return Section("Scores", template="scores.html", values={"stages": stages})


def _stage(results: Results, stage: str, splits: Mapping[str, Scored]) -> dict[str, Any]:
    front = headlines(stage)
    shown: dict[str, list[Table]] = {}
    further = []
    for split, scored in splits.items():
        rest = [name for name in scored["scores"] if name not in front]
        first = [name for name in front if name in scored["scores"]]
        about = _scored_on(scored, split)
        options = options_text(results.options[split])
        caption = f"{about}, with {options}" if options else about
        shown[split] = _score_tables(stage, scored, first, caption)
        shown[split] += _class_tables(scored, about) if stage == "segmenter" else []
        further += _score_tables(stage, scored, rest, caption)
    first, *others = splits
    return {
        "title": STAGE_TITLES[stage],
        "notes": calibration_notes(splits),
        "scored": splits[first],
        "tables": shown[first],
        "others": ", ".join(split_title(split) for split in others),
        "other_tables": [table for split in others for table in shown[split]],
        "further": further,
        "thresholds": _threshold_tables(splits[first]) if stage == "classifier" else [],
    }


def calibration_notes(splits: Mapping[str, Scored]) -> list[str]:
    """Returns what is to know of the calibration of the scored splits, each note once."""
    found = [scored.get("notes") or [] for scored in splits.values()]
    return list(dict.fromkeys(str(note) for notes in found for note in notes))


def _score_tables(stage: str, scored: Scored, names: Sequence[str], caption: str) -> list[Table]:
    if not names:
        return []
    found = scored["scores"]
    methods = interval_methods(found[name] for name in names)
    rows = [_score_row(stage, name, found[name], len(methods) > 1) for name in names]
    caption += f". Intervals: {methods[0]}" if len(methods) == 1 else ""
    return [Table(["Score", "Value", "Interval", "n"], rows, caption, kind="scores")]


def _score_row(stage: str, name: str, score: Mapping[str, Any], named: bool) -> list[Cell | str]:
    """Returns the cells of a score; `named` adds how its interval was made."""
    interval = interval_note(score)
    if interval_text(score):
        method = str(score.get("interval_method") or "")
        interval_cell = Cell(interval, [method] if named else [])
    else:
        interval_cell = Cell("", [interval])
    return [
        Cell(score_label(stage, name, score), [score_meaning(stage, name)]),
        Cell(score_text(score), [chance_text(score)], strong=True),
        interval_cell,
        count_text(score.get("n")),
    ]


def _class_tables(scored: Scored, about: str) -> list[Table]:
    """Returns the overlap of each class of infection; [] where none are kept apart."""
    rows = [
        [
            class_words(name),
            *(_class_cell(scored["scores"].get(form.format(name)) or {})
              for form in CLASS_SCORES.values()),
        ]
        for name in kept_classes(scored)
    ]  # fmt: skip
    caption = f"Class by class. {about}. A mean over slices leaves out those without the class"
    return [Table(["Class", *CLASS_SCORES], rows, caption, kind="compared")] if rows else []


def _class_cell(score: Mapping[str, Any]) -> Cell:
    count = count_text(score.get("n"))
    notes = [interval_note(score), f"n = {count}" if count else ""]
    return Cell(score_text(score), ["; ".join(filter(None, notes))], strong=True)


def _scored_on(scored: Scored, split: str) -> str:
    facts = [f"{split_title(split).capitalize()} part"]
    if isinstance(scored.get("n"), int):
        kind = "infected " if scored.get("slices") == "infected" else ""
        facts.append(f"{scored['n']:,} {kind}slices")
    if isinstance(scored.get("n_patients"), int):
        facts.append(f"{scored['n_patients']:,} patient" + "s" * (scored["n_patients"] != 1))
    if not math.isnan(number(scored.get("threshold"))):
        rule = str(scored.get("threshold_rule") or "fixed")
        chosen = "" if rule == "fixed" else f" (chosen on the validation part: {rule})"
        facts.append(f"threshold {_threshold(scored)}{chosen}")
    temperature = number(scored.get("temperature"))
    if scored.get("calibration") == "temperature" and not math.isnan(temperature):
        facts.append(f"temperature {temperature:.3f} (fitted on the validation part)")
    return ", ".join(facts)


def _threshold(row: Mapping[str, Any]) -> str:
    """Returns a threshold as a probability, as log-odds where that is rounded to 0 or 1."""
    text = number_text(row.get("threshold"))
    log_odds = row.get("threshold_log_odds")
    if log_odds == "inf":
        return "above all, none called"
    rounded = text in ("0.000", "1.000") and not math.isnan(number(log_odds))
    return f"{text} (log-odds {log_odds:.3f})" if rounded else text


def _threshold_tables(scored: Scored) -> list[Table]:
    """Returns what the classifier would score at other thresholds; [] where not recorded."""
    recorded = scored.get("thresholds") or []
    rows = [
        [
            _threshold(row),
            *(number_text(row.get(name), "{:,.0f}") for name in COUNTS),
            *(number_text(row.get(name)) for name in RATES),
        ]
        for row in recorded
    ]
    head = ["Threshold", *map(str.upper, COUNTS), *RATES.values()]
    intro = "To look at, not to choose from: a threshold chosen on these slices flatters them."
    summary = "Scores at other thresholds"
    return [Table(head, rows, kind="compared", summary=summary, intro=intro)] if rows else []
