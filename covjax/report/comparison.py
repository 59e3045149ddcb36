"""The HTML page that sets several runs side by side: tables, bars, and how repetitions of a
configuration scatter.
"""

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from covjax.report import plots
from covjax.report.compared import Group, Run, differing, groups, incomparable, read_runs
from covjax.report.html import banner, write_page
from covjax.report.parts import (
    HEADLINES,
    STAGE_TITLES,
    Picture,
    Section,
    details,
    score_label,
    split_title,
    table,
)
from covjax.report.results import STAGES, interval_text, number, score_text
from covjax.report.tables import chance_note, interval_cell, interval_methods, trainings_text


def build_comparison(
    workdirs: Sequence[Path], part: str, output: Path, paired: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """Writes OUTPUT/index.html, every figure as PNG and its numbers as CSV, and returns the page's
    path.

    Args:
      workdirs: two runs or more, evaluated on `part`.
      paired: differences to the first run over the slices that both were scored on; see
        `covjax.evaluation.paired.paired_differences`.

    Raises:
      InputError: a run has no results on the part or a damaged file; what `output` held before stays.
    """
    runs = read_runs(workdirs, part)
    stages = [stage for stage in STAGES if any(stage in run.sections for run in runs)]
    sections = [
        _overview(runs),
        *(_stage(runs, stage, part) for stage in stages),
        _paired(runs, paired),
    ]
    version = str(runs[0].results.environment.get("covjax", ""))
    return write_page(
        output, f"covjax: {len(runs)} runs compared", _header(runs, part), sections, version
    )


def comparison_table(workdirs: Sequence[Path], part: str) -> str:
    """Returns the headline scores of runs as plain text, one row per stage and score, one column
    per run.
    """
    runs = read_runs(workdirs, part)
    rows = [("stage", "score", *(run.label for run in runs))]
    for stage in STAGES:
        for name in _names(runs, stage, headline=True):
            rows.append((stage, name, *(_text(run, stage, name) for run in runs)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    warnings = [f"warning: {what.lower()}: {text}" for what, text in incomparable(runs, part)]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], *warnings])


def _header(runs: Sequence[Run], part: str) -> str:
    banners = [banner(what, escape(text)) for what, text in incomparable(runs, part)]
    if any(run.results.splits.get("source") == "phantom" for run in runs):
        banners.insert(0, banner("Synthetic data", "these numbers say nothing about patients."))
    facts = {"Runs": len(runs), "Part": split_title(part), "Differences to": runs[0].label}
    listed = "".join(
        f"<dt>{name}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items()
    )
    return (
        f'<h1>{len(runs)} runs compared</h1><p class="soft">Research software, not a medical device.</p>'
        f"{''.join(banners)}<dl>{listed}</dl>{_any_size(runs)}"
    )


def _any_size(runs: Sequence[Run]) -> str:
    """Says so where segmenters take inputs of other sizes, which is no reason against comparing
    them.
    """
    sizes = {
        json.dumps(run.settings.get("segmenter.input.size"))
        for run in runs
        if "segmenter" in run.sections
    }
    text = "Masks are scored in each slice's own size: runs whose networks take other sizes can be compared."
    return f"<p>{text}</p>" if len(sizes) > 1 else ""


def _overview(runs: Sequence[Run]) -> Section:
    rows = []
    for run in runs:
        models = [
            f"{section['model']} ({stage})"
            for stage, section in run.sections.items()
            if section.get("model")
        ]
        sizes = next(iter(run.sections.values()))
        counts = (
            f"{sizes[field]:,}" if isinstance(sizes.get(field), int) else ""
            for field in ("n", "n_patients")
        )
        rows.append([escape(run.label), escape(", ".join(models)), *counts])
    content = [table(["Run", "Models", "Slices", "Patients"], rows, numbers=False)]
    varied = differing(runs, without=("data.cache", "data.prepared_dir"))
    if varied:
        lines = [[escape(name), *map(escape, values)] for name, values in varied.items()]
        head = ["Setting", *(escape(run.label) for run in runs)]
        content.append(
            table(
                head,
                lines,
                caption="Settings that are not the same in all runs",
                kind="compared",
                numbers=False,
            )
        )
    together = groups(runs)
    if len(together) < len(runs):
        members = [
            [escape(one.label), escape(", ".join(run.label for run in one.runs))]
            for one in together
        ]
        caption = "Runs that share their configuration but for the seed or the fold"
        content.append(table(["Configuration", "Runs"], members, caption=caption, numbers=False))
    return Section("Runs", content)


def _stage(runs: Sequence[Run], stage: str, part: str) -> Section:
    runs = [run for run in runs if stage in run.sections]
    names = _names(runs, stage, headline=True)
    content: list[str | list[Picture]] = [_score_table(runs, stage, names)]
    rest = _names(runs, stage, headline=False)
    if rest:
        content.append(details("Further scores", _score_table(runs, stage, rest)))
    if len(runs) > 1:
        content += ["<h3>Every run</h3>", [_run_bars(runs, stage, part, name) for name in names]]
    repeated = groups(runs)
    if any(len(group.runs) > 1 for group in repeated):
        intro = (
            "<h3>By configuration</h3><p>Runs that share their configuration but for the seed or the fold, together: "
            "the bar is their mean, the whisker goes from their lowest to their highest score, each dot is a run.</p>"
        )
        content += [intro, [_group_bars(repeated, stage, part, name) for name in names]]
    return Section(STAGE_TITLES[stage], content)


def _names(runs: Sequence[Run], stage: str, headline: bool) -> list[str]:
    """Returns the scores that any of the runs has, headline ones or all others."""
    found = dict.fromkeys(
        name for run in runs if stage in run.sections for name in run.sections[stage]["scores"]
    )
    labels = HEADLINES[stage]
    return (
        [name for name in labels if name in found]
        if headline
        else [name for name in found if name not in labels]
    )


