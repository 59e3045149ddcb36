"""Pages of a screening: OUTPUT/index.html lists the scans, scans/NAME.html shows one by slices."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from covjax.files import write_together
from covjax.report.left_out import left_out_section
from covjax.report.page import Banner, Cell, Page, Section, Table
from covjax.report.reading import read_json, read_rows
from covjax.report.scores import class_words
from covjax.report.text import options_text

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
SHARES = ("infected_share", "infected_share_of_lung")
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
    files = {
        screening.place(scan): _scan_page(screening, scan).render() for scan in screening.scans
    }
    index = screening.output / "index.html"
    files[index] = _index(screening).render()
    write_together(files)
    return index


def _read(output: Path) -> Screening:
    summary = read_json(output / "screening.json", AGAIN)
    classes = summary.get("classes") or {}
    of_scans = SCANS | {f"{name}_ml": f"{class_words(name)}, ml" for name in classes}
    of_slices = SLICES | {f"{name}_mm2": f"{class_words(name)}, mm²" for name in classes}
    scans = read_rows(output / "scans.csv", ["scan", *of_scans], AGAIN)
    slices = read_rows(output / "predictions.csv", ["scan", *of_slices], AGAIN)
    by_scan = {name: list(rows) for name, rows in groupby(slices, key=lambda row: row["scan"])}
    return Screening(output, summary, scans, by_scan, of_scans, of_slices)


def _index(screening: Screening) -> Page:
    summary = screening.summary
    left_out = summary.get("left_out") or []
    facts = {
        "Run": summary.get("run", "not recorded"),
        "Input": summary.get("input", "not recorded"),
        "Window": summary.get("window"),
        "Evaluation options": options_text(summary.get("options") or {}),
        "Left out": f"{len(left_out):,} files, listed below" if left_out else "",
    }
    shown = _filled(screening.scan_columns, screening.scans)
    rows = [
        [_scan_link(screening, scan), *(_text(column, scan[column]) for column in shown)]
        for scan in screening.scans
    ]
    sections = [
        Section("Scans", tables=[Table(["Scan", *shown.values()], rows)]),
        left_out_section(left_out),
    ]
    return Page(
        title="covjax: screening",
        heading="Screening",
        version=str(summary.get("covjax", "")),
        facts={name: value for name, value in facts.items() if value},
        sections=sections,
        template="screening.html",
        values={"skipped": summary.get("skipped") or [], "notes": _scans_by_note(screening)},
    )


def _scan_link(screening: Screening, scan: Row) -> Cell:
    return Cell(scan["scan"], link=_link(screening.place(scan), screening.output))


def _scans_by_note(screening: Screening) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for scan in screening.scans:
        for note in screening.notes(scan):
            found.setdefault(note, []).append(_scan_link(screening, scan))
    return found


def _scan_page(screening: Screening, scan: Row) -> Page:
    slices = screening.slices[scan["scan"]]
    folder = screening.place(scan).parent
    filled = _filled(screening.scan_columns, [scan])
    facts = {title: _text(column, scan[column]) for column, title in filled.items()}
    if scan.get("spacing_mm"):
        facts["Spacing, mm"] = scan["spacing_mm"].replace("x", " x ")
    if scan.get("values") == "hu":
        facts["Window, HU"] = scan["window"].replace(",", ", ")
    shown = _filled(screening.slice_columns, slices)
    rows = []
    for one in slices:
        link = _link(screening.output / "overlays" / f"{one['id']}.png", folder)
        texts = [_text(column, one[column]) for column in shown]
        rows.append([Cell(Path(one["id"]).name, link=link), *texts])
    head = ["Slice", *shown.values()]
    numbers = Table(head, rows, kind="tall", summary=f"{len(rows)} slices")
    notes = screening.notes(scan)
    return Page(
        title=f"covjax: {scan['scan']}",
        heading=scan["scan"],
        version=str(screening.summary.get("covjax", "")),
        facts=facts,
        sections=[_viewer(screening, slices, numbers), Section("Numbers", tables=[numbers])],
        banners=[Banner("To note", lines=notes)] if notes else [],
        template="scan.html",
        values={"index": _link(screening.output / "index.html", folder)},
    )


def _viewer(screening: Screening, slices: Sequence[Row], numbers: Table) -> Section:
    """Returns picture, chart and slider; they open at the slice with most infection."""
    shares = [float(one["infected_share"] or 0) for one in slices]
    chances = [float(one["probability_infected"] or 0) for one in slices]
    classes = screening.summary.get("classes") or {}
    known = [k for k, one in enumerate(slices) if one["probability_infected"]]
    shown = []
    for name, *texts in numbers.rows:
        assert isinstance(name, Cell)
        facts = [f"{title}: {text}" for title, text in zip(numbers.head[1:], texts, strict=True)]
        told = [fact for fact, text in zip(facts, texts, strict=True) if text]
        shown.append({"src": name.link, "text": "; ".join([f"slice {name.text}", *told])})
    values = {
        "slices": shown,
        "first": max(range(len(slices)), key=lambda k: (shares[k], chances[k])),
        "classes": {class_words(name): colour for name, colour in classes.items()},
        "highest": max(shares),
        "heights": [share / max([*shares, 1e-9]) for share in shares],
        "points": " ".join(f"{k + 0.5},{1 - chances[k]:.4f}" for k in known),
    }
    return Section("Slice by slice", template="viewer.html", values=values)


def _filled(columns: Mapping[str, str], rows: Sequence[Row]) -> dict[str, str]:
    """Returns the columns that hold something."""
    return {column: title for column, title in columns.items() if any(row[column] for row in rows)}


def _link(target: Path, start: Path) -> str:
    return quote(Path(os.path.relpath(target, start)).as_posix())


def _text(column: str, value: str) -> str:
    """Returns shares in percent, counts whole, other numbers to three digits."""
    if not value:
        return ""
    number = float(value)
    if column in SHARES:
        return f"{number:.2%}"
    return f"{number:,.0f}" if number == int(number) or abs(number) >= 100 else f"{number:.3g}"
