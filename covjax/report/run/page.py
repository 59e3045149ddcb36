"""The page of a run, from the files of its workdir."""

import json
from pathlib import Path

import numpy as np

from covjax.report.charts.slices import BOTH, PREDICTED, TRUTH
from covjax.report.page import write_page
from covjax.report.reading import EVALUATE, read_table
from covjax.report.results import Results, read_results
from covjax.report.run import classifier, scores, slices, training
from covjax.report.run.card import NAME, model_card
from covjax.report.run.external import external
from covjax.report.text import number_text
from covjax.tables import read_rows

PATIENTS = {  # columns of per_patient.csv, their titles, and how a value is written
    "slices": ("Slices", "{:,.0f}"),
    "infected_slices": ("Infected", "{:,.0f}"),
    "called_infected": ("Called infected", "{:,.0f}"),
    "true_share": ("True share, slices with a mask", "{:.2%}"),
    "scored_slices": ("Slices scored", "{:,.0f}"),
    "scored_true_share": ("True share, scored", "{:.2%}"),
    "predicted_share": ("Predicted share, scored", "{:.2%}"),
    "dice": ("Dice, scored", "{:.3f}"),
}
OUTLINES = {"marked": TRUTH, "predicted": f"{PREDICTED};border-top-style:dashed"}
ERRORS = {
    "missed (marked only)": TRUTH,
    "invented (predicted only)": PREDICTED,
    "correct": BOTH,
}


def build_report(workdir: Path) -> Path:
    """Writes WORKDIR/report/index.html, figures as PNG and CSV, model_card.md; returns the page.

    Raises InputError, and leaves an earlier report as it was, if the workdir holds no results or a
    damaged file.
    """
    results = read_results(workdir)
    left_out = results.workdir / "left_out.csv"
    figures = {
        "training": training.training(results),
        "confusion": training.confusion(results),
        "curves": classifier.curves(results),
        "probabilities": classifier.probabilities(results),
        "explanations": classifier.explanations(results),
        "dice": slices.dice(results),
        "shares": slices.shares(results),
        "examples": slices.examples(results),
    }
    return write_page(
        results.workdir / "report",
        "run.html",
        figures,
        {
            "results": results,
            "scored_on": scores.scored_on,
            "threshold_text": scores.threshold_text,
            "calibration_notes": scores.calibration_notes,
            "settings": json.dumps(results.config, indent=2, ensure_ascii=False),
            "left_out": read_rows(left_out, ["file", "reason"], EVALUATE)
            if left_out.is_file()
            else [],
            "external": external(results),
            "classes": slices.class_colours(results),
            "outlines": OUTLINES,
            "errors": ERRORS,
            **_patients(results),
        },
        {NAME: model_card(results)},
    )


def _patients(results: Results) -> dict[str, object]:
    """Returns what the table of patients shows, without the columns that are empty."""
    split = next(iter(results.options), "")
    columns = read_table(results.file(split, "per_patient.csv"), ["patient"], PATIENTS) or {}
    names = columns.get("patient", [])
    shown = [name for name in PATIENTS if not np.isnan(columns.get(name, np.nan)).all()]
    rows = [
        (name, [number_text(float(columns[key][k]), PATIENTS[key][1]) for key in shown])
        for k, name in enumerate(names)
    ]
    titles = [PATIENTS[key][0] for key in shown]
    return {"patient_split": split, "patient_titles": titles, "patient_rows": rows}
