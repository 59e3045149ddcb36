"""The page of an audit: complete, self-contained, and safe whatever names the data bring."""

import csv
import json
import re
from html import escape

import numpy as np
import pytest

from covjax.audit import find, write_audit
from covjax.audit.measure import measure
from covjax.data.sources.source import Slice
from covjax.errors import InputError
from covjax.report import audit_table, build_audit_page

HOSTILE = '<script>alert(1)</script>"&\n$\\frac{a'


def write(folder, name="s", patient="p", faults=True):
    """Audits 24 slices with a fault of every kind and writes the files."""
    rng = np.random.default_rng(0)
    slices = []
    for i in range(24):
        image = rng.integers(30, 200, (40, 36), np.uint8)
        mask = np.zeros((40, 36), np.uint8)
        mask[5:9, 5:9] = i % 2
        slices.append(Slice(f"{name}{i}", image, mask, i % 2, f"{patient}{i // 4}", ""))
    if faults:
        # infected, called healthy
        slices[20] = slices[20]._replace(image=slices[1].image, mask=slices[1].mask)
        slices[3] = slices[3]._replace(
            mask=np.zeros((40, 36), np.uint8), image=np.full((40, 36), 9, np.uint8)
        )
        slices[5] = slices[5]._replace(mask=np.ones((40, 36), np.uint8), patient="")
        slices[7] = slices[7]._replace(image=rng.integers(30, 200, (400, 90), np.uint8), mask=None)
        figure = np.full((40, 36), 255, np.uint8)
        labelled = np.ones((40, 36), np.uint8)
        figure[8:30, 8:30] = slices[9].image[:22, :22]
        labelled[8:30, 8:30] = 0
        slices[9] = slices[9]._replace(image=figure, mask=labelled)
    ids = [s.id for s in slices] + [f"{name}bad"] * faults

    def load(i):
        if i == len(slices):
            raise InputError(f"{name}bad.png: damaged")
        return slices[i]

    m = measure("folder", "f", ids, load)
    splits = np.array(["train"] * 16 + ["val"] * 4 + ["test"] * 4)
    if faults:
        splits[0] = "test"
    write_audit(
        folder,
        m,
        find(m, splits),
        splits,
        {"by": "patient", "seed": 0},
        dict(zip(ids, slices, strict=False)).get,
    )
    return json.loads((folder / "audit.json").read_text())


def test_page_shows_every_finding(tmp_path):
    told = write(tmp_path)
    page = build_audit_page(tmp_path)
    text = page.read_text(encoding="utf-8")
    found = [f for f in told["findings"] if f["severity"] != "ok"]
    assert len(found) >= 10
    for finding in told["findings"]:
        assert escape(finding["title"]) in text
        assert ("<h2 id" in text) and (
            (f">{escape(finding['title'])}</h2>" in text) == (finding["severity"] != "ok")
        )
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    figures = {p.stem for p in tmp_path.glob("audit_*.png")}
    assert text.count("data:image/png") >= len(figures) > 10
    assert {"audit_margin_labels_example_1", "audit_size_outliers_scatter"} <= figures
    assert figures == {p.stem for p in tmp_path.glob("audit_*.csv")}
    with (tmp_path / "findings.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert {row["finding"] for row in rows} >= {f["name"] for f in found} - {"label_imbalance"}


def test_table(tmp_path):
    write(tmp_path)
    table = audit_table(tmp_path)
    assert re.search(r"^serious Labels in a constant image border: 1 of \d+$", table, re.M)
    assert table.startswith("folder: 24 slices, 6 known patients") and "none of: " in table
    assert max(map(len, table.splitlines())) <= 100


def test_nothing_found(tmp_path):
    write(tmp_path, faults=False)
    text = build_audit_page(tmp_path).read_text(encoding="utf-8")
    assert "cannot be trusted" not in text and "0 serious, 0 to note" in text
    assert "serious" not in audit_table(tmp_path)


def test_figures_of_an_earlier_audit_are_gone(tmp_path):
    write(tmp_path)
    build_audit_page(tmp_path)
    write(tmp_path, faults=False)
    build_audit_page(tmp_path)
    assert {p.name for p in tmp_path.glob("audit_*.png")} == {
        "audit_patients.png",
        "audit_labels.png",
    }


def test_hostile_names(tmp_path):
    write(tmp_path, name=HOSTILE, patient=HOSTILE)
    text = build_audit_page(tmp_path).read_text(encoding="utf-8")
    assert "<script" not in text and escape("<script>alert(1)</script>") in text


def test_damaged_files(tmp_path):
    with pytest.raises(InputError, match="holds no audit"):
        audit_table(tmp_path)
    for name, content, words in (
        ("audit.json", b"{}x", r"damaged \(Extra data"),
        ("audit.json", b'{"source": "x"}', "field 'slices'"),
        ("slices.csv", b"id\n", "column 'patient' is missing"),
        ("examples.npz", b"PK", r"damaged \("),
    ):
        write(tmp_path)
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: .*{words}"):
            build_audit_page(tmp_path)
        assert not (tmp_path / "index.html").exists()
