"""What the table of scores says of a stage on a split."""

import math
from collections.abc import Mapping
from typing import Any

from covjax.report.results import split_title
from covjax.report.text import number, number_text

Scored = Mapping[str, Any]  # a stage's section of summary.json


def calibration_notes(splits: Mapping[str, Scored]) -> list[str]:
    """Returns what is to know of the calibration of the scored splits, each note once."""
    found = [scored.get("notes") or [] for scored in splits.values()]
    return list(dict.fromkeys(str(note) for notes in found for note in notes))


def scored_on(scored: Scored, split: str) -> str:
    """Returns the slices that scores are of, and what was chosen before on validation data."""
    facts = [f"{split_title(split).capitalize()} split"]
    if "n" in scored:
        kind = "infected " if scored.get("slices") == "infected" else ""
        facts.append(f"{scored['n']:,} {kind}slices")
    if scored.get("n_patients") is not None:
        facts.append(f"{scored['n_patients']:,} patient" + "s" * (scored["n_patients"] != 1))
    if not math.isnan(number(scored.get("threshold"))):
        rule = str(scored.get("threshold_rule") or "fixed")
        chosen = "" if rule == "fixed" else f" (chosen on the validation split: {rule})"
        facts.append(f"threshold {threshold_text(scored)}{chosen}")
    if scored.get("calibration") == "temperature":
        temperature = number_text(scored.get("temperature"))
        facts.append(f"temperature {temperature} (fitted on the validation split)")
    return ", ".join(facts)


def threshold_text(row: Mapping[str, Any]) -> str:
    """Returns a threshold as a probability, as log-odds where that is rounded to 0 or 1."""
    text = number_text(row.get("threshold"))
    log_odds = row.get("threshold_log_odds")
    if log_odds == "inf":
        return "above all, none called"
    rounded = text in ("0.000", "1.000") and not math.isnan(number(log_odds))
    return f"{text} (log-odds {log_odds:.3f})" if rounded else text
