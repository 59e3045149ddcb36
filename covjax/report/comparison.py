"""The page and the text table that set several runs side by side."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covjax.files import encode_table
from covjax.metrics.registry import headlines
from covjax.report.charts import bars as charts
from covjax.report.compared import STORED, Group, Run, differing, groups, incomparable, read_runs
from covjax.report.page import Banner, Cell, Figures, Page, Picture, Section, Table, write_page
from covjax.report.results import split_title
from covjax.report.run.header import SYNTHETIC
from covjax.report.scores import STAGE_TITLES, STAGES, score_label, score_meaning
from covjax.report.text import (
    chance_text,
    count_text,
    interval_ends,
    interval_methods,
    interval_note,
    interval_text,
    number,
    p_text,
    score_text,
    signed_text,
    text_table,
    trainings_text,
)

# columns of comparison.csv between the two runs and the ends of the interval
PAIRED = ("stage", "score", "n", "value", "interval_method", "no_interval", "reason", "p_value",
          "p_holm", "test", "trainings", "shared_only")  # fmt: skip
SIZES = (
    "Masks are scored in each slice's own size: runs whose networks take other sizes can be "
    "compared."
)
TOGETHER = (
    "Runs that share their configuration but for the seed or the fold, together: the bar is their "
    "mean, the whisker goes from their lowest to their highest score, each dot is a run."
)


def build_comparison(
    workdirs: Sequence[Path],
    split: str,
    output: Path,
    paired: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Writes OUTPUT/index.html, all figures as PNG and CSV, and returns the page's path.

    The paired differences are in comparison.csv and comparison.json too.

    Args:
      workdirs: two runs or more, evaluated on `split`.
      split: train, val or test.
      output: the folder of the page.
      paired: differences to the first run over the slices that both were scored on; see
        `covjax.evaluation.paired.paired_differences`.

    Raises:
      InputError: a run has no results on the split or a damaged file; what `output` held before
        stays.
    """
    runs = read_runs(workdirs, split)
    synthetic = any(run.results.splits.get("source") == "phantom" for run in runs)
    banners = [Banner(what, text) for what, text in incomparable(runs, split)]
    sizes = {run.setting("segmenter.input.size") for run in runs if "segmenter" in run.sections}
    stages = [stage for stage in STAGES if any(stage in run.sections for run in runs)]
    page = Page(
        title=f"covjax: {len(runs)} runs compared",
        heading=f"{len(runs)} runs compared",
        version=str(runs[0].results.environment.get("covjax", "")),
        facts={"Runs": len(runs), "Part": split_title(split), "Differences to": runs[0].label},
        sections=[
            _overview(runs),
            *(_stage(runs, stage, split) for stage in stages),
            _paired(runs, paired),
        ],
        banners=[SYNTHETIC, *banners] if synthetic else banners,
        note=SIZES if len(sizes) > 1 else "",
    )
    return write_page(output, page, _paired_files(runs, split, paired))


def comparison_table(workdirs: Sequence[Path], split: str) -> str:
    """Returns the scores in front as plain text, a row per stage and score, a column per run."""
    runs = read_runs(workdirs, split)
    rows = [["stage", "score", *(run.label for run in runs)]]
    for stage in STAGES:
        for name in _names(runs, stage, front=True):
            texts = [_score_in_line(run.score(stage, name)) for run in runs]
            rows.append([stage, name, *texts])
    warnings = [f"warning: {what.lower()}: {text}" for what, text in incomparable(runs, split)]
    return "\n".join([text_table(rows), *warnings])


def _score_in_line(score: Mapping[str, Any]) -> str:
    if not score:
        return ""
    interval = interval_text(score)
    return f"{score_text(score)} ({interval})" if interval else score_text(score)


def _overview(runs: Sequence[Run]) -> Section:
    rows = []
    for run in runs:
        models = [
            f"{section['model']} ({stage})"
            for stage, section in run.sections.items()
            if section.get("model")
        ]
        first = next(iter(run.sections.values()))
        counts = [count_text(first.get("n")), count_text(first.get("n_patients"))]
        rows.append([run.label, ", ".join(models), *counts])
    tables = [Table(["Run", "Models", "Slices", "Patients"], rows, numbers=False)]
    varied = differing(runs, without=STORED)
    if varied:
        head = ["Setting", *(run.label for run in runs)]
        rows = [[name, *values] for name, values in varied.items()]
        caption = "Settings that are not the same in all runs"
        tables.append(Table(head, rows, caption, kind="compared", numbers=False))
    together = groups(runs)
    if len(together) < len(runs):
        rows = [[group.label, ", ".join(run.label for run in group.runs)] for group in together]
        caption = "Runs that share their configuration but for the seed or the fold"
        tables.append(Table(["Configuration", "Runs"], rows, caption, numbers=False))
    return Section("Runs", tables=tables)


def _stage(runs: Sequence[Run], stage: str, split: str) -> Section:
    runs = [run for run in runs if stage in run.sections]
    front = _names(runs, stage, front=True)
    rest = _names(runs, stage, front=False)
    tables = [_score_table(runs, stage, front)]
    if rest:
        tables.append(_score_table(runs, stage, rest, summary="Further scores"))
    figures = []
    if len(runs) > 1:
        pictures = [_run_bars(runs, stage, split, name) for name in front]
        figures.append(Figures(pictures, "Every run"))
    repeated = groups(runs)
    if len(repeated) < len(runs):
        pictures = [_group_bars(repeated, stage, split, name) for name in front]
        figures.append(Figures(pictures, "By configuration", TOGETHER))
    return Section(STAGE_TITLES[stage], tables=tables, figures=figures)


