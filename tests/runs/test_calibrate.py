"""Temperature and threshold are fitted on the validation split, kept in the workdir and used
everywhere.
"""

import csv
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import expit

from covjax.data.splits.splits import read_splits, split_indices
from covjax.errors import InputError, RunError
from covjax.evaluation.options import make_options
from covjax.metrics import choose_threshold, fit_temperature
from covjax.metrics.calibration import separable
from covjax.report import build_report
from covjax.runs.calibrate import check_calibration, read_calibration
from covjax.runs.evaluate import evaluate_run
from covjax.runs.pool import _calibration
from covjax.runs.slices import open_run_data
from covjax.runs.train import train_run
from covjax.screening.screener import Screener
from covjax.settings import read_settings


def read_results(workdir, split="test"):
    folder = workdir / "results" / split
    with (folder / "per_image.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    numbers = {
        k: np.array([float(r[k]) for r in rows])
        for k in ("label", "probability", "log_odds", "called")
    }
    return json.loads((folder / "summary.json").read_text()), numbers


def copied(workdir, to, **fields):
    """A copy of a finished run whose configuration sets other fields of the classifier."""
    shutil.copytree(workdir, to)
    config = json.loads((to / "config.json").read_text())
    config["classifier"] |= fields
    (to / "config.json").write_text(json.dumps(config))
    return to


@pytest.fixture(scope="module")
def calibrated(trained, tmp_path_factory):
    """(workdir, config) of the trained run, had it been asked to calibrate."""
    source, config = trained
    fields = {"calibration": "temperature", "threshold_rule": "youden"}
    workdir = copied(source, tmp_path_factory.mktemp("calibrated") / "run", **fields)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.classifier.update(fields)
    train_run(read_settings(config), workdir)
    return workdir, config


def test_fitted_on_the_validation_split_only(trained, calibrated, tmp_path):
    plain = copied(trained[0], tmp_path / "plain")
    workdir = calibrated[0]
    evaluate_run(plain, "val")
    found = json.loads((workdir / "calibration.json").read_text())
    _, val = read_results(plain, "val")
    assert found["n"] == len(val["label"]) and found["fitted_on"] == "val"
    odds = val["log_odds"]
    assert found["temperature"] == pytest.approx(fit_temperature(val["label"], odds), rel=1e-2)
    assert found["log_loss_after"] <= found["log_loss_before"] + 1e-9
    assert (
        found["separable"] == separable(val["label"], odds)
        and found["prior_sd_of_ln_temperature"] == 0.5
    )
    chosen = choose_threshold(val["label"], log_odds=odds / found["temperature"], rule="youden")
    assert found["threshold_log_odds"] == pytest.approx(chosen, abs=1e-3)
    assert found["threshold"] == pytest.approx(expit(found["threshold_log_odds"]))


def test_used_in_evaluation(trained, calibrated):
    found = json.loads((calibrated[0] / "calibration.json").read_text())
    before, plain = read_results(trained[0])
    after, rows = read_results(calibrated[0])
    np.testing.assert_allclose(
        rows["log_odds"], plain["log_odds"] / found["temperature"], rtol=1e-3
    )
    np.testing.assert_allclose(rows["probability"], expit(rows["log_odds"]), rtol=1e-7)
    np.testing.assert_array_equal(rows["called"], rows["log_odds"] >= found["threshold_log_odds"])
    section = after["classifier"]
    assert (section["threshold"], section["temperature"]) == (
        found["threshold"],
        found["temperature"],
    )
    assert (section["threshold_rule"], section["calibration"]) == ("youden", "temperature")
    assert found["threshold"] in [row["threshold"] for row in section["thresholds"]]
    assert after["two_stages"]["threshold"] == found["threshold"]
    assert section["scores"]["roc_auc"]["value"] == pytest.approx(
        before["classifier"]["scores"]["roc_auc"]["value"]
    )
    assert before["classifier"]["temperature"] == 1 and before["classifier"]["threshold"] == 0.5


def test_used_in_screening(calibrated):
    workdir, config = calibrated
    screener = Screener.from_workdir(workdir)
    fitted = read_calibration(read_settings(config).stages["classifier"], workdir)
    assert screener.stages["classifier"].calibration == fitted
    images = np.random.default_rng(0).integers(0, 256, (5, 48, 48), dtype=np.uint8)
    for found in screener.screen(images):
        assert found.infected == (found.probability >= expit(fitted.threshold))


