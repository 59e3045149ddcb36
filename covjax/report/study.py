"""What a study found, from STUDY/study.json: text and Markdown tables, a CSV, and an HTML page with
figures.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from covjax.errors import InputError
from covjax.files import encode_table
from covjax.report import plots
from covjax.report.html import banner, write_page
from covjax.report.parts import Picture, Section, details, score_label, table
from covjax.report.results import (
    SPLIT_RULES,
    interval_text,
    number,
    read_json,
    read_results,
    score_text,
)
from covjax.report.run import warnings
from covjax.report.tables import interval_methods, trainings_text

STAGE = "segmenter"
MAIN = "dice_infected_per_image"
SCORES = (MAIN, "dice_infected")
# what table.csv holds of a difference beside its limits
DIFFERENCES = ("p_value", "p_holm", "trainings")
SETTINGS = {
    "data.source": "Source", "split.by": "Split", "split.folds": "Folds", "folds": "Folds run", "seeds": "Seeds",
    "segmenter.model.name": "Network", "segmenter.input.size": "Input size", "segmenter.epochs": "Epochs",
    "slices": "Slices tested", "patients": "Patients",
}  # fmt: skip


def study_table(folder: Path) -> str:
    """Returns the table of a study as aligned plain text, the pooled Dice without its differences.

    Raises InputError as `build_study_page`.
    """
    head, *rows = _cells(_read(Path(folder)), differences=(MAIN,))
    widths = [max(len(row[k]) for row in (head, *rows)) for k in range(len(head))]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def build_study_page(folder: Path) -> Path:
    """Writes FOLDER/report/index.html, self-contained, figures, table.md and table.csv, and returns
    the page's path.

    Raises InputError if the folder holds no study or a damaged one.
    """
    folder = Path(folder)
    told = _read(folder)
    sections = [_comparison(told), _runs(told["variants"])]
    beside = {"table.md": _markdown(told).encode(), "table.csv": _csv(told)}
    title = f"covjax study: {told['study']}"
    return write_page(
        folder / "report",
        title,
        _header(folder, told),
        sections,
        str(told.get("covjax", "")),
        beside,
    )


def _header(folder: Path, told: Mapping[str, Any]) -> str:
    values = {
        SETTINGS[key]: _plain(key, value)
        for key, value in told["settings"].items()
        if key in SETTINGS
    }
    folds = told["settings"].get("split.folds") or 0
    if told["settings"].get("folds") == list(range(folds)):
        values.pop("Folds run", None)
        values["Folds"] = (
            f"{folds} (every slice is tested once per seed)"
            if folds
            else "none, one split per seed"
        )
    facts = {
        "Compared with": told["reference"],
        **{name: values[name] for name in SETTINGS.values() if name in values},
    }
    listed = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>"
        for name, value in facts.items()
        if value
    )
    of_runs = [run["workdir"] for one in told["variants"] for run in one["runs"]]
    banners = warnings(read_results(folder / of_runs[0])) if of_runs else ""
    lacking = sum(one["planned"] - len(one["runs"]) for one in told["variants"])
    if lacking:
        why = "; ".join(f"{run}: {reason}" for run, reason in told["failed"].items())
        banners += banner(
            "Runs lacking", escape(f"{lacking} of the runs ended without a result. {why}")
        )
    return (
        f'<h1>Study: {escape(str(told["study"]))}</h1><p class="soft">Research software, not a medical device.</p>'
        f"{banners}<dl>{listed}</dl>"
    )


def _plain(key: str, value: Any) -> str:
    if key == "split.by":
        return SPLIT_RULES.get(value, str(value))
    if key == "patients":
        return f"{value:,}" if value else "unknown"
    separator = " x " if key.endswith("size") else ", "
    return (
        separator.join(map(str, value))
        if isinstance(value, list)
        else f"{value:,}"
        if key == "slices"
        else str(value)
    )


def _comparison(told: Mapping[str, Any]) -> Section:
    variants = told["variants"]
    reference = told["reference"]
    intro = (
        "<p>Scores over the test slices of all folds together, of several seeds the mean, with 95 % intervals. "
        f"Differences to {escape(reference)}, above 0 better: p is the share of exchanges of the two variants, patient "
        "by patient, that make one as large (of n patients at least 2 in 2<sup>n</sup>), below it adjusted by Holm for "
        "all tests of this page.</p>"
    )
    scores = [one["scores"][what] for one in variants for what in SCORES]
    methods = interval_methods(scores)
    intro += f'<p class="soft">Intervals: {escape("; ".join(methods))}</p>' if methods else ""
    content: list[str | list[Picture]] = [intro]
    for what in SCORES:
        content += [_table(variants, what, reference), _pictures(variants, what, reference)]
    note = (
        '<p class="soft">Intervals and tests speak of other patients, not of other trainings: how much trainings of '
        "one variant differ, the dots show. Where patients are unknown, both are too sure of themselves. "
        "ms per slice: the fastest of several batches, all variants in turn on one "
        "machine.</p>"
    )
    return Section("Comparison", [*content, note])


def _table(variants: Sequence[Mapping[str, Any]], what: str, reference: str) -> str:
    label, meaning = score_label(STAGE, what)
    several = _several_seeds(variants, what)
    head = ["Variant", label, "Difference", "p"]
    rows = []
    for one in variants:
        score = one["scores"][what]
        row = [_named(one, reference), _with_note(escape(score_text(score)), score)]
        row += _difference_cells(_difference(one, what), several)
        rows.append(
            row + [_parameters(one), _milliseconds(one), _finished(one)] if what == MAIN else row
        )
    head += ["Parameters", "ms per slice", "Runs"] if what == MAIN else []
    return f"<h3>{escape(label)}: {escape(meaning)}</h3>" + table(head, rows, kind="compared")


def _pictures(variants: Sequence[Mapping[str, Any]], what: str, reference: str) -> list[Picture]:
    compared = [one for one in variants if one["name"] != reference]
    return [_bars(variants, what), *([_forest(compared, reference, what)] if compared else [])]


def _named(one: Mapping[str, Any], reference: str) -> str:
    fields = ", ".join(
        f"{name.removeprefix('segmenter.')}={value}" for name, value in one["fields"].items()
    )
    note = fields or "the study's base"
    mark = ", compared with" if one["name"] == reference else ""
    return f'<div class="wide">{escape(one["name"])}<small>{escape(note + mark)}</small></div>'


def _difference(one: Mapping[str, Any], what: str) -> Mapping[str, Any] | None:
    return (one.get("differences") or {}).get(what)


def _difference_cells(difference: Mapping[str, Any] | None, several: bool) -> list[str]:
    if difference is None:
        return ["", ""]
    p = _p_text(difference.get("p_value"))
    adjusted = _p_text(difference.get("p_holm"))
    by_seed = f"<small>by seed {_by_seed(difference)}</small>" if several else ""
    shown = _with_note(_signed(difference), difference)
    # says nothing of other trainings, so nothing stands out
    once = difference.get("trainings") == 1
    text = escape(p) if once else f"<strong>{escape(p)}</strong>"
    notes = [f"Holm {adjusted}" if adjusted else "", trainings_text(difference)]
    return [
        shown + by_seed,
        text + f"<small>{escape('; '.join(filter(None, notes)))}</small>" if p else "",
    ]


def _with_note(text: str, score: Mapping[str, Any]) -> str:
    """Adds the interval of a score to its text as HTML, or why it has none."""
    interval = interval_text(score)
    none = _no_interval(score)
    if interval:
        return f"<strong>{text}</strong><small>{interval.replace(' ', '&nbsp;')}</small>"
    return f"{text}<small>{escape(none)}</small>" if none else text


def _no_interval(score: Mapping[str, Any]) -> str:
    none = score.get("no_interval")
    return f"no interval: {none}" if none else ""


def _signed(difference: Mapping[str, Any]) -> str:
    value = number(difference.get("value"))
    return "undefined" if math.isnan(value) else f"{value:+.3f}".replace("-0.000", "0.000")


def _p_text(value: Any) -> str:
    p = number(value)
    return "" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _parameters(one: Mapping[str, Any]) -> str:
    return f"{one['runs'][0]['parameters']:,}" if one["runs"] else ""


def _milliseconds(one: Mapping[str, Any]) -> str:
    value = number(one.get("ms_per_slice"))
    return "" if math.isnan(value) else f"{value:.1f}"


def _finished(one: Mapping[str, Any]) -> str:
    return (
        str(len(one["runs"]))
        if len(one["runs"]) == one["planned"]
        else f"{len(one['runs'])} of {one['planned']}"
    )


def _ends(scores: Sequence[Mapping[str, Any]]) -> np.ndarray:
    ends = [
        [number(end) for end in score.get("interval") or (math.nan, math.nan)] for score in scores
    ]
    return np.array(ends, float).T


def _bars(variants: Sequence[Mapping[str, Any]], what: str) -> Picture:
    scores = [one["scores"][what] for one in variants]
    values = np.array([number(score["value"]) for score in scores])
    low, high = _ends(scores)
    names = [one["name"] for one in variants]
    label, meaning = score_label(STAGE, what)
    dots = [np.array([number(run[what]) for run in one["runs"]]) for one in variants]
    png = plots.score_bars(names, values, low, high, label, [d[np.isfinite(d)] for d in dots])
    caption = (
        f"<strong>{escape(label)}</strong>: {escape(meaning)}. Whiskers are the intervals; each dot is a run, that is "
        "one seed and fold."
    )
    numbers = {"variant": names, "value": values, "low": low, "high": high}
    return Picture(f"study_{what}", png, caption, f"{label} of every variant", numbers)


def _forest(variants: Sequence[Mapping[str, Any]], reference: str, what: str) -> Picture:
    scores = [_difference(one, what) or {} for one in variants]
    values = np.array([number(score.get("value")) for score in scores])
    low, high = _ends(scores)
    names = [one["name"] for one in variants]
    label = score_label(STAGE, what)[0]
    dots = [np.array([number(value) for value in score.get("by_seed", ())]) for score in scores]
    dots = dots if _several_seeds(variants, what) else []
    png = plots.differences(names, values, low, high, f"{label}: difference to {reference}", dots)
    caption = (
        f"<strong>{escape(label)}</strong>, each variant minus {escape(reference)}, with its interval: right of the "
        "line is better, an interval that crosses the line leaves it open."
    )
    caption += " Each small dot is one seed." if dots else ""
    numbers = {"variant": names, "difference": values, "low": low, "high": high}
    return Picture(
        f"study_differences_{what}", png, caption, f"{label}: differences to {reference}", numbers
    )


def _runs(variants: Sequence[Mapping[str, Any]]) -> Section:
    rows = [
        [
            escape(one["name"]), str(run["seed"]), str(run["fold"]), *(_three(run[what]) for what in SCORES),
            str(run["best_epoch"]), f"{number(run['train_seconds']) / 60:.1f}", escape(run["workdir"]),
        ]
        for one in variants
        for run in one["runs"]
    ]  # fmt: skip
    labels = [score_label(STAGE, what)[0] for what in SCORES]
    head = ["Variant", "Seed", "Fold", *labels, "Best epoch", "Training [min]", "Folder"]
    return Section("Runs", [details(f"All {len(rows)} runs", table(head, rows, kind="compared"))])


def _three(value: Any) -> str:
    return "undefined" if math.isnan(number(value)) else f"{value:.3f}"


def _cells(told: Mapping[str, Any], differences: Sequence[str] = SCORES) -> list[list[str]]:
    """The table as plain text, its head first, with the differences of some of the scores."""
    variants = told["variants"]
    head = ["Variant"]
    rows = [[one["name"]] for one in variants]
    for what in SCORES:
        head.append(score_label(STAGE, what)[0])
        for row, one in zip(rows, variants, strict=True):
            row.append(_with_interval(score_text(one["scores"][what]), one["scores"][what]))
        if what not in differences:
            continue
        several = _several_seeds(variants, what)
        head += [f"Minus {told['reference']}", *(["By seed"] if several else []), "p", "p (Holm)"]
        for row, one in zip(rows, variants, strict=True):
            row += _difference_texts(_difference(one, what), several)
    for row, one in zip(rows, variants, strict=True):
        row += [_parameters(one), _milliseconds(one), _finished(one)]
    return [[*head, "Parameters", "ms per slice", "Runs"], *rows]


def _difference_texts(difference: Mapping[str, Any] | None, several: bool) -> list[str]:
    if difference is None:
        return [""] * (4 if several else 3)
    texts = [_with_interval(_signed(difference), difference)]
    texts += [_by_seed(difference)] if several else []
    p = _p_text(difference["p_value"])
    once = difference.get("trainings") == 1
    texts.append(f"{p} ({trainings_text(difference)})" if p and once else p)
    return [*texts, _p_text(difference["p_holm"])]


def _several_seeds(variants: Sequence[Mapping[str, Any]], what: str) -> bool:
    return any(len((_difference(one, what) or {}).get("by_seed", ())) > 1 for one in variants)


def _by_seed(difference: Mapping[str, Any]) -> str:
    return ", ".join(_signed({"value": value}) for value in difference.get("by_seed", ()))


def _with_interval(text: str, score: Mapping[str, Any]) -> str:
    note = interval_text(score) or _no_interval(score)
    return f"{text} ({note})" if note else text


def _markdown(told: Mapping[str, Any]) -> str:
    head, *rows = _cells(told)
    lines = [head, ["---"] * len(head), *rows]
    return (
        "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )
        + "\n"
    )


def _csv(told: Mapping[str, Any]) -> bytes:
    header = ["variant"]
    for what in SCORES:
        header += [
            what,
            *(f"{what}_{end}" for end in ("low", "high", "difference", "difference_low")),
        ]
        header += [f"{what}_{end}" for end in ("difference_high", *DIFFERENCES, "no_interval")]
    rows = []
    for one in told["variants"]:
        row = [one["name"]]
        for what in SCORES:
            for score in (one["scores"][what], _difference(one, what) or {}):
                row += [number(score.get("value")), *_ends([score])[:, 0]]
            row += [number((_difference(one, what) or {}).get(name)) for name in DIFFERENCES]
            row.append(one["scores"][what].get("no_interval", ""))
        parameters = one["runs"][0]["parameters"] if one["runs"] else ""
        rows.append(
            [*row, parameters, number(one.get("ms_per_slice")), len(one["runs"]), one["planned"]]
        )
    return encode_table([*header, "parameters", "ms_per_slice", "runs", "planned_runs"], rows)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "study.json"
    told = read_json(path)
    if not told:
        raise InputError(
            f"{folder}: holds no study.json, run train.py --config configs/study.py:NAME first"
        )
    try:
        for one in told["variants"]:
            (
                one["name"],
                one["planned"],
                one["fields"].items(),
                [run["workdir"] for run in one["runs"]],
            )
            [one["scores"][what]["value"] for what in SCORES]
        told["study"], told["settings"].items(), told["failed"].items(), told["reference"]
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: damaged, run train.py again with the same study") from error
    return told