def _names(runs: Sequence[Run], stage: str, front: bool) -> list[str]:
    """Returns the scores that any of the runs has, those that pages show in front or all others."""
    scores = [run.sections[stage]["scores"] for run in runs if stage in run.sections]
    found = dict.fromkeys(name for of_run in scores for name in of_run)
    first = headlines(stage)
    if front:
        return [name for name in first if name in found]
    return [name for name in found if name not in first]


def _label(runs: Sequence[Run], stage: str, name: str) -> str:
    """Returns what a score is called; its unit is that of the first run that has it."""
    scores = [run.score(stage, name) for run in runs]
    return score_label(stage, name, next(filter(None, scores), None))


def _score_table(runs: Sequence[Run], stage: str, names: Sequence[str], summary: str = "") -> Table:
    rows = []
    for name in names:
        title = Cell(_label(runs, stage, name), [score_meaning(stage, name)])
        rows.append([title, *(_score_cell(run.score(stage, name)) for run in runs)])
    methods = interval_methods(run.score(stage, name) for run in runs for name in names)
    intro = f"Intervals: {'; '.join(methods)}" if methods else ""
    head = ["Score", *(run.label for run in runs)]
    return Table(head, rows, kind="compared", summary=summary, intro=intro)


def _score_cell(score: Mapping[str, Any]) -> Cell | str:
    notes = [chance_text(score), interval_note(score)]
    return Cell(score_text(score), notes, strong=True) if score else ""


def _run_bars(runs: Sequence[Run], stage: str, split: str, name: str) -> Picture:
    runs = [run for run in runs if run.score(stage, name)]
    scores = [run.score(stage, name) for run in runs]
    values = np.array([number(score.get("value")) for score in scores])
    low, high = np.array([interval_ends(score) for score in scores]).T
    labels = [run.label for run in runs]
    title = _label(runs, stage, name)
    whisker = " Whiskers are the intervals." if np.isfinite(low).any() else ""
    return Picture(
        f"{stage}_{split}_runs_{name}",
        charts.score_bars(labels, values, low, high, title),
        f"{title}:",
        f"{score_meaning(stage, name)}.{whisker}",
        f"{title} of every run",
        {"run": labels, "value": values, "low": low, "high": high},
    )


def _group_bars(found: Sequence[Group], stage: str, split: str, name: str) -> Picture:
    dots = []
    for group in found:
        values = np.array([number(run.score(stage, name).get("value")) for run in group.runs])
        dots.append(values[np.isfinite(values)])
    mean, low, high = (
        np.array([reduce(values) if len(values) else math.nan for values in dots])
        for reduce in (np.mean, np.min, np.max)
    )
    labels = [group.label for group in found]
    title = _label([run for group in found for run in group.runs], stage, name)
    return Picture(
        f"{stage}_{split}_groups_{name}",
        charts.score_bars(labels, mean, low, high, title, dots),
        f"{title}:",
        f"{score_meaning(stage, name)}.",
        f"{title}: min, mean and max",
        {
            "configuration": labels,
            "runs": [len(values) for values in dots],
            "min": low,
            "mean": mean,
            "max": high,
        },
    )


def _paired(runs: Sequence[Run], paired: Sequence[Mapping[str, Any]]) -> Section | None:
    if not paired:
        return None
    intro = (
        f"Each run minus {runs[0].label}; above 0 the run is better than the first. p is the share "
        "of exchanges of the two runs, patient by patient, that make a difference as large: of n "
        "patients at least 2 in 2ⁿ. Below it stands p adjusted by Holm for all tests of this "
        "table. Each run was trained once: that another training would differ as much, neither p "
        "nor the interval rules out."
    )
    rows = [_difference_row(runs[one["run"]].label, one) for one in paired]
    # Few columns, so that they fit a phone.
    return Section("Paired differences", intro, [Table(["Run", "Difference", "p"], rows)])


def _paired_files(
    runs: Sequence[Run], split: str, paired: Sequence[Mapping[str, Any]]
) -> dict[str, bytes]:
    """comparison.json and comparison.csv, the paired differences for other programs."""
    reference = runs[0].label
    found = [{**one, "run": runs[one["run"]].label} for one in paired]
    value = {"split": split, "reference": reference, "differences": found}
    rows = [
        [one["run"], reference, *(one.get(name, "") for name in PAIRED), *interval_ends(one)]
        for one in found
    ]
    return {
        "comparison.csv": encode_table(("run", "reference", *PAIRED, "low", "high"), rows),
        "comparison.json": json.dumps(value, indent=1, allow_nan=False).encode(),
    }


def _difference_row(label: str, one: Mapping[str, Any]) -> list[Cell]:
    what = f"{one['stage']}: {one['what']}, n = {one['n']:,}"
    what += " (slices that both were scored on)" if one.get("shared_only") else ""
    known = not math.isnan(number(one.get("value")))
    difference = signed_text(one["value"]) if known else score_text(one)
    method = str(one.get("interval_method") or "") if interval_text(one) else ""
    p = p_text(one.get("p_value"))
    notes = [f"Holm {p_text(one.get('p_holm'))}", trainings_text(one), str(one["test"])]
    return [
        Cell(label, [what]),
        Cell(difference, [interval_note(one), method], strong=known),
        Cell(p, ["; ".join(filter(None, notes))] if p else []),
    ]
