"""Sections of a run that are tables: its data, its patients, its timing, its configuration."""

import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from covjax.report.page import Section, Table
from covjax.report.reading import read_table
from covjax.report.results import SPLITS, Results, split_title
from covjax.report.scores import STAGES
from covjax.report.text import number_text

TIMINGS = {
    "parameters": "Parameters",
    "epochs": "Epochs",
    "best_epoch": "Best epoch",
    "steps": "Steps",
    "train_seconds": "Training time [s]",
    "compile_seconds": "Compilation time [s]",
    "slices_per_second_train": "Training speed [slices/s]",
    "slices_per_second_eval": "Evaluation speed [slices/s]",
    "peak_memory_mb": "Peak memory [MB]",
}
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


def data(results: Results) -> Section | None:
    """Returns how many patients and slices each split holds."""
    slices = results.splits.get("slices") or {}
    patients = results.splits.get("patients") or {}
    shown = [split for split in reversed(SPLITS) if split in slices]
    if not shown:
        return None
    counts = {
        split: [int(slices[split].get(label, 0)) for label in ("healthy", "infected")]
        for split in shown
    }
    rows = [_data_row(split_title(split), patients.get(split), counts[split]) for split in shown]
    everyone = {patient for split in patients.values() for patient in split}
    total = [sum(column) for column in zip(*counts.values(), strict=True)]
    table = Table(
        ["Part", "Patients", "Healthy", "Infected (share)", "All"],
        rows,
        caption="Patients and slices of each part",
        foot=_data_row("all", everyone, total),
    )
    return Section("Data", tables=[table])


def _data_row(name: str, patients: Collection[str] | None, counts: Collection[int]) -> list[str]:
    healthy, infected = counts
    every = healthy + infected
    share = f" ({infected / every:.1%})" if every else ""
    known = f"{len(patients):,}" if patients else "unknown"
    return [name, known, f"{healthy:,}", f"{infected:,}{share}", f"{every:,}"]


def patients(results: Results) -> Section | None:
    """Returns what was found of each patient."""
    split = next(iter(results.options), "")
    columns = read_table(results.file(split, "per_patient.csv"), ["patient"], PATIENT_COLUMNS)
    if columns is None or not len(columns["patient"]):
        return None
    shown = [name for name in PATIENT_COLUMNS if not np.isnan(columns[name]).all()]
    rows = [
        [
            patient or "unknown",
            *(number_text(float(columns[name][k]), PATIENT_COLUMNS[name][1]) for name in shown),
        ]
        for k, patient in enumerate(columns["patient"])
    ]
    head = ["Patient", *(PATIENT_COLUMNS[name][0] for name in shown)]
    intro = (
        f"Each patient of the {split_title(split)} part: how many slices are infected and were "
        "called infected, and the infected share of the pixels of all slices with a mask."
        f"{_which_slices(results, split)}"
    )
    return Section("Patient by patient", intro, [Table(head, rows, kind="tall")])


def _which_slices(results: Results, split: str) -> str:
    """Says which slices of a patient the columns of the table count."""
    if split in results.scores.get("framework", {}):
        return " Scored are all slices, by both stages together."
    scored = results.scores.get("segmenter", {}).get(split)
    if scored is None:
        return ""
    if scored.get("slices") == "infected":
        return (
            " Scored are the infected slices alone, by the segmenter: their shares and Dice leave "
            "out the others."
        )
    return " Scored are all slices, by the segmenter."


def environment(results: Results) -> Section | None:
    """Returns how long the run took, and with what it was made."""
    timing: Mapping[str, Mapping[str, Any]] = {
        stage: results.timing[stage]
        for stage in STAGES
        if isinstance(results.timing.get(stage), dict)
    }
    rows = [
        [label, *(_amount(of_stage.get(name)) for of_stage in timing.values())]
        for name, label in TIMINGS.items()
        if any(name in of_stage for of_stage in timing.values())
    ]
    tables = [Table(["Timing", *map(str.capitalize, timing)], rows)] if rows else []
    if results.environment:
        rows = [
            [str(name).replace("_", " "), _plain(value)]
            for name, value in results.environment.items()
        ]
        tables.append(Table(["Environment", ""], rows, numbers=False))
    return Section("Timing and environment", tables=tables) if tables else None


def _amount(value: object) -> str:
    text = number_text(value, "{:,.0f}" if isinstance(value, int) else "{:,.1f}")
    return text.replace("undefined", "not measured")


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def configuration(results: Results) -> Section | None:
    """Returns every setting."""
    if not results.config:
        return None
    text = json.dumps(results.config, indent=2, ensure_ascii=False)
    return Section("Configuration", template="configuration.html", values={"text": text})
