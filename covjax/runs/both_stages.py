"""Scores of both stages together: a slice that stage 1 misses is lesion missed, a false alarm is
lesion invented.
"""

from collections.abc import Callable, Mapping

import numpy as np

from covjax.data.loader import SliceReader
from covjax.data.prepared.dataset import Prepared
from covjax.evaluation.results import Evaluated, heading, patients_of, shares
from covjax.metrics import per_image_dice, segmentation_scores
from covjax.metrics.means import mean_score, share_score
from covjax.metrics.thresholds import threshold_to_json
from covjax.stages.stage import SEGMENTATION_CLASSES, Rows

Segment = Callable[[SliceReader], np.ndarray]


def evaluate_framework(
    threshold: float, screened: Rows, confusion: np.ndarray, data: Prepared, indices: np.ndarray
) -> Evaluated:
    """Returns scores and per-slice columns of both stages together.

    Args:
      threshold: log-odds from which stage 1 called a slice infected, NaN where that differed between runs.
      screened: rows of stage 1 over all slices of the part.
      confusion: [N, 2, 2] of the same slices, see `gated_confusions`.
      data, indices: which slices these are.
    """
    called = screened["called"]
    patients = patients_of(data, indices)
    true, predicted = shares(confusion)
    section = {
        **heading(None, SEGMENTATION_CLASSES, data, indices),
        "scored_at": "each slice's own size",
        **threshold_to_json(threshold),
        "confusion": confusion.sum(0).tolist(),
        "scores": segmentation_scores(confusion, SEGMENTATION_CLASSES, patients)
        | _screening_scores(screened["label"], called, true, predicted, patients),
    }
    columns = {"framework_dice": per_image_dice(confusion), "framework_predicted_share": predicted}
    return Evaluated(section, columns, indices, confusion)


def gated_confusions(
    called: np.ndarray, reader: SliceReader, known: Mapping[int, np.ndarray], segment: Segment
) -> np.ndarray:
    """Returns the confusion matrices [N, 2, 2] of all slices, in their own size, when only those
    called are segmented.

    Args:
      called: bool [N], which slices stage 1 called infected; only those go through stage 2.
      reader: all slices of the part, with `native`.
      known: [2, 2] of the slices that stage 2 segmented already, by their index.
      segment: stage 2 for the others, confusion matrices [n, 2, 2] of the slices of a reader.
    """
    confusion = np.zeros((len(reader), 2, 2), np.int64)
    for i in np.flatnonzero(~called):
        index = reader.indices[i]
        sick = reader.data.infected_pixels[index]
        counted = reader.data.counted_pixels[index]
        confusion[i, :, 0] = counted - sick, sick
    seen = np.isin(reader.indices, list(known))
    for i in np.flatnonzero(called & seen):
        confusion[i] = known[reader.indices[i]]
    left = called & ~seen
    if left.any():
        confusion[left] = segment(reader.of(reader.indices[left]))
    return confusion


def _screening_scores(
    label: np.ndarray,
    called: np.ndarray,
    true: np.ndarray,
    predicted: np.ndarray,
    patients: list[str],
) -> dict[str, dict]:
    sick = np.flatnonzero(label == 1)
    healthy = np.flatnonzero(label == 0)
    of = lambda some: [patients[i] for i in some]  # noqa: E731
    return {
        "missed_infected_slices": share_score(~called[sick], of(sick), "no infected slice"),
        "false_alarm_slices": share_score(called[healthy], of(healthy), "no healthy slice"),
        "share_mean_absolute_error": mean_score(np.abs(true - predicted), patients, "no slice"),
    }