@pytest.mark.parametrize("rule", ["specificity:1", "sensitivity:1", "specificity:0.9"])
def test_the_rule_holds_in_use(calibrated, tmp_path, rule):
    """On the very slices that it was fitted on, as evaluation and screening call them."""
    workdir = copied(calibrated[0], tmp_path / "run", threshold_rule=rule)
    config = calibrated[1]
    (workdir / "calibration.json").unlink()
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.classifier.threshold_rule = rule
    train_run(read_settings(config), workdir)
    evaluate_run(workdir, "val")
    _, rows = read_results(workdir, "val")
    name, _, level = rule.partition(":")
    of = rows["label"] == (name == "sensitivity")
    assert np.mean(rows["called"][of] == rows["label"][of]) >= float(level)
    splits = read_splits(workdir / "splits.json")
    data = open_run_data(read_settings(config), splits)
    images = [data.decode(i)[0] for i in split_indices(data, splits, "val")]
    screened = [found.infected for found in Screener.from_workdir(workdir).screen(images)]
    np.testing.assert_array_equal(screened, rows["called"])


def test_calling_nobody_is_kept_used_and_shown(calibrated, tmp_path):
    workdir = copied(calibrated[0], tmp_path / "run", threshold_rule="specificity:1")
    path = workdir / "calibration.json"
    found = json.loads(path.read_text()) | {"threshold": 1.0, "threshold_log_odds": "inf"}
    path.write_text(json.dumps(found | {"threshold_rule": "specificity:1"}))
    evaluate_run(workdir)
    summary, rows = read_results(workdir)
    assert not rows["called"].any() and summary["classifier"]["threshold_log_odds"] == "inf"
    assert summary["classifier"]["thresholds"][-1]["tp"] == 0
    assert any("No slice is called infected" in note for note in summary["classifier"]["notes"])
    text = build_report(workdir).read_text(encoding="utf-8")
    assert "threshold above all, none called" in text and "No slice is called infected" in text
    assert Screener.from_workdir(workdir).notes == tuple(summary["classifier"]["notes"])


def test_augmentation_that_the_calibration_was_not_fitted_with_is_said(
    calibrated, trained, tmp_path
):
    workdir = copied(calibrated[0], tmp_path / "run")
    options = make_options(["flips"])
    evaluate_run(workdir, options=options)
    summary, _ = read_results(workdir)
    assert any("fitted without --tta=flips" in note for note in summary["classifier"]["notes"])
    assert "fitted without --tta=flips" in build_report(workdir).read_text(encoding="utf-8")
    assert any(
        "--tta=flips" in note for note in Screener.from_workdir(workdir, options=options).notes
    )
    assert Screener.from_workdir(trained[0], options=options).notes == ()


def test_missing_or_damaged_calibration_is_not_ignored(calibrated, tmp_path):
    workdir = copied(calibrated[0], tmp_path / "copy")
    found = json.loads((workdir / "calibration.json").read_text())
    for content, error in (
        ("{", InputError),
        ('{"temperature": -1, "threshold": 0.5}', InputError),
        (json.dumps(found | {"temperature": np.inf}), InputError),
        (json.dumps(found | {"temperature": np.nan}), InputError),
        (json.dumps(found | {"threshold_log_odds": np.nan}), InputError),
        (json.dumps(found | {"checkpoint": 32 * "0"}), RunError),
        (None, RunError),
    ):
        path = workdir / "calibration.json"
        if content is None:
            path.unlink()
        else:
            path.write_text(content)
        with pytest.raises(error, match="calibration.json"):
            evaluate_run(workdir)


def test_validation_split_needs_both_classes(calibrated):
    config = calibrated[1]
    data = SimpleNamespace(labels=np.array([1, 1, 0]), ids=("a", "b", "c"))
    splits = {"train": ["c"], "val": ["a", "b"], "test": []}
    with pytest.raises(InputError, match="val split has no healthy slice"):
        check_calibration(read_settings(config), data, splits)


def test_folds_with_calibrations_of_their_own(calibrated, tmp_path):
    one, config = calibrated
    classifier = read_settings(config).stages["classifier"]
    other = copied(one, tmp_path / "other")
    found = json.loads((other / "calibration.json").read_text()) | {"temperature": 7.0}
    (other / "calibration.json").write_text(json.dumps(found))
    assert _calibration([one, one], classifier)[:2] == read_calibration(classifier, one)[:2]
    shared = _calibration([one, other], classifier)
    assert np.isnan(shared.temperature) and shared.threshold == found["threshold_log_odds"]


def test_boundary_scores_and_intervals_are_in_the_results(trained):
    folder = trained[0] / "results" / "test"
    summary = json.loads((folder / "summary.json").read_text())
    with (folder / "per_image.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert summary["segmenter"]["surface"]["unit"] == "pixels"
    for name in ("bf_score", "hd95", "assd", "nsd"):
        column = f"{name}_pixels" if name in ("hd95", "assd") else name
        values = [float(row[column]) for row in rows if row[column]]
        mean = summary["segmenter"]["scores"][f"{name}_infected_per_image"]
        assert mean["n"] == len(values) and mean["value"] == pytest.approx(
            np.mean(values), rel=1e-5
        )
    for stage in ("classifier", "segmenter", "two_stages"):
        for name, score in summary[stage]["scores"].items():
            has = "interval" in score and score["interval_method"]
            assert has or score.get("reason") or score.get("no_interval"), name
