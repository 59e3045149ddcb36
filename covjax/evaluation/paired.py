"""Differences between the scores of runs on the same slices, with tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from covjax.files import current_folder, read_arrays
from covjax.metrics import holm, infected_or_not, mean_of, paired_test
from covjax.metrics.curves import weighted_areas
from covjax.metrics.resampling import Statistic, ratio
from covjax.scores import SCORED_COLUMN, find
from covjax.tables import read_numbers, read_rows

EVALUATE = "run the evaluation again"


class Columns(NamedTuple):
    """Columns of per_image.csv that a stage is compared by."""

    truth: tuple[str, ...]
    dice: str


COLUMNS = {
    "classifier": Columns(("label",), ""),
    "segmenter": Columns(("label", "truth"), "dice"),
    "two_stages": Columns(("label", "truth"), "two_stages_dice"),
}


class Compared(NamedTuple):
    """A score of two runs, the first one's slices before the second's, see `paired_test`."""

    name: str  # in the registry of scores
    statistic: Statistic
    weights: np.ndarray  # [n], of the slices


class _Run:
    """What a run says of the slices of a split."""

    def __init__(self, folder: Path):
        self.path = folder / "per_image.csv"
        rows = read_rows(self.path, ("id", "patient"), EVALUATE)
        self.rows = {row["id"]: row for row in rows}
        kept = folder / "rows.npz"
        self.arrays = read_arrays(kept, EVALUATE) if kept.is_file() else {}

    def scored(self, stage: str) -> list[str]:
        """Ids of the slices that a stage was scored on."""
        return [name for name, row in self.rows.items() if row.get(SCORED_COLUMN[stage])]

    def values(self, ids: Sequence[str], column: str) -> np.ndarray:
        """A column as numbers, NaN where it is empty."""
        return read_numbers(self.path, [self.rows[name] for name in ids], column, EVALUATE)

    def log_odds(self, ids: Sequence[str]) -> np.ndarray:
        """What ranks the slices: log-odds, or probabilities where a log-odds is missing."""
        log_odds = self.values(ids, "log_odds")
        return self.values(ids, "probability") if np.isnan(log_odds).any() else log_odds

    def confusion(self, ids: Sequence[str], stage: str) -> np.ndarray | None:
        """Pixels infected or not of the slices, [n, 2, 2]; None where they are not kept."""
        if f"{stage}/confusion" not in self.arrays:
            return None
        names = self.arrays["id"][self.arrays[f"{stage}/position"]].tolist()
        place = {name: k for k, name in enumerate(names)}
        if not place.keys() >= set(ids):
            return None
        return infected_or_not(self.arrays[f"{stage}/confusion"])[[place[name] for name in ids]]


def paired_differences(workdirs: Sequence[Path], split: str) -> list[dict[str, Any]]:
    """Compares each run with the first one on the slices of a split that both were scored on.

    The area under the ROC curve, the accuracy, and the Dice over slices and over all pixels, each
    with the test of `covjax.metrics.paired_test`. A slice on which only one run marks something
    counts as in the scores themselves.

    Returns:
      One score (see `covjax.metrics.score`) per run, stage and score, of the run minus the first
      one, with "run" (its index), "stage", "score" (its name in the registry of scores), "what"
      (its label), "test", "p_value", "p_holm" (adjusted for all tests returned), "trainings" of
      each run, and "shared_only", whether other slices were left out. Where the truth of a slice is
      not the same for both, the value is None and the reason says so.

    Raises:
      InputError: a run has no per_image.csv of the split, or a damaged one.
    """
    first, *others = [_Run(current_folder(workdir / "results" / split)) for workdir in workdirs]
    found = [
        {"run": index, "stage": stage, "trainings": 1, **one}
        for index, other in enumerate(others, start=1)
        for stage in COLUMNS
        for one in _of_stage(first, other, stage)
    ]
    for one, adjusted in zip(found, holm([one["p_value"] for one in found]), strict=True):
        one["p_holm"] = adjusted
    return found


def _of_stage(first: _Run, other: _Run, stage: str) -> list[dict[str, Any]]:
    scored = set(first.scored(stage))
    ids = [name for name in other.scored(stage) if name in scored]
    if not ids:
        return []
    apart = [
        name
        for name in ids
        if any(first.rows[name].get(k) != other.rows[name].get(k) for k in COLUMNS[stage].truth)
    ]
    if apart:
        reason = (
            f"the truth of {len(apart)} slices is not the same in both, the first is {apart[0]}"
        )
        none = {"value": None, "n": len(ids), "reason": reason, "p_value": None, "test": ""}
        return [{"score": "", "what": "all scores", **none, "shared_only": False}]
    compared = _classifiers if stage == "classifier" else _segmenters
    patients = [other.rows[name]["patient"] for name in ids]
    alone = scored != set(other.scored(stage))
    return [
        {
            "score": one.name,
            "what": find(stage, one.name).label,
            **paired_test(one.statistic, patients, one.weights),
            "shared_only": alone,
        }
        for one in compared((other, first), ids, stage)
    ]


def _classifiers(runs: tuple[_Run, _Run], ids: list[str], stage: str) -> list[Compared]:
    label = runs[0].values(ids, "label")
    right = np.concatenate([run.values(ids, "called") == label for run in runs])
    accuracy = Compared("accuracy", mean_of(right.astype(np.float64)), np.ones(len(ids)))
    if len(set(label.tolist())) != 2:
        return [accuracy]
    # Ranks, so that what is exchanged is of one kind: how sure a network is differs between two of
    # them.
    ranks = np.concatenate([rankdata(run.log_odds(ids)) for run in runs])
    rarer = label == (label.mean() < 0.5)
    return [Compared("roc_auc", _area(np.tile(label, 2) == 1, ranks), rarer), accuracy]


def _area(positive: np.ndarray, ranks: np.ndarray) -> Statistic:
    order = np.argsort(-ranks, kind="stable")
    return lambda weights: weighted_areas(weights[:, order], positive[order], ranks[order])[0]


def _segmenters(runs: tuple[_Run, _Run], ids: list[str], stage: str) -> list[Compared]:
    dice = np.stack([run.values(ids, COLUMNS[stage].dice) for run in runs])
    per_slice = mean_of(dice.ravel())
    found = [Compared("dice_infected_per_image", per_slice, np.any(~np.isnan(dice), axis=0))]
    one, other = (run.confusion(ids, stage) for run in runs)
    if one is not None and other is not None:
        pixels = np.concatenate([one, other]).astype(np.float64)
        hit = 2 * pixels[:, 1, 1]
        whole = hit + pixels[:, 0, 1] + pixels[:, 1, 0]
        both = whole.reshape(2, -1).sum(0)

        def pooled(weights: np.ndarray) -> np.ndarray:
            return ratio(weights @ hit, weights @ whole)

        found.insert(0, Compared("dice_infected", pooled, both))
    return found
