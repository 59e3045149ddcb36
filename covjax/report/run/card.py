"""The model card of a run (M. Mitchell et al., "Model Cards for Model Reporting", 1810.03993)."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from covjax.report.page import TEMPLATES
from covjax.report.reading import read_record
from covjax.report.results import SPLIT_RULES, Results
from covjax.report.run.scores import calibration_notes, scored_on
from covjax.report.shapes import Plugins, Start
from covjax.report.text import interval_text, score_text
from covjax.scores import in_front

NAME = "model_card.md"


def in_one_line(value: object) -> str:
    """Returns a value as a line of Markdown shows it, without a bar that ends a table's cell."""
    return re.sub(r"\s+", " ", str(value)).replace("|", "\\|")


MARKDOWN = TEMPLATES.overlay(finalize=in_one_line)


def model_card(results: Results) -> bytes:
    """Returns what a network was made from, what it scored and what it must not be used for.

    Markdown without paths, which may hold names. Raises InputError for a damaged file.
    """
    workdir = results.workdir
    starts = {stage: _start(workdir / f"init_{stage}.json") for stage in results.config}
    plugins = read_record(workdir / "plugins.json", Plugins)
    values = {
        "results": results,
        "split_rule": SPLIT_RULES.get(results.split_rule, results.split_rule),
        "starts": {stage: text for stage, text in starts.items() if text},
        "splits": list(_splits(results.splits)),
        "plugins": plugins.get("plugins", []),
        "scores": list(_scores(results)),
        "limits": list(_limits(results)),
    }
    return MARKDOWN.get_template("model_card.md").render(values).encode()


def _start(path: Path) -> str:
    """What published weights or what run a stage began with, "" for none."""
    record = read_record(path, Start)
    if not record:
        return ""
    digest = record.get("sha256") or record.get("digest", "unknown")
    return f"{record['network']}, {Path(record['file']).name}, digest {digest}"


def _splits(splits: Mapping[str, Any]) -> Iterable[list[object]]:
    """Rows of the table of splits: name, patients, slices, infected, digest of their files."""
    for split, counts in (splits.get("slices") or {}).items():
        patients = splits.get("patients", {}).get(split, [])
        origins = splits.get("origins", {}).get(split)
        digest = hashlib.sha256("\n".join(sorted(origins)).encode()).hexdigest() if origins else ""
        slices = counts["healthy"] + counts["infected"]
        yield [split, len(patients) or "unknown", slices, counts["infected"], digest[:32]]


def _scores(results: Results) -> Iterable[tuple[str, str, list[list[str]]]]:
    """(stage, what was scored, rows of score, value, interval) of every stage and split."""
    for stage, splits in results.scores.items():
        for split, scored in splits.items():
            shown = {name: scored["scores"][name] for name in in_front(stage, scored["scores"])}
            rows = [
                [name, score_text(score), interval_text(score)] for name, score in shown.items()
            ]
            checkpoint = scored.get("checkpoint")
            of = f", checkpoint {checkpoint}" if checkpoint else ""
            yield stage, scored_on(scored, split) + of, rows


def _limits(results: Results) -> Iterable[str]:
    """What whoever uses the network must know, of this run."""
    splits = results.splits
    patients = {name for names in (splits.get("patients") or {}).values() for name in names}
    if results.source == "phantom":
        yield "Trained and scored on synthetic slices: nothing follows for patients."
    elif patients:
        count = len(patients - {""})
        yield f"Data of {count:,} patients from one source; other scanners were not tried."
    else:
        yield "Patients are unknown: slices of one may be in several splits."
    if results.split_rule == "external":
        yield "Scored on another set than that of the training; what it learned from is not above."
    if results.split_rule == "given":
        yield "What said this, and what it learned from, is not known here."
    if results.split_rule == "slice":
        yield "Split by slice: neighbouring slices are in train and test, scores are optimistic."
    elif results.shared_patients():
        yield f"{len(results.shared_patients()):,} patients are in more than one split."
    for stage, scored in results.scores.items():
        if "test" not in scored:
            yield f"The {stage.replace('_', ' ')} was not scored on the test split."
        yield from calibration_notes(scored)
    for split, notes in (splits.get("notes") or {}).items():
        for note, count in notes.items():
            yield f"{count:,} slices of {split}: {note}."
