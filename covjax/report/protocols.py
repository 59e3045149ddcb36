"""The page and the text table that compare the paper's protocol with honest ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covjax.errors import InputError
from covjax.report.charts import bars as charts
from covjax.report.page import Picture, write_page
from covjax.report.reading import read_record
from covjax.report.shapes import ProtocolsFile
from covjax.report.text import number, score_text, text_table
from covjax.scores import PROTOCOLS

TITLES = {
    "margin_is_infected": "No network: margin called infected",
    "paper": "The paper's protocol",
    "paper_inside_ct": "The same network, scored inside the CT",
    "margin_ignored": "Margin ignored, split by slice",
    "honest": "CT only, split by patient",
}
AGAIN = "run eval.py --protocols again"
Row = Mapping[str, Any]


def protocols_table(folder: Path) -> str:
    """Returns all protocols as aligned plain text. Raises InputError as `build_protocols_page`."""
    lines = [["", *PROTOCOLS.values(), "slices", "patients", "split"]]
    for row in _read(Path(folder))["rows"]:
        counts = [str(row["slices"]), str(row["patients"]), row["split"]]
        values = [score_text(row["scores"][key]) for key in PROTOCOLS]
        lines.append([TITLES[row["name"]], *values, *counts])
    return text_table(lines, right=range(1, len(lines[0])), rule=False)


def build_protocols_page(folder: Path) -> Path:
    """Writes FOLDER/index.html from protocols.json, and its figure; returns the page's path.

    Raises InputError if the folder holds no comparison of protocols or a damaged one.
    """
    protocols = _read(Path(folder))
    rows = protocols["rows"]
    return write_page(
        Path(folder),
        "protocols.html",
        {"bars": {"": [_bars(rows)]}},
        {
            "protocols": protocols,
            "explanation": explanation(rows),
            "scores": PROTOCOLS,
            "titles": TITLES,
        },
    )


def explanation(rows: Sequence[Row]) -> str:
    """Returns two sentences: what the margin is worth, and what slices of the same patients are."""
    score = {
        row["name"]: {key: number(row["scores"][key]["value"]) for key in PROTOCOLS} for row in rows
    }
    honest = score["honest"]

    def both(name: str) -> str:
        found = score[name]
        return f"IoU {found['iou_infected']:.1%} / {found['iou_background']:.1%}"

    return (
        "The figure's margin, 38 to 40 % of every picture, is labelled infected: calling it "
        f"infected without a look at the CT scores {both('margin_is_infected')} (infected / "
        f"background), and of a network's {both('paper')} a lesion IoU of "
        f"{score['paper_inside_ct']['iou_infected']:.1%} is left where only the CT counts. The "
        "split by slice besides tests on near-duplicates of training slices, where "
        f"{score['margin_ignored']['iou_infected']:.1%} is reached with the margin ignored; on "
        f"patients never seen, with the CT cut out, lesion IoU is {honest['iou_infected']:.1%}, "
        f"Dice {honest['dice_infected']:.3f} over all pixels and "
        f"{honest['dice_infected_per_image']:.3f} per slice."
    )


def _bars(rows: Sequence[Row]) -> Picture:
    values = {
        key: np.array([number(row["scores"][key]["value"]) for row in rows]) for key in PROTOCOLS
    }
    names = [TITLES[row["name"]] for row in rows]
    drawn = {PROTOCOLS[key]: values[key] for key in ("iou_infected", "dice_infected_per_image")}
    caption = (
        "Overlap of the infected region under each protocol; only the last is on unseen patients."
    )
    numbers = {"protocol": names, **values}
    png = charts.grouped_bars(names, drawn)
    return Picture("protocols", png, "", caption, "Bars: IoU and Dice per protocol", numbers)


def _read(folder: Path) -> ProtocolsFile:
    path = folder / "protocols.json"
    protocols = read_record(path, ProtocolsFile, AGAIN)
    if not protocols:
        raise InputError(f"{folder}: holds no protocols.json, run eval.py --protocols first")
    if [row["name"] for row in protocols["rows"]] != list(TITLES):
        raise InputError(f"{path}: damaged (field 'rows' must be {', '.join(TITLES)}), {AGAIN}")
    return protocols
