"""A run in its workdir: what it writes, and that it can be evaluated again from the workdir
alone.
"""

import json
import shutil

import jax
import numpy as np
import pytest

from covjax.data.splits.splits import read_splits
from covjax.errors import InputError, RunError
from covjax.metrics import DEFINITIONS
from covjax.runs import evaluate
from covjax.runs.evaluate import evaluate_run
from covjax.runs.train import _record_environment, train_run
from covjax.settings import read_settings
from tests.result_files import read_csv
from tests.trained import tiny_config


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_workdir_holds_what_the_design_promises(trained):
    workdir, _ = trained
    files = {p.relative_to(workdir).as_posix() for p in workdir.rglob("*")}
    results = {f"results/test/{name}" for name in (
        "summary.json", "per_image.csv", "per_patient.csv", "examples.npz",
    )}  # fmt: skip
    expected = {
        "config.json",
        "splits.json",
        "environment.json",
        "metrics.jsonl",
        "statistics_classifier.json",
    }
    assert expected | results | {"results/timing.json"} <= files
    assert not [f for f in files if "partial" in f]


def test_tables_agree_with_scores_and_splits(trained):
    workdir, _ = trained
    test_ids = read_splits(workdir / "splits.json")["test"]
    table = read_csv(workdir / "results" / "test" / "per_image.csv")
    assert [row["id"] for row in table] == test_ids
    right = np.mean([row["label"] == row["called"] for row in table])
    summary = read_json(workdir / "results" / "test" / "summary.json")
    assert (summary["definitions"], summary["split"], summary["options"]) == (
        DEFINITIONS,
        "test",
        {},
    )
    accuracy = summary["classifier"]["scores"]["accuracy"]
    assert accuracy["value"] == pytest.approx(right)
    assert accuracy["n"] == len(test_ids)
    assert [row["predicted_share"] != "" for row in table] == [row["label"] == "1" for row in table]
    for name, stage in (("dice", "segmenter"), ("two_stages_dice", "two_stages")):
        mean = summary[stage]["scores"]["dice_infected_per_image"]
        dice = [float(row[name]) for row in table if row[name]]
        assert mean["n"] == len(dice) and mean["value"] == pytest.approx(np.mean(dice), rel=1e-7)


def test_two_stages_count_every_slice_of_the_split(trained):
    workdir, _ = trained
    value = read_json(workdir / "results" / "test" / "summary.json")["two_stages"]
    rows = read_csv(workdir / "results" / "test" / "per_image.csv")
    assert value["n"] == len(rows) == len(read_splits(workdir / "splits.json")["test"])
    assert np.sum(value["confusion"]) == len(rows) * 48 * 48  # in the slices' own size
    missed = [r for r in rows if r["label"] == "1" and r["called"] == "0"]
    infected = [r for r in rows if r["label"] == "1"]
    assert value["scores"]["missed_infected_slices"]["value"] == pytest.approx(
        len(missed) / len(infected)
    )
    assert all(float(r["two_stages_predicted_share"]) == 0 for r in rows if r["called"] == "0")
    patients = read_csv(workdir / "results" / "test" / "per_patient.csv")
    assert sum(int(p["slices"]) for p in patients) == len(rows)
    share = sum(float(p["true_share"]) * int(p["slices"]) for p in patients)
    assert share == pytest.approx(sum(float(r["true_share"]) for r in rows), rel=1e-6)


def test_evaluation_needs_the_workdir_only_and_does_not_depend_on_the_batch(trained):
    workdir, _ = trained
    results = workdir / "results" / "test"
    before = read_csv(results / "per_image.csv")
    confusion = read_json(results / "summary.json")["segmenter"]["confusion"]
    evaluate_run(workdir, "test", batch_size=3)
    assert read_json(results / "summary.json")["segmenter"]["confusion"] == confusion
    for row, old in zip(read_csv(results / "per_image.csv"), before, strict=True):
        assert (row["dice"], row["two_stages_dice"]) == (old["dice"], old["two_stages_dice"])


def test_failed_evaluation_leaves_the_former_results(trained, monkeypatch):
    workdir, _ = trained

    def files():
        return {p.name: p.read_bytes() for p in (workdir / "results").rglob("*") if p.is_file()}

    (workdir / "results" / "test" / "explain.npz").write_bytes(b"of an earlier evaluation")
    before = files()
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "evaluate_two_stages", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate_run(workdir)
    assert files() == before
    evaluate_run(workdir)
    assert files().keys() == before.keys() - {"explain.npz"}


def test_other_splits_can_be_evaluated(trained):
    workdir, _ = trained
    evaluate_run(workdir, "val")
    slices = len(read_splits(workdir / "splits.json")["val"])
    assert read_json(workdir / "results" / "val" / "summary.json")["classifier"]["n"] == slices
    with pytest.raises(InputError, match="holdout"):
        evaluate_run(workdir, "holdout")


def test_running_a_finished_run_again_trains_nothing(trained):
    workdir, config = trained
    history = (workdir / "metrics.jsonl").read_text()
    train_run(read_settings(config), workdir)
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
        train_run(read_settings(other), workdir)


def test_a_batch_that_devices_cannot_share_is_refused_before_anything_is_written(
    tmp_path, monkeypatch
):
    config = tiny_config(tmp_path)
    monkeypatch.setattr(jax, "device_count", lambda: 3)
    with pytest.raises(InputError, match="classifier.batch_size: 4 is not a multiple of the 3"):
        train_run(read_settings(config), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_run_says_where_the_same_bits_are_not_promised(tmp_path, caplog):
    config = tiny_config(tmp_path)
    _record_environment(read_settings(config), tmp_path)
    _record_environment(read_settings(config), tmp_path)
    assert read_json(tmp_path / "environment.json")["changes"] == [] and not caplog.records
    changed = read_json(tmp_path / "environment.json") | {"jax": "0.9.0", "devices": ["cpu"] * 3}
    (tmp_path / "environment.json").write_text(json.dumps(changed))
    config.classifier.remat = True
    _record_environment(read_settings(config), tmp_path)
    (warning,) = caplog.messages
    assert "not to the same bits" in warning and "it was ['cpu', 'cpu', 'cpu']" in warning
    found = read_json(tmp_path / "environment.json")["changes"]
    assert [line.split()[0] for line in found] == ["jax", "devices", "remat"]
    _record_environment(read_settings(config), tmp_path)
    assert read_json(tmp_path / "environment.json")["changes"] == found


def test_statistics_of_another_training_are_refused(trained, tmp_path):
    workdir = shutil.copytree(trained[0], tmp_path / "run")
    path = workdir / "statistics_classifier.json"
    path.write_text(json.dumps(read_json(path) | {"mean": [100.0]}))
    for use in (evaluate_run, lambda folder: train_run(read_settings(trained[1]), folder)):
        with pytest.raises(RunError, match="other statistics than those in statistics_classifier"):
            use(workdir)
