"""Pages of a screening: OUTPUT/index.html lists the scans, scans/NAME.html shows one by slices."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from covjax.errors import InputError
from covjax.files import write_together
from covjax.locks import held
from covjax.records import is_inside
from covjax.report.page import render
from covjax.report.reading import read_record
from covjax.report.scores import class_words
from covjax.report.shapes import ScreeningFile
from covjax.report.text import measured_text
from covjax.tables import read_numbers, read_rows

AGAIN = "screen again"
SCANS = {
    "slices": "Slices",
    "called_infected": "Called infected",
    "highest_probability": "Highest probability",
    "infected_ml": "Infected, ml",
    "infected_outside_lung_ml": "Marked outside the lung, ml",
    "lung_ml": "Lung, ml",
    "infected_share_of_lung": "Infected share of lung",
}
SLICES = {
    "probability_infected": "Probability",
    "called_infected": "Called infected",
    "infected_mm2": "Infected, mm²",
    "infected_outside_lung_pixels": "Marked outside the lung, pixels",
    "infected_share": "Infected share of slice",
    "infected_share_of_lung": "Infected share of lung",
}
Row = Mapping[str, str]


@dataclass(frozen=True)
class Screening:
    """What a screening wrote: screening.json, and the rows of scans.csv and predictions.csv.

    The columns are those that are shown, with their titles.
    """

    output: Path
    summary: Mapping[str, Any]
    scans: Sequence[Row]
    slices: Mapping[str, Sequence[Row]]  # by scan
    scan_columns: Mapping[str, str]
    slice_columns: Mapping[str, str]

    def place(self, scan: Row) -> Path:
        """Returns where the page of a scan lies."""
        return self.output / "scans" / f"{scan['scan']}.html"

    def notes(self, scan: Row) -> list[str]:
        """Returns what is uncertain about a scan."""
        return [str(note) for note in (self.summary.get("notes") or {}).get(scan["scan"], ())]


def build_screening(output: Path) -> Path:
    """Writes OUTPUT/index.html and OUTPUT/scans/NAME.html of every scan; returns the first's path.

    Raises InputError if the folder holds no screening or a damaged one.
    """
    screening = _read(Path(output))
    index = screening.output / "index.html"
    files = {screening.place(scan): _scan_page(screening, scan) for scan in screening.scans}
    files[index] = _index(screening)
    with held(screening.output):
        write_together(files)
    return index


def _read(output: Path) -> Screening:
    summary = read_record(output / "screening.json", ScreeningFile, AGAIN)
    classes = summary.get("classes") or {}
    of_scans = SCANS | {f"{name}_ml": f"{class_words(name)}, ml" for name in classes}
    of_slices = SLICES | {f"{name}_mm2": f"{class_words(name)}, mm²" for name in classes}
    scans = read_rows(output / "scans.csv", ["scan", *of_scans], AGAIN)
    slices = read_rows(output / "predictions.csv", ["scan", *of_slices], AGAIN)
    by_scan = {name: list(rows) for name, rows in groupby(slices, key=lambda row: row["scan"])}
    for column in of_scans:
        read_numbers(output / "scans.csv", scans, column, AGAIN)
    for column in of_slices:
        read_numbers(output / "predictions.csv", slices, column, AGAIN)
    for name in (scan["scan"] for scan in scans):
        if not is_inside(name) or name not in by_scan:
            raise InputError(f"{output / 'scans.csv'}: scan '{name}' was not screened, {AGAIN}")
    return Screening(output, summary, scans, by_scan, of_scans, of_slices)


def _index(screening: Screening) -> bytes:
    links = {
        scan["scan"]: _link(screening.place(scan), screening.output) for scan in screening.scans
    }
    noted: dict[str, list[str]] = {}
    for scan in screening.scans:
        for note in screening.notes(scan):
            noted.setdefault(note, []).append(scan["scan"])
    values = {
        "summary": screening.summary,
        "columns": _filled(screening.scan_columns, screening.scans),
        "scans": screening.scans,
        "links": links,
        "noted": noted,
    }
    return render("screening.html", values)


def _scan_page(screening: Screening, scan: Row) -> bytes:
    slices = screening.slices[scan["scan"]]
    folder = screening.place(scan).parent
    columns = _filled(screening.slice_columns, slices)
    classes = screening.summary.get("classes") or {}
    shares = [float(one["infected_share"] or 0) for one in slices]
    chances = [float(one["probability_infected"] or 0) for one in slices]
    known = [k for k, one in enumerate(slices) if one["probability_infected"]]
    values = {
        "summary": screening.summary,
        "scan": scan,
        "scan_columns": _filled(screening.scan_columns, [scan]),
        "notes": screening.notes(scan),
        "index": _link(screening.output / "index.html", folder),
        "columns": columns,
        "slices": [_shown(screening, one, columns, folder) for one in slices],
        "first": max(range(len(slices)), key=lambda k: (shares[k], chances[k])),
        "classes": {class_words(name): colour for name, colour in classes.items()},
        "highest": max(shares),
        "heights": [share / max([*shares, 1e-9]) for share in shares],
        "points": " ".join(f"{k + 0.5},{1 - chances[k]:.4f}" for k in known),
    }
    return render("scan.html", values)


def _shown(
    screening: Screening, one: Row, columns: Mapping[str, str], folder: Path
) -> dict[str, Any]:
    """Returns what a page shows of a slice: its picture, and its values as cells and as text."""
    name = Path(one["id"]).name
    cells = [measured_text(one[column], column) for column in columns]
    texts = [
        f"{title}: {cell}" for title, cell in zip(columns.values(), cells, strict=True) if cell
    ]
    link = _link(screening.output / "overlays" / f"{one['id']}.png", folder)
    text = "; ".join([f"slice {name}", *texts])
    return {"name": name, "src": link, "text": text, "cells": cells}


def _filled(columns: Mapping[str, str], rows: Sequence[Row]) -> dict[str, str]:
    """Returns the columns that hold something."""
    return {column: title for column, title in columns.items() if any(row[column] for row in rows)}


def _link(target: Path, start: Path) -> str:
    return quote(Path(os.path.relpath(target, start)).as_posix())
