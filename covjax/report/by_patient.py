"""The table of patients; empty if its file is absent."""

from html import escape

import numpy as np

from covjax.report.parts import Section, split_title, table
from covjax.report.results import Results, read_table
from covjax.report.tables import value_cell

PATIENT_COLUMNS = {  # title and how a value is written
    "slices": ("Slices", "{:,.0f}"),
    "infected_slices": ("Infected", "{:,.0f}"),
    "called_infected": ("Called infected", "{:,.0f}"),
    "true_share": ("True share, slices with a mask", "{:.2%}"),
    "scored_slices": ("Slices scored", "{:,.0f}"),
    "scored_true_share": ("True share, scored", "{:.2%}"),
    "predicted_share": ("Predicted share, scored", "{:.2%}"),
    "dice": ("Dice, scored", "{:.3f}"),
}


def patients(results: Results) -> Section:
    split = next(iter(results.options), None)
    path = results.file(split, "per_patient.csv") if split else None
    columns = read_table(path, ["patient"], PATIENT_COLUMNS) if split else None
    if columns is None or not len(columns["patient"]):
        return Section("Patient by patient", [])
    shown = {
        name: form
        for name, (_, form) in PATIENT_COLUMNS.items()
        if not np.isnan(columns[name]).all()
    }
    rows = [
        [
            escape(patient or "unknown"),
            *(value_cell(columns[name][index], form) for name, form in shown.items()),
        ]
        for index, patient in enumerate(columns["patient"])
    ]
    head = ["Patient", *(PATIENT_COLUMNS[name][0] for name in shown)]
    return Section(
        "Patient by patient", [_which_slices(results, split), table(head, rows, kind="tall")]
    )


def _which_slices(results: Results, split: str) -> str:
    """Says which slices of a patient the columns of the table count."""
    stage = next(
        (stage for stage in ("framework", "segmenter") if split in results.scores.get(stage, {})),
        "",
    )
    scored = {
        "": "",
        "framework": " Scored are all slices, by both stages together.",
        "segmenter": " Scored are all slices, by the segmenter.",
    }[stage]
    if stage == "segmenter" and results.scores[stage][split].get("slices") == "infected":
        scored = " Scored are the infected slices alone, by the segmenter: their shares and Dice leave out the others."
    return (
        f"<p>Each patient of the {escape(split_title(split))} part: how many slices are infected and were called "
        f"infected, and the infected share of the pixels of all slices with a mask.{scored}</p>"
    )
