"""Pages of a screening: OUTPUT/index.html lists the scans, scans/NAME.html shows one, slice by
slice.
"""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from covjax.errors import InputError
from covjax.files import write_together
from covjax.report.html import banner, bullets, page
from covjax.report.left_out import left_out_section
from covjax.report.parts import Section, class_words, details, table
from covjax.report.results import options_text, read_json

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
NAMED = 8  # scans that the list of notes links to
SKIPPED = 50  # that the banner names
SHARES = ("infected_share", "infected_share_of_lung")
FOOTER = (
    "Masks are in masks/, the pictures in overlays/, all numbers in predictions.csv and scans.csv. The lung is an "
    "estimate: its air and the infection in the chest. What is marked outside the lung stays in masks and "
    "overlays, but is counted apart; of a picture alone, all that is marked in the body counts."
)
# Shows the slice that the slider, the wheel, an arrow key or a click on the chart asks for.
SCRIPT = """
const slices = JSON.parse(document.getElementById("slices").textContent);
const [image, slider, told, cursor, chart] =
  ["image", "slider", "told", "cursor", "chart"].map((id) => document.getElementById(id));
function show(number) {
  const k = Math.min(slices.length - 1, Math.max(0, number)), one = slices[k];
  slider.value = k;
  image.src = one.src;
  image.alt = told.textContent = one.told;
  cursor.setAttribute("x", k);
  for (const next of [k + 1, k - 1]) if (slices[next]) new Image().src = slices[next].src;
}
slider.addEventListener("input", () => show(+slider.value));
image.addEventListener("wheel", (event) => {
  event.preventDefault();
  show(+slider.value + Math.sign(event.deltaY));
}, { passive: false });
chart.addEventListener("click", (event) => {
  const box = chart.getBoundingClientRect();
  show(Math.floor((event.clientX - box.left) / box.width * slices.length));
});
document.addEventListener("keydown", (event) => {
  const by = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
  if (by && document.activeElement !== slider) { event.preventDefault(); show(+slider.value + by); }
});
show(+slider.value);
"""


class Shown(NamedTuple):
    """What all pages of a screening share."""

    output: Path
    scans: Mapping[str, str]  # columns of scans.csv that are shown, and their titles
    slices: Mapping[str, str]  # those of predictions.csv
    classes: Mapping[str, str]  # of infection that are kept apart, and their colours
    notes: Mapping[str, Sequence[str]]  # what is uncertain, by scan
    version: str


def build_screening(output: Path) -> Path:
    """Writes OUTPUT/index.html and OUTPUT/scans/NAME.html for every scan, and returns the first
    page's path.

    Raises InputError if the folder holds no screening or a damaged one.
    """
    output = Path(output)
    told = read_json(output / "screening.json")
    classes = told.get("classes") or {}
    of_scans = SCANS | {f"{name}_ml": f"{class_words(name)}, ml" for name in classes}
    of_slices = SLICES | {f"{name}_mm2": f"{class_words(name)}, mm²" for name in classes}
    scans = _read(output / "scans.csv", of_scans)
    slices = _read(output / "predictions.csv", of_slices)
    by_scan = {name: list(lines) for name, lines in groupby(slices, key=lambda line: line["scan"])}
    version = str(told.get("covjax", ""))
    show = Shown(output, of_scans, of_slices, classes, told.get("notes") or {}, version)
    files = {_place(output, scan): _scan_page(show, scan, by_scan[scan["scan"]]) for scan in scans}
    files[output / "index.html"] = _index(show, scans, told)
    write_together(files)
    return output / "index.html"


def _read(path: Path, columns: Mapping[str, str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as text:
            reader = csv.DictReader(text)
            if not {"scan", *columns} <= set(reader.fieldnames or ()):
                raise InputError(f"{path}: lacks columns of a screening, screen again")
            return list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}), screen again") from None


def _place(output: Path, scan: Mapping[str, str]) -> Path:
    return output / "scans" / f"{scan['scan']}.html"


