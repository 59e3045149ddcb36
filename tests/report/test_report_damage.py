"""Damaged results are named, and a failure leaves the report that is there."""

import errno
import os
import re
from pathlib import Path

import pytest

from covjax.errors import InputError
from covjax.report import build_report, summary_table
from tests.report.runs import (
    write_classifier,
    write_full,
    write_run,
)  # fmt: skip


@pytest.fixture
def full(tmp_path: Path) -> Path:
    write_full(tmp_path)
    return tmp_path


def test_missing_results_are_named(tmp_path):
    for workdir in (tmp_path, tmp_path / "nowhere"):
        for make in (build_report, summary_table):
            with pytest.raises(
                InputError, match=f"^{re.escape(str(workdir))}: .*train or evaluate first"
            ):
                make(workdir)
    assert not (tmp_path / "report").exists()
    write_run(tmp_path)
    with pytest.raises(InputError, match="evaluate first"):
        summary_table(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("environment.json", b"[1]"),
        ("results/test/summary.json", b'{"classifier": {"scores": 3}}'),
        ("results/test/summary.json", b'{"classifier": 3}'),
        ("results/test/summary.json", b'{"classifier": {"scores": {}, "confusion": [[1, 2]]}}'),
        ("results/test/per_image.csv", b"id,iou\n"),
        ("results/test/per_image.csv", b"id,dice,predicted_share\na,x,1\n"),
        ("results/test/per_patient.csv", b"patient\n"),
        ("results/test/examples.npz", b"PK"),
        ("results/test/features.npz", b""),
        ("results/test/explain.npz", b"PK"),
        ("metrics.jsonl", b'{"stage"\n{"stage": "a", "epoch": 1}\n'),
    ],
)
def test_damaged_files_are_named_and_leave_the_report_alone(full, name, content, undrawn):
    (full / "report").mkdir()
    (full / "report" / "index.html").write_bytes(b"earlier")
    (full / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(name)):
        build_report(full)
    assert {path.name: path.read_bytes() for path in (full / "report").iterdir()} == {
        "index.html": b"earlier"
    }


@pytest.mark.parametrize(("module", "function"), [(Path, "replace"), (os, "fsync")])
def test_failure_while_writing_leaves_the_report_alone(
    tmp_path, monkeypatch, module, function, undrawn
):
    write_classifier(tmp_path)
    assert build_report(tmp_path) == tmp_path / "report" / "index.html"
    before = {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()}
    write_run(tmp_path)

    def full_disk(*arguments):
        raise OSError(errno.ENOSPC, "no space left on device")

    with (
        monkeypatch.context() as patch,
        pytest.raises(InputError, match=r"\.(png|html|md): cannot be written \(no space"),
    ):
        patch.setattr(module, function, full_disk)
        build_report(tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()} == before


def test_figures_of_an_earlier_report_go_and_other_files_stay(tmp_path, undrawn):
    write_run(tmp_path)
    write_classifier(tmp_path)
    build_report(tmp_path)
    (tmp_path / "report" / "my_notes.png").write_bytes(b"mine")
    (tmp_path / "results" / "test" / "summary.json").unlink()
    build_report(tmp_path)
    left = {path.name for path in (tmp_path / "report").iterdir()}
    assert left == {"my_notes.png", "index.html", "model_card.md"} | {
        f"training_{curve}.{kind}"
        for kind in ("png", "csv")
        for curve in (
            "classifier_loss",
            "classifier_mcc",
            "segmenter_loss",
            "segmenter_dice_infected_at_network_size",
        )
    }
