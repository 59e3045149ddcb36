"""A task that covjax does not know, defined here alone: how much of a slice is infected, in three
classes.

It is trained, evaluated and reported by the commands, as a user would.
"""

import json
import shutil
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest

from covjax import Screener, stages
from covjax.data.label_map import IGNORE
from covjax.errors import InputError
from covjax.fields import section, setting
from covjax.metrics.means import share_score
from covjax.preprocess.settings import InputSettings
from covjax.stages.settings import SELECTIONS, ModelSettings, StageSettings
from covjax.stages.task import Task
from tests.report.runs import Page

CLASSES = ("none", "mild", "severe")
SEVERE = 0.035  # share of the slice from which an infection is severe
REGISTER = """
from covjax.stages import TASKS
from tests.test_third_task import severity_task

TASKS["severity"] = severity_task
"""
CONFIG = """
from covjax.settings import default_config


def get_config():
    config = default_config("severity").unlock()
    config.data.phantom.update(patients=8, slices_per_patient=5, size=48)
    return config.lock()
"""


@dataclass(frozen=True)
class SeveritySettings(StageSettings):
    """A small network on small slices."""

    model: ModelSettings = section(ModelSettings, name="cov_ctnet")
    input: InputSettings = section(InputSettings, size=(32, 32), slice_size=(48, 48))
    batch_size: int = setting(4, "slices of a step")
    slices: str = setting("all", "which slices to work on", choices=SELECTIONS)


def severity_task(_):
    return Task(
        settings=SeveritySettings,
        classes=CLASSES,
        truth=_truth,
        rows=_rows,
        scores=_scores,
        best="right_severity",
        section=_section,
        columns=_columns,
        needs_masks=True,
        selection=_selection,
    )


def _truth(batch):
    mask = batch["mask"]
    infected = ((mask > 0) & (mask != IGNORE)).sum((1, 2))
    counted = (mask != IGNORE).sum((1, 2))
    return (infected > 0).astype(jnp.int32) + (infected >= SEVERE * counted)


def _rows(logits, truth):
    return {"severity": truth, "predicted_severity": logits.argmax(-1)}


def _scores(rows, threshold, patients):
    patients = patients or [""] * len(rows["severity"])
    off = np.abs(rows["severity"] - rows["predicted_severity"])
    return {
        "right_severity": share_score(off == 0, patients, "no slice"),
        "nearly_right_severity": share_score(off <= 1, patients, "no slice"),
    }


def _section(stage, rows, unit):
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (rows["severity"], rows["predicted_severity"]), 1)
    return {"slices": stage.config.slices, "confusion": confusion.tolist()}


def _columns(stage, rows, unit):
    return {name: rows[name] for name in ("severity", "predicted_severity")}


def _selection(config):
    return config.slices


@pytest.fixture(scope="module")
def run(run_command):
    """run(program, flags ..) runs a command that knows the task; returns what it printed."""

    def run(program, *arguments):
        done = run_command(program, *arguments, before=REGISTER)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def workdir(run, tmp_path_factory):
    """Of a finished run of the task."""
    folder = tmp_path_factory.mktemp("severity")
    config = folder / "severity.py"
    config.write_text(CONFIG)
    run(
        "train.py",
        f"--config={config}",
        f"--workdir={folder / 'run'}",
        f"--config.data.prepared_dir={folder / 'prepared'}",
        "--config.severity.epochs=2",
        "--config.severity.optimizer.learning_rate=0.001",
    )
    return folder / "run"


def test_it_trains_and_is_evaluated(run, workdir):
    settings = json.loads((workdir / "config.json").read_text())["severity"]
    assert settings["epochs"] == 2
    assert settings["optimizer"]["learning_rate"] == 0.001
    assert json.loads((workdir / "results" / "timing.json").read_text())["severity"]["epochs"] == 2
    printed = run("eval.py", f"--workdir={workdir}", "--split=val")
    for split in ("test", "val"):
        found = json.loads((workdir / "results" / split / "summary.json").read_text())["severity"]
        assert found["classes"] == list(CLASSES)
        assert np.sum(found["confusion"]) == found["n"] == found["scores"]["right_severity"]["n"]
    assert "right_severity" in printed


def test_its_page_shows_its_scores(run, workdir):
    page = Page(workdir / "report" / "index.html")
    assert "Right severity" in page.text
    assert "Severity, test split." in page.text
    assert {"training_severity_loss.csv", "training_severity_right_severity.csv"} <= {
        path.name for path in (workdir / "report").iterdir()
    }
    assert "Further scores" not in page.text
    assert "Dice" not in page.text
    numbers = (workdir / "report" / "severity_test_confusion.csv").read_text()
    assert numbers.startswith("true,predicted,slices\nnone,none,")


def test_its_settings_are_listed(run):
    page = run("covjax.settings.reference")
    assert "## severity\n\nA small network on small slices." in page
    assert "| `slices` | `all` | which slices to work on | `infected`: the slices with " in page


def test_its_settings_are_checked(run_command, workdir):
    config = workdir.parent / "severity.py"
    for flag, problem in {
        "augment.mixup=0.2": "severity.augment.mixup: 0.2 mixes labels of slices",
        "loss.name=dice": "severity.loss.name: 'dice' compares regions",
        "slices=some": "severity.slices: 'some' is unknown",
        "sizes=3": "--config.severity: 'sizes' is unknown",
    }.items():
        done = run_command(
            "train.py",
            f"--config={config}",
            f"--workdir={workdir.parent / 'other'}",
            f"--config.severity.{flag}",
            before=REGISTER,
        )
        assert done.returncode == 1
        assert problem in done.stderr


def test_its_runs_are_compared_and_pooled(run, workdir):
    folder = workdir.parent
    other = folder / "as if val were test"
    shutil.copytree(workdir, other)
    shutil.copytree(other / "results" / "val", other / "results" / "test", dirs_exist_ok=True)
    printed = run("eval.py", "--compare", workdir, other, f"--output={folder / 'comparison'}")
    assert "severity  right_severity " in printed
    assert "was scored on (severity)" in printed
    assert "Nearly right severity" in Page(folder / "comparison" / "index.html").text
    run("eval.py", "--pool", workdir, other, f"--output={folder / 'pooled'}")
    pooled = json.loads((folder / "pooled/results/test/summary.json").read_text())["severity"]
    assert pooled["n"] == pooled["scores"]["right_severity"]["n"] == 15


def test_runs_without_classifier_and_segmenter_do_not_screen(workdir, monkeypatch):
    monkeypatch.setitem(stages.TASKS, "severity", severity_task)
    with pytest.raises(InputError, match="screening needs a run with a classifier or a segmenter"):
        Screener.from_workdir(workdir)