def _index(show: Shown, scans: Sequence[Mapping[str, str]], told: Mapping[str, Any]) -> bytes:
    facts = {"Run": told.get("run", "not recorded"), "Input": told.get("input", "not recorded")}
    facts |= {"Window": told["window"]} if told.get("window") else {}
    facts |= {"Evaluation options": options_text(told["options"])} if told.get("options") else {}
    left_out = told.get("left_out") or []
    facts |= {"Left out": f"{len(left_out):,} files, listed below"} if left_out else {}
    skipped = [escape(str(reason)) for reason in told.get("skipped") or ()]
    some = f"{len(skipped):,} that could not be used: {bullets(skipped[:SKIPPED])}"
    some += (
        f"and {len(skipped) - SKIPPED:,} more, in left_out.csv" if len(skipped) > SKIPPED else ""
    )
    warning = banner("Skipped", some) if skipped else ""
    warning += banner("To note", bullets(_by_note(show, scans))) if show.notes else ""
    shown = {
        column: title for column, title in show.scans.items() if any(scan[column] for scan in scans)
    }
    rows = [
        (
            f'<a href="{_link(_place(show.output, scan), show.output)}">{escape(scan["scan"])}</a>',
            *(_text(c, scan[c]) for c in shown),
        )
        for scan in scans
    ]
    sections = [
        Section("Scans", [table(("Scan", *shown.values()), rows)]),
        *left_out_section(left_out),
    ]
    return page(
        "covjax: screening",
        _header("Screening", facts) + warning,
        sections,
        show.version,
        footer=FOOTER,
    )


def _by_note(show: Shown, scans: Sequence[Mapping[str, str]]) -> list[str]:
    """Returns a line of HTML for each note: of how many scans it is, with links to the first of
    them.
    """
    of: dict[str, list[str]] = {}
    for scan in scans:
        for note in show.notes.get(scan["scan"], ()):
            link = _link(_place(show.output, scan), show.output)
            of.setdefault(str(note), []).append(f'<a href="{link}">{escape(scan["scan"])}</a>')
    return [
        f"{escape(note)} ({', '.join(links[:NAMED])}{f' and {len(links) - NAMED} more' * (len(links) > NAMED)})"
        for note, links in of.items()
    ]


def _scan_page(show: Shown, scan: Mapping[str, str], slices: Sequence[Mapping[str, str]]) -> bytes:
    output = show.output
    place = _place(output, scan)
    facts = {
        title: _text(column, scan[column]) for column, title in show.scans.items() if scan[column]
    }
    facts |= (
        {"Spacing, mm": scan["spacing_mm"].replace("x", " x ")} if scan.get("spacing_mm") else {}
    )
    facts |= {"Window, HU": scan["window"].replace(",", ", ")} if scan.get("values") == "hu" else {}
    shown = {
        column: title
        for column, title in show.slices.items()
        if any(line[column] for line in slices)
    }
    links = [_link(output / "overlays" / f"{line['id']}.png", place.parent) for line in slices]
    head = ("Slice", *shown.values())
    cells = [[_text(column, line[column]) for column in shown] for line in slices]
    names = [Path(line["id"]).name for line in slices]
    rows = [
        (f'<a href="{link}">{escape(name)}</a>', *row)
        for link, name, row in zip(links, names, cells, strict=True)
    ]
    texts = [
        "; ".join(
            [f"slice {name}", *(f"{t}: {v}" for t, v in zip(shown.values(), row, strict=True) if v)]
        )
        for name, row in zip(names, cells, strict=True)
    ]
    viewer = Section("Slice by slice", [_viewer(slices, links, texts, show.classes)])
    numbers = Section("Numbers", [details(f"{len(rows)} slices", table(head, rows, kind="tall"))])
    back = f'<p><a href="{_link(output / "index.html", place.parent)}">All scans</a></p>'
    notes = bullets(escape(str(note)) for note in show.notes.get(scan["scan"], ()))
    header = (
        _header(escape(scan["scan"]), facts) + (banner("To note", notes) if notes else "") + back
    )
    script = f"<script>{SCRIPT}</script>\n"
    return page(
        f"covjax: {scan['scan']}",
        header,
        [viewer, numbers],
        show.version,
        script=script,
        footer=FOOTER,
    )


