"""Notes on slices, from the prepared data to the table of an evaluation, a pooled one, the audit
and splits.json.
"""

import csv
import json
import shutil
from dataclasses import replace

import pytest

from covjax.data.splits.splits import read_splits
from covjax.runs import audit as audits
from covjax.runs import evaluate
from covjax.runs.audit import audit_run
from covjax.runs.evaluate import evaluate_run
from covjax.runs.pool import pool_runs
from covjax.runs.slices import open_run_data

NOTES = ("size not known", "tilted")


@pytest.fixture
def noted(trained, tmp_path, monkeypatch):
    """A copy of a run, whose first test slice has notes, and the id of that slice."""
    workdir = shutil.copytree(trained[0], tmp_path / "run")
    name = read_splits(workdir / "splits.json")["test"][0]

    def opened(config, splits, *_):
        data = open_run_data(config, splits)
        return replace(data, notes={data.ids.index(name): NOTES})

    for module in (evaluate, audits):
        monkeypatch.setattr(module, "open_run_data", opened)
    return workdir, name


def notes(workdir):
    with (workdir / "results" / "test" / "per_image.csv").open(newline="") as lines:
        return {row["id"]: row["notes"] for row in csv.DictReader(lines) if row["notes"]}


def test_notes_reach_evaluations_pools_and_audits(noted, tmp_path):
    workdir, name = noted
    assert notes(workdir) == {}
    evaluate_run(workdir)
    assert notes(workdir) == {name: "size not known; tilted"}
    splits = json.loads((workdir / "splits.json").read_text())
    people = splits["patients"]
    splits |= {"test": splits["val"], "val": splits["test"]}
    splits["patients"] = people | {"test": people["val"], "val": people["test"]}
    other = shutil.copytree(workdir, tmp_path / "other")
    (other / "splits.json").write_text(json.dumps(splits))
    evaluate_run(other)
    assert notes(other) == {}
    pool_runs([workdir, other], tmp_path / "pooled")
    assert notes(tmp_path / "pooled") == notes(workdir)
    splits = json.loads((tmp_path / "pooled" / "splits.json").read_text())
    assert splits["notes"] == {"test": {"size not known": 1, "tilted": 1}}
    audit_run(workdir, tmp_path / "audit")
    found = {
        f["name"]: f["first"]
        for f in json.loads((tmp_path / "audit" / "audit.json").read_text())["findings"]
    }
    assert found["notes"] == [[name, "size not known; tilted"]]
