"""Fits a classifier's temperature and threshold on the validation part, and keeps them in the workdir."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from covjax.config import write_json
from covjax.data.loader import SliceReader, eval_batches
from covjax.data.prepared import Prepared
from covjax.data.splits import CLASSES, part_indices
from covjax.errors import InputError, RunError
from covjax.evaluation.predict import collect, make_predictor
from covjax.metrics import choose_threshold, classification_scores, fit_temperature
from covjax.parallel import round_up
from covjax.stages import Calibration, Stage


def calibration_path(workdir: Path) -> Path:
    """Where a run keeps what was fitted on its validation part."""
    return workdir / "calibration.json"


def is_asked(config: Any) -> bool:
    """Whether a run fits anything on its validation part."""
    return "classifier" in config and (
        config.classifier.calibration != "none" or config.classifier.threshold_rule != "fixed"
    )


def check_calibration(config: Any, data: Prepared, splits: dict[str, Any]) -> None:
    """Raises InputError, before the training, if the validation part lacks a class that calibration needs."""
    labels = data.labels[part_indices(data, splits, "val")]
    missing = [name for label, name in enumerate(CLASSES) if not (labels == label).any()]
    if is_asked(config) and missing:
        raise InputError(
            f"classifier.calibration and threshold_rule: the val part has no {missing[0]} slice to fit them on, "
            "set them to none and fixed or change split.shares or seed"
        )


def fit_calibration(stage: Stage, variables: Any, reader: SliceReader, workdir: Path) -> None:
    """Fits what the configuration asks for on the slices of `reader`, the validation part, and writes it.

    The threshold is chosen on the calibrated probabilities.
    """
    batches = eval_batches(reader, batch_size=round_up(stage.config.batch_size))
    rows = collect(make_predictor(stage)(variables, batches))
    label, log_odds = rows["label"], rows["log_odds"].astype(np.float64)
    temperature = fit_temperature(label, log_odds) if stage.config.calibration == "temperature" else 1.0
    probability = expit(log_odds / temperature)
    rule = stage.config.threshold_rule
    threshold = stage.config.threshold if rule == "fixed" else choose_threshold(label, probability, rule)
    losses = [classification_scores(label, expit(log_odds / t))["log_loss"]["value"] for t in (1.0, temperature)]
    found = {
        "calibration": stage.config.calibration, "temperature": temperature, "threshold_rule": rule,
        "threshold": threshold, "fitted_on": "val", "n": len(label),
        "log_loss_before": losses[0], "log_loss_after": losses[1],
    }  # fmt: skip
    write_json(calibration_path(workdir), found)


def read_calibration(config: Any, workdir: Path) -> Calibration:
    """Returns what was fitted, or the default if the run asks for nothing.

    Raises RunError if the run asks for it and did not come to it, InputError if the file is damaged.
    """
    if not is_asked(config):
        return Calibration()
    path = calibration_path(workdir)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        calibration = Calibration(float(found["temperature"]), float(found["threshold"]))
    except FileNotFoundError:
        raise RunError(f"{path}: missing, run train.py with this workdir to the end first") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error}), delete it and run train.py again") from None
    if not (calibration.temperature > 0 and 0 <= calibration.threshold <= 1):
        raise InputError(f"{path}: damaged (values out of range), delete it and run train.py again")
    return calibration
