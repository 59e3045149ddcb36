"""The page of a study, from STUDY/study.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covjax.metrics.registry import STUDY
from covjax.report.charts import bars as charts
from covjax.report.page import Banner, Picture, write_page
from covjax.report.results import SPLIT_RULES, read_results
from covjax.report.run.header import warnings
from covjax.report.scores import score_label, score_meaning
from covjax.report.study_tables import (
    STAGE,
    Study,
    csv_table,
    markdown,
    read_study,
)
from covjax.report.text import (
    interval_ends,
    number,
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


def build_study_page(folder: Path) -> Path:
    """Writes FOLDER/report/index.html, its figures, table.md and table.csv; returns the page's path.

    Raises InputError if the folder holds no study or a damaged one.
    """
    folder = Path(folder)
    study = read_study(folder)
    figures = {what: {"": [_bars(study, what), _forest(study, what)]} for what in STUDY}
    return write_page(
        folder / "report",
        "study.html",
        figures,
        beside={"table.md": markdown(study), "table.csv": csv_table(study)},
        title=f"covjax study: {study.name}",
        heading=f"Study: {study.name}",
        version=study.version,
        facts=_facts(study),
        banners=_banners(folder, study),
        study=study,
        stage=STAGE,
        scores=STUDY,
    )


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
    return facts


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


def _forest(study: Study, what: str) -> Picture | None:
    compared = {
        one.name: difference
        for one, difference in zip(study.variants, study.differences(what), strict=True)
        if one.name != study.reference
    }
    if not compared:
        return None
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
    return Picture(
        f"study_differences_{what}",
        charts.differences(names, values, low, high, xlabel, dots),
        f"{label},",
        text,
        f"{label}: differences to {study.reference}",
        {"variant": names, "difference": values, "low": low, "high": high},
    )
