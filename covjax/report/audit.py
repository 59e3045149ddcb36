"""The page and the short text table of an audit, drawn from the files that the audit wrote."""

import textwrap
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from covjax.errors import InputError
from covjax.records import Count
from covjax.report.charts import audit as charts
from covjax.report.page import Picture, write_page
from covjax.report.reading import Columns, read_arrays, read_record, read_table

AGAIN = "run the audit again"
SPLITS = ("train", "val", "test", "")
EXAMPLES: dict[str, int] = {  # arrays of examples.npz, and their dimensions
    **dict.fromkeys(("finding", "id", "detail", "other"), 1),
    **dict.fromkeys(("inner", "size", "other_size"), 2),
    **dict.fromkeys(("image", "mask", "other_image", "other_mask"), 3),
}
# Which chart a finding is shown with: bars of patients, a scatter of two columns, bars of labels.
OF_PATIENTS = ("patients_across_splits", "dominant_patients", "unknown_patients")
SCATTERS = {
    "size_outliers": ("width", "height", "pixels"),
    "intensity_outliers": ("mean", "std", "grey levels"),
}
AXES = {"std": "standard deviation"}
Finding = Mapping[str, Any]


class AuditFinding(TypedDict):
    """What an audit found of a kind."""

    name: str
    title: str
    severity: Literal["ok", "note", "serious"]
    count: Count
    of: Count
    text: str
    first: list[tuple[str, str]]


class AuditSplit(TypedDict, total=False):
    """How audited slices were divided, or why not."""

    by: str
    problem: str


class AuditFile(TypedDict):
    """audit.json."""

    source: str
    slices: Count
    patients: Count
    split: AuditSplit
    findings: list[AuditFinding]


@dataclass(frozen=True)
class Audit:
    """An audit's folder: audit.json, the columns of slices.csv, the arrays of examples.npz."""

    summary: AuditFile
    slices: Columns
    examples: Columns


def audit_table(folder: Path) -> str:
    """Returns what an audit found as plain text, worst first. Raises as `build_audit_page`."""
    summary = _read_summary(Path(folder))
    found = [f for f in summary["findings"] if f["severity"] != "ok"]
    lines = [f"{f['severity']:8}{f['title']}: {f['count']:,} of {f['of']:,}" for f in found]
    clean = [f["title"].lower() for f in summary["findings"] if f["severity"] == "ok"]
    lines += [f"{'ok':8}none of: {', '.join(clean)}"] if clean else []
    split = summary["split"].get("problem")
    lines += [f"{'':8}not divided: {split}"] if split else []
    patients = f"{summary['patients']:,} known patients"
    lines = [textwrap.fill(line, 100, subsequent_indent=8 * " ") for line in lines]
    return "\n".join([f"{summary['source']}: {summary['slices']:,} slices, {patients}", *lines])


def build_audit_page(folder: Path) -> Path:
    """Writes FOLDER/index.html, self-contained, and its figures; returns the page's path.

    Raises InputError if the folder holds no audit or a damaged file.
    """
    audit = _read(Path(folder))
    summary = audit.summary
    figures = {"data": {"": [_patients(audit), _labels(audit)]}}
    for finding in summary["findings"]:
        if finding["severity"] != "ok":
            name = finding["name"]
            figures[name] = {"": _charts(audit, finding)}
            figures[f"{name} examples"] = {"": _examples(finding, audit.examples)}
    values = {"audit": summary, "counts": _labels_by_split(audit)}
    return write_page(Path(folder), "audit.html", figures, values)


def _read_summary(folder: Path) -> AuditFile:
    summary = read_record(folder / "audit.json", AuditFile, AGAIN)
    if not summary:
        raise InputError(f"{folder}: holds no audit (audit.json), run eval.py --audit first")
    return summary


def _read(folder: Path) -> Audit:
    numbers = ("label", "height", "width", "mean", "std")
    slices = read_table(folder / "slices.csv", ("id", "patient", "split"), numbers, AGAIN)
    summary = _read_summary(folder)
    if slices is None:
        raise InputError(f"{folder / 'slices.csv'}: missing, {AGAIN}")
    examples = read_arrays(folder / "examples.npz", EXAMPLES, AGAIN)
    if examples is None:
        raise InputError(f"{folder / 'examples.npz'}: missing, {AGAIN}")
    return Audit(summary, slices, examples)


def _labels_by_split(audit: Audit) -> dict[str, list[int]]:
    """Returns how many slices of each split are healthy and infected."""
    found = Counter(zip(audit.slices["split"], audit.slices["label"].astype(int), strict=True))
    counts = {split: [found[split, 0], found[split, 1]] for split in SPLITS}
    return {split: pair for split, pair in counts.items() if any(pair)}


def _charts(audit: Audit, finding: Finding) -> list[Picture | None]:
    name = finding["name"]
    if name in OF_PATIENTS:
        return [_patients(audit)]
    if name in SCATTERS:
        return [_scatter(audit, finding, *SCATTERS[name])]
    return [_labels(audit)] if name == "label_imbalance" else []


def _patients(audit: Audit) -> Picture | None:
    if not any(audit.slices["patient"]):
        return None
    return Picture(
        "audit_patients",
        charts.patient_bars(audit.slices["patient"], audit.slices["split"]),
        "",
        "Slices of each patient, and the splits they are in. Every patient should be in one split "
        "only.",
        "Bars: slices per patient and split",
        _counts(audit, "patient", "split"),
    )


def _labels(audit: Audit) -> Picture:
    return Picture(
        "audit_labels",
        charts.label_bars(audit.slices["label"], audit.slices["split"]),
        "",
        "Healthy and infected slices of each split.",
        "Bars: slices per label and split",
        _counts(audit, "split", "label"),
    )


def _counts(audit: Audit, *names: str) -> dict[str, list[Any]]:
    counts = Counter(zip(*(audit.slices[name] for name in names), strict=True))
    columns = {name: [key[k] for key in counts] for k, name in enumerate(names)}
    return columns | {"slices": list(counts.values())}


def _scatter(audit: Audit, finding: Finding, x: str, y: str, unit: str) -> Picture:
    slices = audit.slices
    marked = np.isin(slices["id"], [name for name, _ in finding["first"]])
    titles = [f"{AXES.get(name, name)} [{unit}]" for name in (x, y)]
    return Picture(
        f"audit_{finding['name']}_scatter",
        charts.scatter(slices[x], slices[y], marked, *titles),
        "",
        "Every slice; crosses are the first of those found.",
        f"Scatter of {x} and {y}",
        {name: slices[name] for name in ("id", x, y)},
    )


def _examples(finding: Finding, examples: Columns) -> list[Picture]:
    pictures = []
    for place, i in enumerate(np.flatnonzero(examples["finding"] == finding["name"]), start=1):
        name, other, detail = (str(examples[key][i]) for key in ("id", "other", "detail"))
        sides = [_crop(examples, int(i), which) for which in ("", "other_")[: 2 if other else 1]]
        frame = examples["inner"][i] if finding["name"] == "margin_labels" else None
        shown = f"{name} (left) and {other} (right)" if other else name
        pictures.append(
            Picture(
                f"audit_{finding['name']}_example_{place}",
                charts.example(sides, frame),
                shown,
                detail,
                f"Slice {shown}",
                {"id": [name], "other": [other], "detail": [detail]},
            )
        )
    return pictures


def _crop(examples: Columns, i: int, which: str) -> tuple[NDArray[Any], NDArray[Any]]:
    height, width = examples[f"{which}size"][i]
    image, mask = (examples[f"{which}{kind}"][i, :height, :width] for kind in ("image", "mask"))
    return image, mask
