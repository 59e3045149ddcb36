"""The page of a study, from STUDY/study.json."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from covjax.report.charts import bars as charts
from covjax.report.page import Picture, write_page
from covjax.report.results import read_results
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
from covjax.scores import STUDY


def build_study_page(folder: Path) -> Path:
    """Writes FOLDER/report/index.html, table.md and table.csv; returns the page's path.

    Raises InputError if the folder holds no study or a damaged one.
    """
    folder = Path(folder)
    study = read_study(folder)
    runs = [run["workdir"] for one in study.variants for run in one.runs]
    figures = {what: {"": [_bars(study, what), _forest(study, what)]} for what in STUDY}
    return write_page(
        folder / "report",
        "study.html",
        figures,
        {
            "study": study,
            "first_run": read_results(folder / runs[0]) if runs else None,
            "stage": STAGE,
            "scores": STUDY,
        },
        further={"table.md": markdown(study), "table.csv": csv_table(study)},
    )


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
