"""The sections of a report that are tables; each is empty if its files are absent."""

import json
import math
from collections.abc import Collection, Iterable, Mapping
from html import escape
from typing import Any

import numpy as np

from covjax.report.html import banner
from covjax.report.parts import (
    HEADLINES,
    STAGE_TITLES,
    Section,
    class_words,
    details,
    score_label,
    split_title,
    table,
)
from covjax.report.results import (
    SPLITS,
    STAGES,
    Results,
    interval_text,
    kept_classes,
    number,
    options_text,
    score_text,
)

TIMINGS = {
    "parameters": "Parameters",
    "epochs": "Epochs",
    "best_epoch": "Best epoch",
    "steps": "Steps",
    "train_seconds": "Training time [s]",
    "compile_seconds": "Compilation time [s]",
    "slices_per_second_train": "Training speed [slices/s]",
    "slices_per_second_eval": "Evaluation speed [slices/s]",
    "peak_memory_mb": "Peak memory [MB]",
}


def data(results: Results) -> Section:
    slices = results.splits.get("slices") or {}
    patients = results.splits.get("patients") or {}
    rows = []
    total = np.zeros(3, int)
    for split in reversed(SPLITS):
        if split not in slices:
            continue
        healthy = int(slices[split].get("healthy", 0))
        infected = int(slices[split].get("infected", 0))
        counts = np.array([healthy, infected, healthy + infected])
        rows.append([split_title(split), _number_of(patients.get(split)), *_counted(counts)])
        total += counts
    if not rows:
        return Section("Data", [])
    foot = [
        "all",
        _number_of({patient for part in patients.values() for patient in part}),
        *_counted(total),
    ]
    head = ["Part", "Patients", "Healthy", "Infected (share)", "All"]
    return Section(
        "Data", [table(head, rows, caption="Patients and slices of each part", foot=foot)]
    )


def _number_of(patients: Collection[str] | None) -> str:
    return f"{len(patients):,}" if patients else "unknown"


def _counted(counts: np.ndarray) -> list[str]:
    """Returns the cells of healthy, infected (with their share) and all slices."""
    healthy, infected, every = (f"{count:,}" for count in counts)
    return [healthy, f"{infected} ({counts[1] / counts[2]:.1%})" if counts[2] else infected, every]


def scores(results: Results) -> Section:
    if not results.scores:
        return Section("Scores", [])
    content = [
        "<p>Each score with the number of cases n that it rests on and its interval, or why it has none. Where "
        "patients are unknown, slices are taken as independent: such an interval is too narrow.</p>"
    ]
    for stage, splits in results.scores.items():
        first, *others = splits
        content += [banner("Calibration", escape(note)) for note in calibration_notes(splits)]
        content.append(
            f"<h3>{STAGE_TITLES[stage]}</h3>" + _score_table(results, stage, first, headline=True)
        )
        content.append(_class_table(results, stage, first))
        content.append(_vanished(results.scores[stage][first]))
        shown = (
            _score_table(results, stage, split, True) + _class_table(results, stage, split)
            for split in others
        )
        hidden = "".join(shown)
        if hidden:
            content.append(details("Scores on " + ", ".join(map(split_title, others)), hidden))
        rest = "".join(_score_table(results, stage, split, headline=False) for split in splits)
        if rest:
            content.append(details("Further scores", rest))
        if stage == "classifier":
            content.append(_threshold_table(results, first))
    return Section("Scores", content)


