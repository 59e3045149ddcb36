"""The page and the short text table of an audit, drawn from the files that the audit wrote."""

import textwrap
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from covjax.errors import InputError
from covjax.report import audit_plots
from covjax.report.html import banner, write_page
from covjax.report.page import SPLIT_RULES
from covjax.report.parts import Picture, Section, details, split_title, table
from covjax.report.results import read_arrays, read_json, read_table

SEVERITIES = {"serious": "serious", "note": "note", "ok": ""}
PARTS = ("train", "val", "test")
EXAMPLES = dict.fromkeys(("finding", "id", "detail", "other"), 1)
EXAMPLES |= dict.fromkeys(("inner", "size", "other_size"), 2)
EXAMPLES |= dict.fromkeys(("image", "mask", "other_image", "other_mask"), 3)


@dataclass(frozen=True)
class Audit:
    """The files of an audit's folder: audit.json, the columns of slices.csv, the arrays of
    examples.npz.
    """

    told: Mapping[str, Any]
    slices: Mapping[str, Any]
    examples: Mapping[str, np.ndarray]


def audit_table(folder: Path) -> str:
    """Returns what an audit found as aligned plain text, worst first. Raises InputError as
    `build_audit_page`.
    """
    told = _read_told(Path(folder))
    found = [f for f in told["findings"] if f["severity"] != "ok"]
    lines = [f"{f['severity']:8}{f['title']}: {f['count']:,} of {f['of']:,}" for f in found]
    clean = ", ".join(f["title"].lower() for f in told["findings"] if f["severity"] == "ok")
    lines += [f"{'ok':8}none of: {clean}"] if clean else []
    split = told["split"].get("problem")
    lines += [f"{'':8}not divided: {split}"] if split else []
    lines = [textwrap.fill(line, 100, subsequent_indent=8 * " ") for line in lines]
    return "\n".join(
        [
            f"{told['source']}: {told['slices']:,} slices, {told['patients']:,} known patients",
            *lines,
        ]
    )


def build_audit_page(folder: Path) -> Path:
    """Writes FOLDER/index.html, self-contained, and its figures beside it, and returns the page's
    path.

    Raises InputError if the folder holds no audit or a damaged file.
    """
    audit = _read(Path(folder))
    told = audit.told
    found = [f for f in told["findings"] if f["severity"] != "ok"]
    sections = [_overview(told), _data(audit), *(_section(f, audit) for f in found)]
    title = f"covjax audit: {told['source']}"
    version = str(told.get("covjax", ""))
    return write_page(Path(folder), title, _header(told), sections, version)


def _read_told(folder: Path) -> dict[str, Any]:
    told = read_json(folder / "audit.json")
    if not told:
        raise InputError(f"{folder}: holds no audit (audit.json), run eval.py --audit first")
    fields = {"source": str, "slices": int, "patients": int, "split": dict, "findings": list}
    wrong = [name for name, kind in fields.items() if not isinstance(told.get(name), kind)]
    if wrong:
        raise InputError(
            f"{folder / 'audit.json'}: field '{wrong[0]}' is missing or damaged, run the audit again"
        )
    return told


def _read(folder: Path) -> Audit:
    numbers = ("label", "height", "width", "mean", "std")
    slices = read_table(folder / "slices.csv", ("id", "patient", "part"), numbers)
    told = _read_told(folder)
    if slices is None:
        raise InputError(f"{folder / 'slices.csv'}: missing, run the audit again")
    examples = read_arrays(folder / "examples.npz", EXAMPLES)
    if examples is None:
        raise InputError(f"{folder / 'examples.npz'}: missing, run the audit again")
    return Audit(told, slices, examples)


def _header(told: Mapping[str, Any]) -> str:
    count = {s: sum(f["severity"] == s for f in told["findings"]) for s in SEVERITIES}
    split = told["split"]
    facts = {
        "Slices": f"{told['slices']:,}",
        "Patients": f"{told['patients']:,} known",
        "Split": SPLIT_RULES.get(split.get("by"), split.get("by"))
        or f"none: {split.get('problem', 'not recorded')}",
        "Found": f"{count['serious']} serious, {count['note']} to note, {count['ok']} checks found nothing",
    }
    listed = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items()
    )
    serious = ", ".join(f["title"].lower() for f in told["findings"] if f["severity"] == "serious")
    warning = (
        banner("Scores from these data cannot be trusted yet", f"{escape(serious)}.")
        if serious
        else ""
    )
    return f"<h1>Data audit: {escape(told['source'])}</h1>{warning}<dl>{listed}</dl>"


def _overview(told: Mapping[str, Any]) -> Section:
    rows = [
        [
            escape(f["title"]),
            SEVERITIES[f["severity"]],
            f"{f['count']:,} of {f['of']:,}" if f["count"] else "nothing",
        ]
        for f in told["findings"]
    ]
    return Section("What was looked for", [table(["Check", "Severity", "Found"], rows)])


