"""Two stages together: lesions that stage 1 misses are missed, its false alarms are invented."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from covjax.data.loader import SliceReader
from covjax.data.prepared.dataset import Prepared
from covjax.evaluation.outputs import StageOutput
from covjax.evaluation.results import Evaluated, heading, patients_of
from covjax.metrics import infected_or_not, per_image_dice, segmentation_scores
from covjax.metrics.means import mean_score, share_score
from covjax.metrics.thresholds import threshold_to_json
from covjax.stages.segmentation import CLASSES, shares
from covjax.stages.stage import Stage
from covjax.stages.task import Rows

TWO_STAGES = "two_stages"  # what the files of an evaluation call two stages together


class TwoStages(NamedTuple):
    """Names of the stage that calls slices infected, and of the one that segments those."""

    calling: str
    segmenting: str


def two_stages(stages: Mapping[str, Stage]) -> TwoStages | None:
    """Returns which stages of a run work together, None if it lacks one of the two."""
    calling = [name for name, stage in stages.items() if stage.task.calls_slices]
    segmenting = [name for name, stage in stages.items() if stage.task.predicts_masks]
    return TwoStages(calling[0], segmenting[0]) if calling and segmenting else None


def evaluate_two_stages(
    threshold: float, screened: Rows, output: StageOutput, data: Prepared
) -> Evaluated:
    """Returns scores and per-slice columns of both stages together.

    Args:
      threshold: log-odds from which stage 1 called slices, NaN where that differed between runs.
      screened: rows of stage 1 over all slices of the split.
      output: of the same slices, see `two_stages_output`.
      data: what the slices are of.
    """
    indices = output.indices
    confusion = output.rows["confusion"]
    patients = patients_of(data, indices)
    true, predicted = shares(confusion)
    section = {
        **heading(None, CLASSES, data, indices),
        "scored_at": "each slice's own size",
        **threshold_to_json(threshold),
        "confusion": confusion.sum(0).tolist(),
        "scores": segmentation_scores(confusion, CLASSES, patients)
        | _screening_scores(screened["label"], screened["called"], true, predicted, patients),
    }
    columns = {
        "two_stages_dice": per_image_dice(confusion),
        "two_stages_predicted_share": predicted,
    }
    return Evaluated(section, columns, indices, confusion)


def two_stages_output(
    called: np.ndarray,
    reader: SliceReader,
    segmented: StageOutput | None,
    segment: Callable[[SliceReader], np.ndarray],
) -> StageOutput:
    """Returns "confusion" [N, 2, 2] of all slices when only those called are segmented.

    Classes are infected or not.

    Args:
      called: bool [N], which slices stage 1 called infected; only those go through stage 2.
      reader: all slices of the split, in their own size.
      segmented: what stage 2 returned for the slices it was evaluated on, if any.
      segment: stage 2 for the others: confusion matrices [n, K, K] of the slices of a reader.
    """
    confusion = np.zeros((len(reader), 2, 2), np.int64)
    healthy = reader.indices[~called]
    sick = reader.data.infected_pixels[healthy]
    confusion[~called, 0, 0] = reader.data.counted_pixels[healthy] - sick
    confusion[~called, 1, 0] = sick
    left = called.copy()
    if segmented is not None:
        places = {index: place for place, index in enumerate(segmented.indices.tolist())}
        known = infected_or_not(segmented.rows["confusion"])
        for i in np.flatnonzero(called & np.isin(reader.indices, segmented.indices)):
            confusion[i] = known[places[reader.indices[i]]]
            left[i] = False
    if left.any():
        confusion[left] = infected_or_not(segment(reader.of(reader.indices[left])))
    return StageOutput(reader.indices, {"confusion": confusion})


def _screening_scores(
    label: np.ndarray,
    called: np.ndarray,
    true: np.ndarray,
    predicted: np.ndarray,
    patients: list[str],
) -> dict[str, dict]:
    sick = np.flatnonzero(label == 1)
    healthy = np.flatnonzero(label == 0)
    of_sick = [patients[i] for i in sick]
    of_healthy = [patients[i] for i in healthy]
    return {
        "missed_infected_slices": share_score(~called[sick], of_sick, "no infected slice"),
        "false_alarm_slices": share_score(called[healthy], of_healthy, "no healthy slice"),
        "share_mean_absolute_error": mean_score(np.abs(true - predicted), patients, "no slice"),
    }