def calibration_notes(splits: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns what is to know of the calibration of the scored parts, each note once."""
    found = (scored.get("notes") for scored in splits.values())
    return list(
        dict.fromkeys(str(note) for notes in found if isinstance(notes, list) for note in notes)
    )


def _score_table(results: Results, stage: str, split: str, headline: bool) -> str:
    labels = HEADLINES[stage]
    scored = results.scores[stage][split]
    names = (
        [name for name in labels if name in scored["scores"]]
        if headline
        else [name for name in scored["scores"] if name not in labels]
    )
    if not names:
        return ""
    methods = interval_methods(scored["scores"][name] for name in names)
    rows = []
    for name in names:
        score = scored["scores"][name]
        label, meaning = score_label(stage, name, score)
        note = f"<small>{escape(meaning)}</small>" if meaning else ""
        n = f"{score['n']:,}" if isinstance(score.get("n"), int) else ""
        interval = interval_cell(score, named=len(methods) > 1)
        value = f"<strong>{escape(score_text(score))}</strong>{chance_note(score)}"
        rows.append([escape(label) + note, value, interval, n])
    options = options_text(results.options[split])
    caption = _scored_on(scored, split) + (f", with {options}" if options else "")
    caption += f". Intervals: {methods[0]}" if len(methods) == 1 else ""
    return table(["Score", "Value", "Interval", "n"], rows, caption=escape(caption), kind="scores")


def _class_table(results: Results, stage: str, split: str) -> str:
    """Returns the overlap of each class of infection; '' where the stage keeps none apart."""
    scored = results.scores[stage][split]
    classes = kept_classes(scored) if stage == "segmenter" else []
    if not classes:
        return ""
    columns = {"Dice, pooled": "dice_{}", "Dice, per slice": "dice_{}_per_image", "IoU, pooled": "iou_{}",
               "IoU, per slice": "iou_{}_per_image"}  # fmt: skip
    rows = [
        [
            escape(class_words(name)),
            *(
                _class_cell(scored["scores"].get(form.format(name)) or {})
                for form in columns.values()
            ),
        ]
        for name in classes
    ]
    caption = f"Class by class. {_scored_on(scored, split)}. A mean over slices leaves out those without the class"
    return table(["Class", *columns], rows, caption=escape(caption), kind="compared")


def _vanished(scored: Mapping[str, Any]) -> str:
    """Says how many lesions no network can find at its size, and where scores are taken; '' where
    not recorded.
    """
    lesions = scored.get("lesions")
    if not isinstance(lesions, dict):
        return ""
    count, lost, slices, empty, outside = (
        int(number(lesions.get(name, 0)))
        for name in ("n", "vanished", "slices", "slices_vanished", "pixels_outside_view")
    )
    size = "x".join(str(side) for side in lesions.get("network_size", ()))
    surface = scored.get("surface") or {}
    text = (
        f"Masks are scored in each slice's own size, as screening delivers them. At the network's {size} pixels "
        f"{lost:,} of {count:,} lesions vanish, and all of them in {empty:,} of {slices:,} slices with any: none of "
        "their pixels is left in the truth sampled there. A lesion is a set of marked pixels that touch by a side or a "
        f"corner. Outlines agree (NSD) within {surface.get('nsd_tolerance')} {surface.get('unit')}."
    )
    if outside:
        text += f" {outside:,} marked pixels lie outside of what the network sees of the slices: they count as missed."
    return f'<p class="soft">{escape(text)}</p>'


def _class_cell(score: Mapping[str, Any]) -> str:
    notes = [
        interval_cell(score, named=False),
        f"n = {score['n']:,}" if isinstance(score.get("n"), int) else "",
    ]
    note = "; ".join(filter(None, notes))
    return f"<strong>{escape(score_text(score))}</strong><small>{note}</small>"


def interval_methods(scores: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns how the intervals of scores were made, each way once."""
    return list(
        dict.fromkeys(
            str(s["interval_method"])
            for s in scores
            if interval_text(s) and s.get("interval_method")
        )
    )


def trainings_text(difference: Mapping[str, Any]) -> str:
    """Returns how many trainings each side of a difference rests on, '' where that is not
    recorded.
    """
    count = difference.get("trainings")
    return f"{count} training{'s' * (count != 1)} each" if isinstance(count, int) else ""


def chance_note(score: Mapping[str, Any]) -> str:
    """Returns what a score would be by chance alone as HTML; '' where that is not known."""
    mean = number(score.get("by_chance"))
    high = number(score.get("by_chance_high"))
    return (
        ""
        if math.isnan(mean + high)
        else f"<small>by chance alone {mean:.3f}, up to {high:.3f}</small>"
    )


def interval_cell(score: Mapping[str, Any], named: bool = True) -> str:
    """Returns the interval of a score as HTML, and if `named` how it was made; '' where it has
    none.
    """
    interval = interval_text(score).replace(" ", "&nbsp;")
    method = score.get("interval_method")
    if not interval and score.get("no_interval"):
        return f"<small>none: {escape(str(score['no_interval']))}</small>"
    return (
        f"{interval}<small>{escape(str(method))}</small>"
        if named and interval and method
        else interval
    )


def _scored_on(scored: Mapping[str, Any], split: str) -> str:
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
    if scored.get("calibration") == "temperature" and not math.isnan(
        number(scored.get("temperature"))
    ):
        facts.append(f"temperature {scored['temperature']:.3f} (fitted on the validation part)")
    return ", ".join(facts)


def _threshold(row: Mapping[str, Any]) -> str:
    """Returns a threshold as a probability, as log-odds where that is rounded to 0 or 1."""
    value = number(row.get("threshold"))
    log_odds = row.get("threshold_log_odds")
    if log_odds == "inf":
        return "above all, none called"
    rounded = f"{value:.3f}" in ("0.000", "1.000") and not math.isnan(number(log_odds))
    return f"{value:.3f} (log-odds {log_odds:.3f})" if rounded else f"{value:.3f}"


def _threshold_table(results: Results, split: str) -> str:
    """Returns what the classifier would score at other thresholds; '' where that is not
    recorded.
    """
    recorded = results.scores["classifier"][split].get("thresholds")
    if not isinstance(recorded, list) or not all(isinstance(row, dict) for row in recorded):
        return ""
    counts = ("tp", "fp", "fn", "tn")
    shares = ("sensitivity", "specificity", "precision", "f1", "mcc")
    rows = [
        [
            _threshold(row),
            *(value_cell(number(row.get(name)), "{:,.0f}") for name in counts),
            *(value_cell(number(row.get(name)), "{:.3f}") for name in shares),
        ]
        for row in recorded
    ]
    head = [
        "Threshold",
        *map(str.upper, counts),
        *(name.upper() if len(name) < 4 else name for name in shares),
    ]
    intro = '<p class="soft">To look at, not to choose from: a threshold chosen on these slices flatters them.</p>'
    return details("Scores at other thresholds", intro + table(head, rows, kind="compared"))


def value_cell(value: float, form: str) -> str:
    return "undefined" if math.isnan(value) else form.format(value)


def environment(results: Results) -> Section:
    content = []
    stages = [stage for stage in STAGES if isinstance(results.timing.get(stage), dict)]
    rows = [
        [label, *(_amount(results.timing[stage].get(name)) for stage in stages)]
        for name, label in TIMINGS.items()
        if any(name in results.timing[stage] for stage in stages)
    ]
    if rows:
        content.append(table(["Timing", *map(str.capitalize, stages)], rows))
    if results.environment:
        rows = [
            [escape(str(name).replace("_", " ")), escape(_plain(value))]
            for name, value in results.environment.items()
        ]
        content.append(table(["Environment", ""], rows, numbers=False))
    return Section("Timing and environment", content)


def _amount(value: Any) -> str:
    if math.isnan(number(value)):
        return "not measured"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def configuration(results: Results) -> Section:
    if not results.config:
        return Section("Configuration", [])
    text = escape(json.dumps(results.config, indent=2, ensure_ascii=False))
    return Section("Configuration", [details("Every setting of this run", f"<pre>{text}</pre>")])
