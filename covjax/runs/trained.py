"""A trained stage, read back from the workdir of its run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from covjax.errors import RunError
from covjax.files import damage_named
from covjax.records import read_record
from covjax.runs.calibrate import read_calibration
from covjax.settings import RunSettings
from covjax.stages.stage import Stage, Statistics, make_stage, variable_shapes
from covjax.stages.statistics import StatisticsFile, statistics_digest, statistics_from_json
from covjax.training.checkpoint import Checkpoints


def statistics_path(name: str, workdir: Path) -> Path:
    """Where a stage's statistics of the training split are kept."""
    return workdir / f"statistics_{name}.json"


def read_statistics(name: str, workdir: Path) -> Statistics:
    """Reads a stage's statistics. Raises InputError when they are missing or damaged."""
    path = statistics_path(name, workdir)
    remedy = "delete it and run train.py again"
    found = read_record(path, StatisticsFile, remedy, f"this run has not begun to train its {name}")
    with damage_named(path, remedy):
        return statistics_from_json(found)


def load_trained(
    name: str, config: RunSettings, workdir: Path, *, calibrated: bool = True
) -> tuple[Stage, Any]:
    """Returns (stage, variables) of the best checkpoint, calibrated unless asked otherwise.

    Raises InputError or RunError; never random weights, never a stage without the calibration it
    asks for.
    """
    stage = make_stage(name, config.stages[name], read_statistics(name, workdir), data=config.data)
    folder = workdir / "checkpoints" / name / "best"
    if not folder.is_dir():
        raise RunError(f"{folder}: no checkpoint, run train.py with this workdir first")
    checkpoints = Checkpoints(folder, statistics=statistics_digest(stage.statistics))
    restored = checkpoints.restore(variable_shapes(stage.model, config.stages[name]))
    checkpoints.close()
    if restored is None:
        raise RunError(f"{folder}: no checkpoint, run train.py with this workdir first")
    variables = restored[0]
    if stage.task.calls_slices and calibrated:
        calibration = read_calibration(stage.config, workdir, variables)
        stage = replace(stage, calibration=calibration)
    return stage, variables
