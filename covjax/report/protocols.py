"""The page and the text table of the paper's protocol beside honest ones, from
OUTPUT/protocols.json.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from covjax.errors import InputError
from covjax.report import audit_plots
from covjax.report.html import write_page
from covjax.report.parts import Picture, Section, table
from covjax.report.results import number, read_json, score_text

FRAMES = {
    "full": "whole figure, margin labelled infected",
    "ignore_margin": "whole figure, margin not counted",
    "ct": "CT cut out of the figure",
}
TITLES = {
    "margin_is_infected": "No network: margin called infected",
    "paper": "The paper's protocol",
    "paper_inside_ct": "The same network, scored inside the CT",
    "margin_ignored": "Margin ignored, split by slice",
    "honest": "CT only, split by patient",
}
SCORES = {
    "iou_infected": "IoU infected",
    "iou_background": "IoU background",
    "dice_infected": "Dice, pooled",
    "dice_infected_per_image": "Dice, per slice",
}


def protocols_table(folder: Path) -> str:
    """Returns the table of all protocols as aligned plain text. Raises InputError as
    `build_protocols_page`.
    """
    rows = _read(Path(folder))["rows"]
    lines = [("", *SCORES.values(), "slices", "patients", "split")]
    lines += [
        (TITLES[r["name"]], *_values(r), str(r["slices"]), str(r["patients"]), r["split"])
        for r in rows
    ]
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    cells = [
        [
            c.ljust(w) if k == 0 else c.rjust(w)
            for k, (c, w) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return "\n".join("  ".join(line).rstrip() for line in cells)


def build_protocols_page(folder: Path) -> Path:
    """Writes FOLDER/index.html, self-contained, with its figure beside it, and returns the page's
    path.

    Raises InputError if the folder holds no comparison of protocols or a damaged one.
    """
    told = _read(Path(folder))
    size, epochs, seed = (told["settings"].get(key) for key in ("size", "epochs", "seed"))
    facts = {
        "Data": "prlab21: the paper's 829 slices of 8 patients",
        "Network input": " x ".join(map(str, size or ["not recorded"])),
        "Epochs": epochs,
        "Seed": seed,
    }
    listed = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items()
    )
    header = f"<h1>The paper's protocol and honest ones</h1><dl>{listed}</dl>"
    why = [f"<p>{escape(explanation(told['rows']))}</p>", [_bars(told["rows"])]]
    sections = [Section("Why 98.7 % IoU means little", why), _scores(told["rows"])]
    return write_page(
        Path(folder), "covjax: protocols", header, sections, str(told.get("covjax", ""))
    )


def explanation(rows: Sequence[Mapping[str, Any]]) -> str:
    """Two sentences: what the margin is worth, and what slices of the same patients are."""
    score = {(r["name"], key): number(r["scores"][key]["value"]) for r in rows for key in SCORES}

    def both(name: str) -> str:
        return f"IoU {score[name, 'iou_infected']:.1%} / {score[name, 'iou_background']:.1%}"

    return (
        "The figure's margin, 38 to 40 % of every picture, is labelled infected: calling it infected without a look at "
        f"the CT scores {both('margin_is_infected')} (infected / background), and of a network's {both('paper')} a "
        f"lesion IoU of {score['paper_inside_ct', 'iou_infected']:.1%} is left where only the CT counts. "
        "The split by slice besides tests on near-duplicates of training slices, where "
        f"{score['margin_ignored', 'iou_infected']:.1%} is reached with the margin ignored; on patients never seen, "
        f"with the CT cut out, lesion IoU is {score['honest', 'iou_infected']:.1%}, Dice "
        f"{score['honest', 'dice_infected']:.3f} over all pixels and "
        f"{score['honest', 'dice_infected_per_image']:.3f} per slice."
    )


def _values(row: Mapping[str, Any]) -> list[str]:
    return [score_text(row["scores"][key]) for key in SCORES]


def _scores(rows: Sequence[Mapping[str, Any]]) -> Section:
    head = ["Protocol", *SCORES.values(), "Slices", "Patients"]
    cells = []
    for r in rows:
        seen = "patients not seen in training" if r["unseen"] else "patients seen in training"
        seen = "nothing is trained" if r["run"] is None else f"split by {r['split']}: {seen}"
        note = f"<small>{escape(FRAMES.get(r['frame'], r['frame']))}; {escape(seen)}</small>"
        cells.append(
            [
                f'<div class="wide">{escape(TITLES[r["name"]])}{note}</div>',
                *_values(r),
                f"{r['slices']:,}",
                f"{r['patients']:,}",
            ]
        )
    return Section("Scores", [table(head, cells, caption="Infected slices of the test part")])


def _bars(rows: Sequence[Mapping[str, Any]]) -> Picture:
    values = {key: np.array([number(r["scores"][key]["value"]) for r in rows]) for key in SCORES}
    names = [TITLES[r["name"]] for r in rows]
    png = audit_plots.grouped_bars(
        names, {SCORES[key]: values[key] for key in ("iou_infected", "dice_infected_per_image")}
    )
    caption = (
        "Overlap of the infected region under each protocol; only the last is on unseen patients."
    )
    return Picture(
        "protocols", png, caption, "Bars: IoU and Dice per protocol", {"protocol": names, **values}
    )


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "protocols.json"
    told = read_json(path)
    if not told:
        raise InputError(f"{folder}: holds no protocols.json, run eval.py --protocols first")
    rows = told.get("rows")
    try:
        found = [
            row["name"] for row in rows if all("value" in row["scores"][key] for key in SCORES)
        ]
    except (TypeError, KeyError):
        found = []
    if found != list(TITLES) or not isinstance(told.get("settings"), dict):
        raise InputError(f"{path}: damaged, run eval.py --protocols again")
    return told
