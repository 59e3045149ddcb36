"""A task: all that differs between stages, as facts and pure functions.

The same loop, evaluation, checkpoints and pages serve every task. A new one is a function that
returns its Task and a line in `covjax.stages.TASKS`; see CONTRIBUTING.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from covjax.stages.settings import StageSettings

if TYPE_CHECKING:
    from covjax.stages.stage import Stage

Batch = dict[str, jax.Array]
Rows = dict[str, np.ndarray]
Scores = dict[str, dict[str, Any]]


def every_slice(_: StageSettings) -> str:
    """The choice of a task that works on all slices."""
    return "all"


@dataclass(frozen=True)
class Task:
    """What a stage is for. Its functions have names, so that a task and its stage can be pickled.

    A task that `predicts_masks` gets a segmentation network (logits [N, H, W, K] that lie over the
    slice), may use losses of regions, and is scored in each slice's own size; any other gets a
    classification network (logits [N, K]).
    """

    settings: type[StageSettings]  # its section of a configuration
    classes: tuple[str, ...]  # by their numbers in truth and logits
    truth: Callable[[Batch], jax.Array]  # int [N] or [N, H, W], on the device
    # (logits, truth) -> per-slice arrays, on the device
    rows: Callable[[jax.Array, jax.Array], dict[str, jax.Array]]
    # (rows, threshold of log-odds, patients) -> scores, with intervals if patients are given
    scores: Callable[[Rows, float, Sequence[str] | None], Scores]
    best: str  # the score that selects the best checkpoint, higher is better
    # (stage, rows, unit of distances) -> fields of summary.json besides heading and scores
    section: Callable[["Stage", Rows, str], dict[str, Any]]
    # (stage, rows, unit of distances) -> columns of per_image.csv besides the loss, [N] each
    columns: Callable[["Stage", Rows, str], dict[str, np.ndarray]]
    predicts_masks: bool = False
    needs_masks: bool = False  # every slice must have one; augmentation moves it with the slice
    calls_slices: bool = False  # from log-odds of infection, by a threshold that can be fitted
    keep: tuple[str, ...] = ()  # rows that an evaluation adds to those of training
    # ending of the names of validation scores, where they are not those of an evaluation
    while_training: str = ""
    # of a stage's settings: "all" slices or the "infected" ones
    selection: Callable[[StageSettings], str] = every_slice

    @property
    def networks(self) -> str:
        """Which networks of `covjax.models` serve the task."""
        return "segmentation" if self.predicts_masks else "classification"