def _score(run: Run, stage: str, name: str) -> Mapping[str, Any]:
    return run.sections.get(stage, {}).get("scores", {}).get(name) or {}


def _label(runs: Sequence[Run], stage: str, name: str) -> tuple[str, str]:
    """Returns what a score is called and how to read it; its unit is that of the first run that has
    it.
    """
    return score_label(
        stage, name, next((score for run in runs if (score := _score(run, stage, name))), {})
    )


def _meaning(runs: Sequence[Run], stage: str, name: str) -> str:
    label, meaning = _label(runs, stage, name)
    return f"<strong>{escape(label)}</strong>{f': {escape(meaning)}' if meaning else ''}."


def _text(run: Run, stage: str, name: str) -> str:
    score = _score(run, stage, name)
    interval = interval_text(score)
    return (
        "" if not score else f"{score_text(score)} ({interval})" if interval else score_text(score)
    )


def _score_table(runs: Sequence[Run], stage: str, names: Sequence[str]) -> str:
    rows = []
    for name in names:
        label, meaning = _label(runs, stage, name)
        note = f"<small>{escape(meaning)}</small>" if meaning else ""
        rows.append([escape(label) + note, *(_cell(_score(run, stage, name)) for run in runs)])
    methods = interval_methods(_score(run, stage, name) for run in runs for name in names)
    intro = f'<p class="soft">Intervals: {escape("; ".join(methods))}</p>' if methods else ""
    return intro + table(["Score", *(escape(run.label) for run in runs)], rows, kind="compared")


def _cell(score: Mapping[str, Any]) -> str:
    if not score:
        return ""
    interval = interval_cell(score, named=False)
    note = f"<small>{interval}</small>" if interval else ""
    return f"<strong>{escape(score_text(score))}</strong>{chance_note(score)}{note}"


def _run_bars(runs: Sequence[Run], stage: str, part: str, name: str) -> Picture:
    runs = [run for run in runs if _score(run, stage, name)]
    scores = [_score(run, stage, name) for run in runs]
    values = np.array([number(score.get("value")) for score in scores])
    low, high = np.array([_ends(score) for score in scores]).T
    labels = [run.label for run in runs]
    title = _label(runs, stage, name)[0]
    png = plots.score_bars(labels, values, low, high, title)
    whisker = " Whiskers are the intervals." if np.isfinite(low).any() else ""
    caption = f"{_meaning(runs, stage, name)}{whisker}"
    numbers = {"run": labels, "value": values, "low": low, "high": high}
    return Picture(f"{stage}_{part}_runs_{name}", png, caption, f"{title} of every run", numbers)


def _ends(score: Mapping[str, Any]) -> tuple[float, float]:
    ends = [number(end) for end in score.get("interval") or ()]
    return (ends[0], ends[1]) if len(ends) == 2 else (math.nan, math.nan)


def _group_bars(found: Sequence[Group], stage: str, part: str, name: str) -> Picture:
    dots = [
        np.array([number(_score(run, stage, name).get("value")) for run in group.runs])
        for group in found
    ]
    known = [values[np.isfinite(values)] for values in dots]
    mean, low, high = (
        np.array([reduce(values) if len(values) else math.nan for values in known])
        for reduce in (np.mean, np.min, np.max)
    )
    runs = [run for group in found for run in group.runs]
    labels = [group.label for group in found]
    title = _label(runs, stage, name)[0]
    png = plots.score_bars(labels, mean, low, high, title, known)
    numbers = {
        "configuration": labels, "runs": [len(values) for values in known], "min": low, "mean": mean, "max": high,
    }  # fmt: skip
    return Picture(
        f"{stage}_{part}_groups_{name}",
        png,
        _meaning(runs, stage, name),
        f"{title}: min, mean and max",
        numbers,
    )


def _p_cell(one: Mapping[str, Any]) -> str:
    p = number(one.get("p_value"))
    adjusted = number(one.get("p_holm"))
    if math.isnan(p):
        return ""
    notes = [f"Holm {_p_text(adjusted)}", trainings_text(one), str(one["test"])]
    return escape(_p_text(p)) + f"<small>{escape('; '.join(filter(None, notes)))}</small>"


def _p_text(p: float) -> str:
    return "" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _paired(runs: Sequence[Run], paired: Sequence[Mapping[str, Any]]) -> Section:
    rows = []  # few columns, so that they fit a phone
    for one in paired:
        value = number(one.get("value"))
        what = f"{one['stage']}: {one['what']}, n = {one['n']:,}"
        what += " (slices that both were scored on)" if one.get("shared_only") else ""
        shown = escape(score_text(one)) if math.isnan(value) else f"<strong>{value:+.3f}</strong>"
        interval = interval_cell(one)
        rows.append([
            f"{escape(runs[one['run']].label)}<small>{escape(what)}</small>",
            shown + (f"<small>{interval}</small>" if interval else ""),
            _p_cell(one),
        ])  # fmt: skip
    if not rows:
        return Section("Paired differences", [])
    intro = (
        f"<p>Each run minus {escape(runs[0].label)}; above 0 the run is better than the first. p is the share of "
        "exchanges of the two runs, patient by patient, that make a difference as large: of n patients at least 2 in "
        "2<sup>n</sup>. Below it stands p adjusted by Holm for all tests of this table. Each run was trained "
        "once: that another training would differ as much, neither p nor the interval rules out.</p>"
    )
    head = ["Run", "Difference", "p"]
    return Section("Paired differences", [intro, table(head, rows)])
