"""The classifier's task: whether a slice is infected."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit, logit

from covjax.metrics import (
    classification_scores,
    own_case_scores,
    precision_recall_curve,
    roc_curve,
    threshold_table,
)
from covjax.metrics.calls import THRESHOLDS
from covjax.metrics.thresholds import threshold_to_json
from covjax.scores import checkpoint_scores
from covjax.stages.settings import ClassifierSettings
from covjax.stages.task import Batch, Rows, Scores, Task

if TYPE_CHECKING:
    from covjax.stages.stage import Stage

CLASSES = ("healthy", "infected")


def classification_task(_: tuple[str, ...]) -> Task:
    """The task of telling infected slices from healthy ones, whatever classes masks keep apart."""
    return Task(
        settings=ClassifierSettings,
        classes=CLASSES,
        truth=_truth,
        rows=_rows,
        scores=_scores,
        best=checkpoint_scores("classifier")[0],
        section=_section,
        columns=_columns,
        calls_slices=True,
        keep=("features",),
    )


def _truth(batch: Batch) -> jax.Array:
    return batch["label"]


def _rows(logits: jax.Array, truth: jax.Array) -> dict[str, jax.Array]:
    # No probability: near 1 float32 rounds it to 1.
    return {
        "log_odds": logits[:, 1].astype(jnp.float32) - logits[:, 0].astype(jnp.float32),
        "label": truth,
    }


def _scores(rows: Rows, threshold: float, patients: Sequence[str] | None) -> Scores:
    called = rows.get("called")
    label = rows["label"]
    log_odds = rows["log_odds"]
    scores = classification_scores(label, None, threshold, patients, called, log_odds=log_odds)
    return scores | own_case_scores(label, log_odds, patients)


def _section(stage: "Stage", rows: Rows, _: str) -> dict[str, Any]:
    """Returns threshold, calibration, confusion matrix and curves."""
    config = stage.config
    assert isinstance(config, ClassifierSettings)
    calibration = stage.calibration
    temperature = None if np.isnan(calibration.temperature) else calibration.temperature
    section = {
        "threshold_rule": config.threshold_rule,
        "calibration": config.calibration,
        "temperature": temperature,
        **call_section(rows, stage.threshold),
    }
    if calibration.notes:
        section["notes"] = list(calibration.notes)
    return section


def call_section(rows: Rows, threshold: float) -> dict[str, Any]:
    """Returns the threshold, the confusion matrix, other thresholds and the curves of calls."""
    label = rows["label"]
    log_odds = rows["log_odds"]
    confusion = np.zeros((2, 2), int)
    np.add.at(confusion, (label, rows["called"].astype(int)), 1)
    shown = {float(logit(p)): {"threshold": p} for p in THRESHOLDS}
    if not np.isnan(threshold):
        shown[threshold] = threshold_to_json(threshold)
    levels = sorted(shown)
    table = threshold_table(label, log_odds, levels)
    section = {
        **threshold_to_json(threshold),
        "confusion": confusion.tolist(),
        "thresholds": [row | shown[level] for level, row in zip(levels, table, strict=True)],
    }
    if len(set(label.tolist())) == 2:
        section["curves"] = {
            "roc": _of_probability(roc_curve(label, log_odds)),
            "precision_recall": _of_probability(precision_recall_curve(label, log_odds)),
        }
    return section


def _of_probability(curve: dict[str, list]) -> dict[str, list]:
    """Returns a curve over log-odds with probabilities for thresholds."""
    thresholds = [None if t is None else float(expit(t)) for t in curve["threshold"]]
    return curve | {"threshold": thresholds}


def _columns(_: "Stage", rows: Rows, __: str) -> dict[str, np.ndarray]:
    return call_columns(rows)


def call_columns(rows: Rows) -> dict[str, np.ndarray]:
    """Returns probability, log-odds and call of each slice."""
    return {
        "probability": rows["probability"],
        "log_odds": rows["log_odds"],
        "called": rows["called"].astype(int),
    }
