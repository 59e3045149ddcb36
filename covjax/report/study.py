"""The page of a study, from STUDY/study.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covjax.metrics.registry import STUDY
from covjax.report.charts import bars as charts
from covjax.report.page import Banner, Cell, Figures, Page, Picture, Section, Table, write_page
from covjax.report.results import SPLIT_RULES, read_results
from covjax.report.run.header import warnings
from covjax.report.scores import score_label, score_meaning
from covjax.report.study_tables import (
    SIZES,
    STAGE,
    Score,
    Study,
    Variant,
    by_seed,
    csv_table,
    markdown,
    read_study,
)
from covjax.report.text import (
    interval_ends,
    interval_methods,
    interval_note,
    interval_text,
    number,
    number_text,
    p_text,
    score_text,
    signed_text,
    trainings_text,
)

SETTINGS = {
    "data.source": "Source",
    "split.by": "Split",
    "split.folds": "Folds",
    "folds": "Folds run",
    "seeds": "Seeds",
    "segmenter.model.name": "Network",
    "segmenter.input.size": "Input size",
    "segmenter.epochs": "Epochs",
    "slices": "Slices tested",
    "patients": "Patients",
}
NOTE = (
    "Intervals and tests speak of other patients, not of other trainings: how much trainings of "
    "one variant differ, the dots show. Where patients are unknown, both are too sure of "
    "themselves. ms per slice: the fastest of several batches, all variants in turn on one machine."
)


def build_study_page(folder: Path) -> Path:
    """Writes FOLDER/report/index.html, its figures, table.md and table.csv; returns the page's path.

    Raises InputError if the folder holds no study or a damaged one.
    """
    folder = Path(folder)
    study = read_study(folder)
    page = Page(
        title=f"covjax study: {study.name}",
        heading=f"Study: {study.name}",
        version=study.version,
        facts=_facts(study),
        sections=[_comparison(study), _runs(study)],
        banners=_banners(folder, study),
    )
    beside = {"table.md": markdown(study), "table.csv": csv_table(study)}
    return write_page(folder / "report", page, beside)


def _facts(study: Study) -> dict[str, str]:
    settings = study.settings
    facts = {"Compared with": study.reference}
    for key, title in SETTINGS.items():
        if key in settings:
            facts[title] = _setting(key, settings[key])
    folds = settings.get("split.folds") or 0
    if settings.get("folds") == list(range(folds)):
        facts.pop("Folds run", None)
        every = f"{folds} (every slice is tested once per seed)"
        facts["Folds"] = every if folds else "none, one split per seed"
    return {title: text for title, text in facts.items() if text}


def _setting(key: str, value: Any) -> str:
    if key == "split.by":
        return SPLIT_RULES.get(value, str(value))
    if key == "patients" and not value:
        return "unknown"
    if key in ("patients", "slices"):
        return f"{value:,}"
    separator = " x " if key.endswith("size") else ", "
    return separator.join(map(str, value)) if isinstance(value, list) else str(value)


def _banners(folder: Path, study: Study) -> list[Banner]:
    runs = [run["workdir"] for one in study.variants for run in one.runs]
    banners = warnings(read_results(folder / runs[0])) if runs else []
    lacking = sum(one.planned for one in study.variants) - len(runs)
    if lacking:
        why = "; ".join(f"{run}: {reason}" for run, reason in study.failed.items())
        text = f"{lacking} of the runs ended without a result. {why}"
        banners.append(Banner("Runs lacking", text))
    return banners


def _comparison(study: Study) -> Section:
    intro = (
        "Scores over the test slices of all folds together, of several seeds the mean, with 95 % "
        f"intervals. Differences to {study.reference}, above 0 better: p is the share of exchanges "
        "of the two variants, patient by patient, that make one as large (of n patients at least 2 "
        "in 2ⁿ), below it adjusted by Holm for all tests of this page."
    )
    scores = [one.scores[what] for one in study.variants for what in STUDY]
    figures = []
    for what in STUDY:
        heading = f"{score_label(STAGE, what)}: {score_meaning(STAGE, what)}"
        pictures = [_bars(study, what), *_forest(study, what)]
        figures.append(Figures(pictures, heading))
    return Section(
        "Comparison",
        intro,
        tables=[_table(study, what) for what in STUDY],
        figures=figures,
        note=NOTE,
        template="study.html",
        values={"methods": interval_methods(scores)},
    )


def _table(study: Study, what: str) -> Table:
    head = ["Variant", score_label(STAGE, what), "Difference", "p"]
    rows = []
    for one, difference in zip(study.variants, study.differences(what), strict=True):
        score = one.scores[what]
        rows.append([_named(one, study.reference), _score_cell(score_text(score), score)])
        rows[-1] += _difference_cells(difference, study.several_seeds(what))
    if what == STUDY[0]:
        head += SIZES
        rows = [[*row, *one.sizes()] for row, one in zip(rows, study.variants, strict=True)]
    return Table(head, rows, kind="compared")


def _named(one: Variant, reference: str) -> Cell:
    fields = [f"{name.removeprefix('segmenter.')}={value}" for name, value in one.fields.items()]
    note = ", ".join(fields) or "the study's base"
    note += ", compared with" if one.name == reference else ""
    return Cell(one.name, [note], wide=True)


def _score_cell(text: str, score: Score, further: str = "") -> Cell:
    notes = [interval_note(score, "no interval"), further]
    return Cell(text, notes, strong=bool(interval_text(score)))


def _difference_cells(difference: Score, several: bool) -> list[Cell | str]:
    if not difference:
        return ["", ""]
    seeds = f"by seed {by_seed(difference)}" if several else ""
    p = p_text(difference.get("p_value"))
    adjusted = p_text(difference.get("p_holm"))
    notes = [f"Holm {adjusted}" if adjusted else "", trainings_text(difference)]
    # Of one training each, p says nothing of other trainings, so nothing stands out.
    strong = difference.get("trainings") != 1
    return [
        _score_cell(signed_text(difference.get("value")), difference, seeds),
        Cell(p, ["; ".join(filter(None, notes))], strong) if p else "",
    ]


def _bars(study: Study, what: str) -> Picture:
    scores = [one.scores[what] for one in study.variants]
    values = np.array([number(score["value"]) for score in scores])
    low, high = np.array([interval_ends(score) for score in scores]).T
    names = [one.name for one in study.variants]
    label = score_label(STAGE, what)
    dots = [_known([run[what] for run in one.runs]) for one in study.variants]
    return Picture(
        f"study_{what}",
        charts.score_bars(names, values, low, high, label, dots),
        f"{label}:",
        f"{score_meaning(STAGE, what)}. Whiskers are the intervals; each dot is a run, that is one "
        "seed and fold.",
        f"{label} of every variant",
        {"variant": names, "value": values, "low": low, "high": high},
    )


def _known(values: Sequence[object]) -> np.ndarray:
    found = np.array([number(value) for value in values])
    return found[np.isfinite(found)]


def _forest(study: Study, what: str) -> list[Picture]:
    compared = {
        one.name: difference
        for one, difference in zip(study.variants, study.differences(what), strict=True)
        if one.name != study.reference
    }
    if not compared:
        return []
    scores = list(compared.values())
    names = list(compared)
    values = np.array([number(score.get("value")) for score in scores])
    low, high = np.array([interval_ends(score) for score in scores]).T
    several = study.several_seeds(what)
    dots = [_known(score.get("by_seed", ())) for score in scores] if several else []
    label = score_label(STAGE, what)
    text = (
        f"each variant minus {study.reference}, with its interval: right of the line is better, "
        "an interval that crosses the line leaves it open."
    )
    text += " Each small dot is one seed." if dots else ""
    xlabel = f"{label}: difference to {study.reference}"
    picture = Picture(
        f"study_differences_{what}",
        charts.differences(names, values, low, high, xlabel, dots),
        f"{label},",
        text,
        f"{label}: differences to {study.reference}",
        {"variant": names, "difference": values, "low": low, "high": high},
    )
    return [picture]


def _runs(study: Study) -> Section:
    rows = [
        [
            one.name,
            str(run["seed"]),
            str(run["fold"]),
            *(number_text(run[what]) for what in STUDY),
            str(run["best_epoch"]),
            f"{number(run['train_seconds']) / 60:.1f}",
            run["workdir"],
        ]
        for one in study.variants
        for run in one.runs
    ]
    labels = [score_label(STAGE, what) for what in STUDY]
    head = ["Variant", "Seed", "Fold", *labels, "Best epoch", "Training [min]", "Folder"]
    table = Table(head, rows, kind="compared", summary=f"All {len(rows)} runs")
    return Section("Runs", tables=[table])
