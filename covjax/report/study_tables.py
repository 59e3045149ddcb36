"""A study as it is read from study.json, and its tables: text, Markdown and CSV."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covjax.errors import InputError
from covjax.report.reading import read_record
from covjax.report.scores import score_label
from covjax.report.shapes import StudyFile, StudyVariant
from covjax.report.text import (
    by_seed_text,
    interval_ends,
    interval_note,
    interval_text,
    number,
    p_text,
    score_text,
    signed_text,
    text_table,
    trainings_text,
)
from covjax.scores import STUDY
from covjax.tables import encode_table

AGAIN = "run train.py again with the same study"
STAGE = "segmenter"
Score = Mapping[str, Any]


@dataclass(frozen=True)
class Variant:
    """What a study found of a variant; `differences` to the reference are empty of itself."""

    name: str
    fields: Mapping[str, Any]
    planned: int  # runs
    runs: Sequence[Mapping[str, Any]]
    scores: Mapping[str, Score]
    differences: Mapping[str, Score]
    ms_per_slice: object

    @property
    def parameters(self) -> int | None:
        """The number of parameters, None before the first run."""
        return self.runs[0]["parameters"] if self.runs else None

    def fields_text(self) -> str:
        """Returns what tells the variant from the base of the study."""
        fields = [
            f"{name.removeprefix('segmenter.')}={value}" for name, value in self.fields.items()
        ]
        return ", ".join(fields) or "the study's base"

    def runs_text(self) -> str:
        """Returns how many runs ended with a result, and of how many if some did not."""
        done = len(self.runs)
        return f"{done} of {self.planned}" if done < self.planned else str(done)

    def sizes(self) -> list[str]:
        """Returns the number of parameters, the time of a slice and the number of runs."""
        return [
            "" if self.parameters is None else f"{self.parameters:,}",
            "" if math.isnan(number(self.ms_per_slice)) else f"{number(self.ms_per_slice):.1f}",
            self.runs_text(),
        ]


SIZES = ("Parameters", "ms per slice", "Runs")  # what `Variant.sizes` returns


@dataclass(frozen=True)
class Study:
    """What study.json holds."""

    name: str
    reference: str  # the variant that the others are compared with
    settings: Mapping[str, Any]
    failed: Mapping[str, str]  # run -> reason
    variants: Sequence[Variant]
    version: str

    @property
    def lacking(self) -> int:
        """How many runs ended without a result."""
        return sum(one.planned - len(one.runs) for one in self.variants)

    def differences(self, what: str) -> list[Score]:
        """Returns the difference of each variant to the reference in a score, {} for none."""
        return [one.differences.get(what, {}) for one in self.variants]

    def several_seeds(self, what: str) -> bool:
        """Returns whether differences are known seed by seed."""
        return any(len(one.get("by_seed", ())) > 1 for one in self.differences(what))


def read_study(folder: Path) -> Study:
    """Returns the study in a folder; raises InputError if it holds none or a damaged one."""
    found = read_record(folder / "study.json", StudyFile, AGAIN)
    if not found:
        raise InputError(
            f"{folder}: holds no study.json, run covjax study --config study:NAME first"
        )
    return Study(
        name=found["study"],
        reference=found["reference"],
        settings=found["settings"],
        failed=found["failed"],
        variants=[_variant(one) for one in found["variants"]],
        version=str(found.get("covjax", "")),
    )


def _variant(one: StudyVariant) -> Variant:
    return Variant(
        name=one["name"],
        fields=one["fields"],
        planned=one["planned"],
        runs=one["runs"],
        scores={what: one["scores"][what] for what in STUDY},
        differences=one.get("differences", {}),
        ms_per_slice=one.get("ms_per_slice"),
    )


def study_table(folder: Path) -> str:
    """Returns what a terminal shows of a study: the Dice per slice and what it rests on.

    Raises InputError as `covjax.report.build_study_page`.
    """
    study = read_study(Path(folder))
    what = STUDY[0]
    scores = [one.scores[what] for one in study.variants]
    found = study.differences(what)
    columns = [
        ["Variant", *(one.name for one in study.variants)],
        [score_label(STAGE, what), *(_short(score_text(one), one) for one in scores)],
        [
            f"Minus {study.reference}",
            *(_short(signed_text(d["value"]), d) if d else "" for d in found),
        ],
        ["p (Holm)", *(p_text(one.get("p_holm")) for one in found)],
        ["Runs", *(one.runs_text() for one in study.variants)],
    ]
    if study.several_seeds(what):
        columns.insert(3, ["By seed", *map(by_seed_text, found)])
    notes = [
        f"no interval: {one['no_interval']}" for one in [*scores, *found] if one.get("no_interval")
    ]
    notes += [f"p: {trainings_text(one)}" for one in found if one.get("trainings") == 1]
    return "\n".join([text_table(list(zip(*columns, strict=True))), *dict.fromkeys(notes)])


def _short(text: str, score: Score) -> str:
    interval = interval_text(score)
    return f"{text} ({interval})" if interval else text


def markdown(study: Study) -> bytes:
    """Returns the table of a study, with the differences of all scores, in Markdown."""
    head, *rows = _rows(study)
    lines = [head, ["---"] * len(head), *rows]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells).encode()


def _rows(study: Study) -> list[list[str]]:
    """Returns the table as text, its head first, with the differences of all scores."""
    columns = [["Variant", *(one.name for one in study.variants)]]
    for what in STUDY:
        scores = [one.scores[what] for one in study.variants]
        texts = [_with_interval(score_text(score), score) for score in scores]
        columns.append([score_label(STAGE, what), *texts])
        columns += _difference_columns(study, what)
    rows = [list(row) for row in zip(*columns, strict=True)]
    sizes = [SIZES, *(one.sizes() for one in study.variants)]
    return [[*row, *size] for row, size in zip(rows, sizes, strict=True)]


def _difference_columns(study: Study, what: str) -> list[list[str]]:
    found = study.differences(what)
    texts = [_with_interval(signed_text(one["value"]), one) if one else "" for one in found]
    columns = [[f"Minus {study.reference}", *texts]]
    if study.several_seeds(what):
        columns.append(["By seed", *map(by_seed_text, found)])
    columns.append(["p", *map(_p_of_trainings, found)])
    columns.append(["p (Holm)", *(p_text(one.get("p_holm")) for one in found)])
    return columns


def _p_of_trainings(difference: Score) -> str:
    p = p_text(difference.get("p_value"))
    once = difference.get("trainings") == 1
    return f"{p} ({trainings_text(difference)})" if p and once else p


def _with_interval(text: str, score: Score) -> str:
    note = interval_text(score) or interval_note(score, "no interval")
    return f"{text} ({note})" if note else text


def csv_table(study: Study) -> bytes:
    """Returns the table of a study as CSV, a column for every number."""
    rows = []
    for variant in study.variants:
        row: dict[str, Any] = {"variant": variant.name}
        for what in STUDY:
            row |= _csv_cells(what, variant.scores[what], variant.differences.get(what, {}))
        row["parameters"] = "" if variant.parameters is None else variant.parameters
        row["ms_per_slice"] = number(variant.ms_per_slice)
        row |= {"runs": len(variant.runs), "planned_runs": variant.planned}
        rows.append(row)
    return encode_table(list(rows[0]), [list(row.values()) for row in rows])


def _csv_cells(what: str, score: Score, difference: Score) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for name, found in ((what, score), (f"{what}_difference", difference)):
        low, high = interval_ends(found)
        cells |= {name: number(found.get("value")), f"{name}_low": low, f"{name}_high": high}
    for name in ("p_value", "p_holm", "trainings"):
        cells[f"{what}_{name}"] = number(difference.get(name))
    cells[f"{what}_no_interval"] = score.get("no_interval", "")
    return cells
