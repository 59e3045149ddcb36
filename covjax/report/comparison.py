"""The page and the text table that set several runs side by side."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covjax.files import encode_json
from covjax.report.charts import bars as charts
from covjax.report.compared import (
    STORED,
    Group,
    Run,
    differing,
    groups,
    incomparable,
    read_runs,
    scores_of,
    stages_of,
)
from covjax.report.page import Figures, Picture, write_page
from covjax.report.scores import score_label, score_meaning
from covjax.report.text import (
    interval_ends,
    interval_text,
    number,
    score_text,
    text_table,
)
from covjax.scores import in_front
from covjax.tables import encode_table

# columns of comparison.csv between the two runs and the ends of the interval
PAIRED = (
    "stage",
    "score",
    "n",
    "value",
    "interval_method",
    "no_interval",
    "reason",
    "p_value",
    "p_holm",
    "test",
    "trainings",
    "shared_only",
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
    sizes = {run.setting("segmenter.input.size") for run in runs if "segmenter" in run.sections}
    together = groups(runs)
    figures = {}
    stages = []
    for stage in stages_of(runs):
        scored = [run for run in runs if stage in run.sections]
        front = _names(scored, stage, front=True)
        further = _names(scored, stage, front=False)
        labels = {name: _label(scored, stage, name) for name in [*front, *further]}
        figures[stage] = _figures(scored, stage, split, front)
        stages.append(
            {
                "name": stage,
                "runs": scored,
                "front": front,
                "further": further,
                "labels": labels,
            }
        )
    return write_page(
        output,
        "comparison.html",
        figures,
        {
            "split": split,
            "scores_of": scores_of,
            "runs": runs,
            "incomparable": incomparable(runs, split),
            "other_sizes": len(sizes) > 1,
            "varied": differing(runs, without=STORED),
            "groups": together if len(together) < len(runs) else [],
            "compared": stages,
            "paired": paired,
        },
        further=_paired_files(runs, split, paired),
    )


def comparison_table(workdirs: Sequence[Path], split: str) -> str:
    """Returns the scores in front as plain text, a row per stage and score, a column per run."""
    runs = read_runs(workdirs, split)
    rows = [["stage", "score", *(run.label for run in runs)]]
    for stage in stages_of(runs):
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


def _figures(runs: Sequence[Run], stage: str, split: str, names: Sequence[str]) -> Figures:
    figures = {}
    if len(runs) > 1:
        figures["Every run"] = [_run_bars(runs, stage, split, name) for name in names]
    repeated = groups(runs)
    if len(repeated) < len(runs):
        figures["By configuration"] = [_group_bars(repeated, stage, split, name) for name in names]
    return figures


def _names(runs: Sequence[Run], stage: str, front: bool) -> list[str]:
    """Returns the scores that any of the runs has, those that pages show in front or all others."""
    scores = [run.sections[stage]["scores"] for run in runs if stage in run.sections]
    found = dict.fromkeys(name for of_run in scores for name in of_run)
    first = in_front(stage, found)
    return first if front else [name for name in found if name not in first]


def _label(runs: Sequence[Run], stage: str, name: str) -> str:
    """Returns what a score is called; its unit is that of the first run that has it."""
    scores = [run.score(stage, name) for run in runs]
    return score_label(stage, name, next(filter(None, scores), None))


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
        f"{_meaning(stage, name)}{whisker}",
        f"{title} of every run",
        {"run": labels, "value": values, "low": low, "high": high},
    )


def _meaning(stage: str, name: str) -> str:
    meaning = score_meaning(stage, name)
    return f"{meaning}." if meaning else ""


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
        _meaning(stage, name),
        f"{title}: min, mean and max",
        {
            "configuration": labels,
            "runs": [len(values) for values in dots],
            "min": low,
            "mean": mean,
            "max": high,
        },
    )


def _paired_files(
    runs: Sequence[Run], split: str, paired: Sequence[Mapping[str, Any]]
) -> dict[str, bytes]:
    """Returns comparison.json and comparison.csv, the paired differences for other programs."""
    reference = runs[0].label
    found = [{**one, "run": runs[one["run"]].label} for one in paired]
    value = {"split": split, "reference": reference, "differences": found}
    rows = [
        [one["run"], reference, *(one.get(name, "") for name in PAIRED), *interval_ends(one)]
        for one in found
    ]
    return {
        "comparison.csv": encode_table(("run", "reference", *PAIRED, "low", "high"), rows),
        "comparison.json": encode_json(value),
    }
