"""Audits of a source and of a run, from their configuration and their workdir alone."""

import csv
import json

import pytest

from covjax.errors import InputError
from covjax.report import build_audit_page
from covjax.runs.audit import audit_run, audit_source
from covjax.settings import read_settings


def told(folder):
    return json.loads((folder / "audit.json").read_text())


def audited_splits(folder):
    with (folder / "slices.csv").open(newline="") as lines:
        return {row["id"]: row["split"] for row in csv.DictReader(lines)}


def test_a_source_is_divided_as_training_would_and_a_run_as_it_was(trained, tmp_path):
    workdir, config = trained
    assert not audit_source(read_settings(config), tmp_path / "source")
    assert not audit_run(workdir, tmp_path / "run")
    splits = json.loads((workdir / "splits.json").read_text())
    expected = {name: split for split in ("train", "val", "test") for name in splits[split]}
    assert audited_splits(tmp_path / "source") == expected
    assert audited_splits(tmp_path / "run") == expected
    assert told(tmp_path / "source") == told(tmp_path / "run")
    assert build_audit_page(tmp_path / "run").is_file()


def test_a_split_by_slice_is_serious(trained, tmp_path):
    config = trained[1].copy_and_resolve_references()
    with config.unlocked():
        config.split.by = "slice"
    assert audit_source(read_settings(config), tmp_path / "out")
    serious = {f["name"] for f in told(tmp_path / "out")["findings"] if f["severity"] == "serious"}
    assert "patients_across_splits" in serious


def test_data_that_cannot_be_divided_are_audited_whole(trained, tmp_path):
    config = trained[1].copy_and_resolve_references()
    with config.unlocked():
        config.data.phantom.patients = 2
    assert not audit_source(read_settings(config), tmp_path / "out")
    assert "2 patient(s) cannot be split" in told(tmp_path / "out")["split"]["problem"]
    assert set(audited_splits(tmp_path / "out").values()) == {""}


def test_folders_that_hold_something_else_are_left_alone(trained, tmp_path):
    workdir, config = trained
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", workdir):
        with pytest.raises(InputError, match="--output: .* holds no audit"):
            audit_source(read_settings(config), output)
    with pytest.raises(InputError, match="splits.json"):
        audit_run(tmp_path, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]
    for _ in range(2):
        audit_run(workdir, tmp_path / "again")
