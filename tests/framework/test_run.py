"""A run in its workdir: what it writes, and that it can be evaluated again from the workdir alone."""

import csv
import json
import shutil

import numpy as np
import pytest

from covjax.data.splits import read_splits
from covjax.errors import InputError, RunError
from covjax.framework import evaluate_run, train_run


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_workdir_holds_what_the_design_promises(trained):
    workdir, _ = trained
    files = {p.relative_to(workdir).as_posix() for p in workdir.rglob("*")}
    results = {f"results/{name}" for name in (
        "classifier_test.json", "classifier_test.csv", "segmenter_test.json", "segmenter_test.csv", "timing.json",
        "framework_test.json", "framework_test.csv", "framework_test_patients.csv", "segmenter_test_examples.npz",
    )}  # fmt: skip
    expected = {"config.json", "splits.json", "environment.json", "metrics.jsonl", "statistics_classifier.json"}
    assert expected | results <= files
    assert not [f for f in files if "partial" in f]


def test_tables_agree_with_scores_and_splits(trained):
    workdir, _ = trained
    test_ids = read_splits(workdir / "splits.json")["test"]
    table = read_csv(workdir / "results" / "classifier_test.csv")
    assert [row["id"] for row in table] == test_ids
    right = np.mean([row["label"] == row["predicted"] for row in table])
    scores = read_json(workdir / "results" / "classifier_test.json")["scores"]
    assert scores["accuracy"]["value"] == pytest.approx(right)
    assert scores["accuracy"]["n"] == len(test_ids)
    infected = [row["id"] for row in table if row["label"] == "1"]
    assert [row["id"] for row in read_csv(workdir / "results" / "segmenter_test.csv")] == infected


def test_framework_counts_every_slice_of_the_part(trained):
    workdir, _ = trained
    value = read_json(workdir / "results" / "framework_test.json")
    rows = read_csv(workdir / "results" / "framework_test.csv")
    assert value["n"] == len(rows) == len(read_splits(workdir / "splits.json")["test"])
    assert np.sum(value["confusion"]) == len(rows) * 32 * 40
    missed = [r for r in rows if r["label"] == "1" and r["called_infected"] == "0"]
    infected = [r for r in rows if r["label"] == "1"]
    assert value["scores"]["missed_infected_slices"]["value"] == pytest.approx(len(missed) / len(infected))
    assert all(float(r["predicted_share"]) == 0 for r in rows if r["called_infected"] == "0")
    patients = read_csv(workdir / "results" / "framework_test_patients.csv")
    assert sum(int(p["slices"]) for p in patients) == len(rows)


def test_evaluation_needs_the_workdir_only_and_does_not_depend_on_the_batch(trained):
    workdir, _ = trained
    results = workdir / "results"
    before = {p.name: p.read_text() for p in results.glob("*_test.csv")}
    confusion = read_json(results / "segmenter_test.json")["confusion"]
    evaluate_run(workdir, "test", batch_size=3)
    assert read_json(results / "segmenter_test.json")["confusion"] == confusion
    for name in ("framework_test.csv", "segmenter_test.csv"):
        for row, old in zip(read_csv(results / name), csv.DictReader(before[name].splitlines()), strict=True):
            assert row["dice"] == old["dice"]


def test_other_parts_can_be_evaluated(trained):
    workdir, _ = trained
    evaluate_run(workdir, "val")
    slices = len(read_splits(workdir / "splits.json")["val"])
    assert read_json(workdir / "results" / "classifier_val.json")["n"] == slices
    with pytest.raises(InputError, match="holdout"):
        evaluate_run(workdir, "holdout")


def test_running_a_finished_run_again_trains_nothing(trained):
    workdir, config = trained
    history = (workdir / "metrics.jsonl").read_text()
    train_run(config, workdir)
    assert (workdir / "metrics.jsonl").read_text() == history


def test_evaluation_never_uses_random_weights(trained, tmp_path):
    workdir, _ = trained
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    shutil.rmtree(copy / "checkpoints" / "segmenter" / "best")
    with pytest.raises(RunError, match="no checkpoint"):
        evaluate_run(copy)
    (copy / "config.json").unlink()
    with pytest.raises(InputError, match="not the workdir of a run"):
        evaluate_run(copy)


def test_another_configuration_is_refused(trained):
    workdir, config = trained
    other = config.copy_and_resolve_references()
    with other.unlocked():
        other.classifier.optimizer.learning_rate = 0.5
    with pytest.raises(InputError, match=r"classifier.optimizer.learning_rate.*--workdir"):
        train_run(other, workdir)
