"""Fits temperature and threshold of a stage that calls slices, on the validation split."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
from scipy.special import logit

from covjax.data.loader import SliceReader, eval_batches
from covjax.data.prepared.dataset import Prepared
from covjax.data.splits.splits import CLASSES, split_indices
from covjax.errors import InputError, RunError
from covjax.evaluation.predict import collect, make_predictor
from covjax.files import write_json
from covjax.metrics import choose_threshold, classification_scores, fit_temperature
from covjax.metrics.calibration import PRIOR, separable
from covjax.metrics.thresholds import threshold_from_json, threshold_to_json
from covjax.parallel import round_up
from covjax.records import Count, Positive, read_record
from covjax.settings import RunSettings
from covjax.stages.settings import ClassifierSettings, StageSettings
from covjax.stages.stage import Calibration, Stage
from covjax.training.checkpoint import digest

DAMAGED = "delete it and run train.py again"


class CalibrationFile(TypedDict):
    """calibration.json."""

    checkpoint: str
    temperature: Positive
    threshold_log_odds: float | Literal["inf"]
    threshold_rule: str
    n: Count
    separable: NotRequired[bool]


def calibration_path(workdir: Path) -> Path:
    """Where a run keeps what was fitted on its validation split."""
    return workdir / "calibration.json"


def is_asked(config: StageSettings) -> bool:
    """Whether a stage fits anything on the validation split."""
    return isinstance(config, ClassifierSettings) and (
        config.calibration != "none" or config.threshold_rule != "fixed"
    )


def check_calibration(config: RunSettings, data: Prepared, splits: dict[str, Any]) -> None:
    """Raises InputError if the validation split lacks a class that calibration needs."""
    labels = data.labels[split_indices(data, splits, "val")]
    missing = [name for label, name in enumerate(CLASSES) if not (labels == label).any()]
    for name, stage in config.stages.items():
        if missing and is_asked(stage):
            raise InputError(
                f"{name}.calibration and threshold_rule: the val split has no {missing[0]} slice "
                "to fit them on, set them to none and fixed or change split.shares or seed"
            )


def fit_calibration(stage: Stage, variables: Any, reader: SliceReader, workdir: Path) -> None:
    """Fits what the stage asks for on the validation slices of `reader`, and writes it.

    The threshold is chosen on the calibrated log-odds, divided by the temperature as they are in
    use.
    """
    config = stage.config
    assert isinstance(config, ClassifierSettings)
    batches = eval_batches(reader, batch_size=round_up(config.batch_size))
    rows = collect(make_predictor(stage)(variables, batches))
    label = rows["label"]
    log_odds = rows["log_odds"]  # of a stage without calibration
    fits = config.calibration == "temperature"
    temperature = fit_temperature(label, log_odds) if fits else 1.0
    calibrated = replace(stage, calibration=Calibration(temperature)).calibrated(log_odds)
    rule = config.threshold_rule
    fixed = float(logit(config.threshold))
    threshold = (
        fixed if rule == "fixed" else choose_threshold(label, log_odds=calibrated, rule=rule)
    )
    losses = [
        classification_scores(label, log_odds=some)["log_loss"]["value"]
        for some in (log_odds, calibrated)
    ]
    found = {
        "checkpoint": digest(variables, {}),
        "calibration": config.calibration, "temperature": temperature, "threshold_rule": rule,
        **threshold_to_json(threshold), "fitted_on": "val", "n": len(label),
        "log_loss_before": losses[0], "log_loss_after": losses[1],
    }  # fmt: skip
    if fits:
        found |= {"prior_sd_of_ln_temperature": PRIOR, "separable": separable(label, log_odds)}
    write_json(calibration_path(workdir), found)


def noted(stage: Stage, tta: Sequence[str]) -> Stage:
    """Adds a note where a stage was calibrated without the test-time augmentation in use."""
    if not (tta and is_asked(stage.config)):
        return stage
    note = (
        f"Temperature and threshold were fitted without --tta={','.join(tta)}: averaged "
        "probabilities are less sure; sensitivity and specificity may differ from those that the "
        "threshold was chosen for."
    )
    return replace(
        stage, calibration=stage.calibration._replace(notes=(*stage.calibration.notes, note))
    )


def read_calibration(config: StageSettings, workdir: Path, variables: Any = None) -> Calibration:
    """Returns what was fitted, or the default if the stage asks for nothing.

    Raises RunError if it asks for it and did not come to it, or came to it with other parameters
    than `variables`, if given. Raises InputError if the file is damaged.
    """
    if not is_asked(config):
        return Calibration()
    path = calibration_path(workdir)
    if not path.is_file():
        raise RunError(f"{path}: missing, run train.py with this workdir to the end first")
    found = read_record(path, CalibrationFile, DAMAGED)
    if variables is not None and found["checkpoint"] != digest(variables, {}):
        raise RunError(
            f"{path}: fitted to another checkpoint, run train.py with this workdir to the end first"
        )
    return Calibration(found["temperature"], threshold_from_json(found), _notes(found))


def _notes(found: CalibrationFile) -> tuple[str, ...]:
    """What whoever reads calibrated results should know of the fit."""
    notes = []
    if found.get("separable"):
        notes.append(
            f"The classifier calls all {found['n']} slices of the val split right, so they do not "
            "say how sure it may be: its temperature was left at 1."
        )
    if threshold_from_json(found) == np.inf:
        notes.append(
            "No slice is called infected: on the val split nothing but calling none fulfils "
            f"{found['threshold_rule']}."
        )
    return tuple(notes)