def _header(title: str, facts: Mapping[str, Any]) -> str:
    listed = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items()
    )
    return f'<h1>{title}</h1><p class="soft">Research software, not a medical device.</p><dl>{listed}</dl>'


def _viewer(
    slices: Sequence[Mapping[str, str]],
    links: Sequence[str],
    texts: Sequence[str],
    classes: Mapping[str, str],
) -> str:
    """Returns picture, chart and slider; it opens at the slice with most infection."""
    data = [{"src": link, "told": text} for link, text in zip(links, texts, strict=True)]
    heights = [float(line["infected_share"] or 0) for line in slices]
    chances = [float(line["probability_infected"] or 0) for line in slices]
    first = max(range(len(slices)), key=lambda k: (heights[k], chances[k]))
    encoded = json.dumps(data).replace("<", "\\u003c")
    text = escape(texts[first])
    return (
        f'<div class="viewer"><div class="card"><img id="image" src="{links[first]}" alt="{text}"></div>'
        f'{_legend(classes)}<output id="told" for="slider">{text}</output>{_chart(slices, heights)}'
        f'<input id="slider" type="range" min="0" max="{len(slices) - 1}" value="{first}" aria-label="Slice">'
        '<p class="soft">The predicted infection is outlined. Slider, wheel, arrow keys or a click on the chart choose '
        "the slice: bars are the infected share (highest: "
        f"{_text('infected_share', str(max(heights))) or 'none'}), the line is the probability, 0 to 1.</p>"
        f'<script type="application/json" id="slices">{encoded}</script></div>'
    )


def _legend(classes: Mapping[str, str]) -> str:
    """Returns the colours of the classes whose outlines are drawn; '' where infection has none."""
    keys = "".join(
        f'<li><span class="key" style="color:{escape(colour)}"></span>{escape(class_words(name))}</li>'
        for name, colour in classes.items()
    )
    return f'<ul class="legend"><li>Outlines:</li>{keys}</ul>' if keys else ""


def _chart(slices: Sequence[Mapping[str, str]], heights: Sequence[float]) -> str:
    count = len(slices)
    top = max([*heights, 1e-9])
    bars = "".join(
        f'<rect x="{k}" y="{1 - h / top:.4f}" width="1" height="{h / top:.4f}" fill="#d55e00"/>'
        for k, h in enumerate(heights)
        if h
    )
    known = [
        (k, line["probability_infected"])
        for k, line in enumerate(slices)
        if line["probability_infected"]
    ]
    points = " ".join(f"{k + 0.5},{1 - float(p):.4f}" for k, p in known)
    line = (
        f'<polyline points="{points}" fill="none" stroke="var(--accent)" stroke-width="2" '
        'vector-effect="non-scaling-stroke"/>'
    )
    return (
        f'<svg id="chart" viewBox="0 0 {count} 1" preserveAspectRatio="none" role="img" aria-label="Infected share and '
        f'probability of every slice">{bars}{line if points else ""}'
        '<rect id="cursor" x="0" y="0" width="1" height="1" fill="currentColor" opacity=".3"/></svg>'
    )


def _link(target: Path, start: Path) -> str:
    return quote(Path(os.path.relpath(target, start)).as_posix())


def _text(column: str, value: str) -> str:
    """Returns a number as a reader wants it: shares in percent, counts whole, the rest to three
    digits.
    """
    if not value:
        return ""
    number = float(value)
    if column in SHARES:
        return f"{number:.2%}"
    return f"{number:,.0f}" if number == int(number) or abs(number) >= 100 else f"{number:.3g}"