def _data(audit: Audit) -> Section:
    part = np.array(audit.slices["part"], str)
    label = audit.slices["label"]
    rows = []
    for name in (*PARTS, ""):
        counts = [int(((part == name) & (label == k)).sum()) for k in (0, 1)]
        if any(counts):
            rows.append(
                [
                    escape(split_title(name) or "not divided"),
                    *(f"{n:,}" for n in (*counts, sum(counts))),
                ]
            )
    parts = table(["Part", "Healthy", "Infected", "All slices"], rows)
    return Section("Data", [parts, [*_patients(audit), *_labels(audit)]])


def _section(finding: Mapping[str, Any], audit: Audit) -> Section:
    rows = [[escape(str(name)), escape(str(detail))] for name, detail in finding["first"]]
    more = (
        f"The first {len(rows)}; all are in findings.csv"
        if len(rows) < finding["count"]
        else "Concerned"
    )
    listed = details(more, table(["Slice or patient", "Detail"], rows, numbers=False))
    intro = (
        f"<p><strong>{finding['severity'].capitalize()}: {finding['count']:,} of {finding['of']:,}.</strong> "
        f"{escape(finding['text'])}</p>"
    )
    chart = CHARTS.get(finding["name"], lambda audit, finding: [])(audit, finding)
    return Section(finding["title"], [intro, chart, _examples(finding, audit.examples), listed])


def _patients(audit: Audit, finding: Mapping[str, Any] | None = None) -> list[Picture]:
    if not any(audit.slices["patient"]):
        return []
    png = audit_plots.patient_bars(audit.slices["patient"], np.array(audit.slices["part"], str))
    caption = "Slices of each patient, and the parts they are in. Every patient should be in one part only."
    numbers = _count(audit, "patient", "part")
    return [Picture("audit_patients", png, caption, "Bars: slices per patient and part", numbers)]


def _labels(audit: Audit, finding: Mapping[str, Any] | None = None) -> list[Picture]:
    png = audit_plots.label_bars(audit.slices["label"], np.array(audit.slices["part"], str))
    caption = "Healthy and infected slices of each part."
    alt = "Bars: slices per label and part"
    return [Picture("audit_labels", png, caption, alt, _count(audit, "part", "label"))]


def _count(audit: Audit, *names: str) -> dict[str, list]:
    counts = Counter(zip(*(audit.slices[name] for name in names), strict=True))
    return {name: [key[k] for key in counts] for k, name in enumerate(names)} | {
        "slices": list(counts.values())
    }


def _sizes(audit: Audit, finding: Mapping[str, Any]) -> list[Picture]:
    return [
        _scatter(audit.slices, "width", "height", ("width [pixels]", "height [pixels]"), finding)
    ]


def _intensities(audit: Audit, finding: Mapping[str, Any]) -> list[Picture]:
    labels = ("mean [grey levels]", "standard deviation [grey levels]")
    return [_scatter(audit.slices, "mean", "std", labels, finding)]


def _scatter(
    slices: Mapping[str, Any], x: str, y: str, labels: tuple[str, str], finding: Mapping[str, Any]
) -> Picture:
    first = {row[0] for row in finding["first"]}
    png = audit_plots.scatter(
        slices[x], slices[y], np.array([i in first for i in slices["id"]]), *labels
    )
    caption = "Every slice; crosses are the first of those found."
    numbers = {"id": slices["id"], x: slices[x], y: slices[y]}
    return Picture(
        f"audit_{finding['name']}_scatter", png, caption, f"Scatter of {x} and {y}", numbers
    )


CHARTS = {
    "patients_across_parts": _patients,
    "dominant_patients": _patients,
    "unknown_patients": _patients,
    "label_imbalance": _labels,
    "size_outliers": _sizes,
    "intensity_outliers": _intensities,
}


def _examples(finding: Mapping[str, Any], examples: Mapping[str, np.ndarray]) -> list[Picture]:
    pictures = []
    for place, i in enumerate(np.flatnonzero(examples["finding"] == finding["name"]), start=1):
        name, other, detail = (str(examples[key][i]) for key in ("id", "other", "detail"))
        sides = [_crop(examples, i, ""), *([_crop(examples, i, "other_")] if other else [])]
        png = audit_plots.example(
            sides, examples["inner"][i] if finding["name"] == "margin_labels" else None
        )
        shown = f"{name} (left) and {other} (right)" if other else name
        caption = f"<strong>{escape(shown)}</strong><br>{escape(detail)}"
        numbers = {"id": [name], "other": [other], "detail": [detail]}
        figure = f"audit_{finding['name']}_example_{place}"
        pictures.append(Picture(figure, png, caption, f"Slice {shown}", numbers))
    return pictures


def _crop(examples: Mapping[str, np.ndarray], i: int, which: str) -> tuple[np.ndarray, np.ndarray]:
    height, width = examples[f"{which}size"][i]
    return tuple(examples[f"{which}{kind}"][i, :height, :width] for kind in ("image", "mask"))
