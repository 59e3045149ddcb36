"""Differences between the scores of runs on the same slices, with tests: of the very scores that
are shown.
"""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from covjax.errors import InputError
from covjax.metrics import holm, infected_or_not, mean_of, paired_test
from covjax.metrics.curves import weighted_areas
from covjax.metrics.resampling import Statistic, ratio

# Of a stage: the column that every slice it saw has, those that hold the truth, and its Dice.
COLUMNS = {
    "classifier": ("probability", ("label",), ""),
    "segmenter": ("predicted_share", ("label", "truth"), "dice"),
    "framework": ("framework_predicted_share", ("label", "truth"), "framework_dice"),
}
Rows = dict[str, dict[str, str]]  # id -> row of per_image.csv
Make = Callable[[np.ndarray], Statistic]  # of both runs' values [2N, ..]


class _Run:
    """What a run says of the slices of a part."""

    def __init__(self, folder: Path):
        self.rows = _read(folder / "per_image.csv")
        self.arrays = _read_arrays(folder / "rows.npz")

    def seen(self, stage: str) -> list[str]:
        return [name for name, row in self.rows.items() if row.get(COLUMNS[stage][0])]

    def values(self, ids: Sequence[str], column: str) -> np.ndarray:
        return np.array([float(self.rows[name].get(column) or "nan") for name in ids])

    def confusion(self, ids: Sequence[str], stage: str) -> np.ndarray | None:
        """Pixels infected or not of the slices, [n, 2, 2]; None where they are not kept."""
        if f"{stage}/confusion" not in self.arrays:
            return None
        names = self.arrays["id"][self.arrays[f"{stage}/position"]].tolist()
        place = {name: k for k, name in enumerate(names)}
        if not place.keys() >= set(ids):
            return None
        return infected_or_not(self.arrays[f"{stage}/confusion"])[[place[name] for name in ids]]


def paired_differences(workdirs: Sequence[Path], part: str) -> list[dict[str, Any]]:
    """Compares each run with the first one on the slices of a part that both were scored on.

    The area under the ROC curve, the accuracy, and the Dice over slices and over all pixels, each
    with the test of `covjax.metrics.paired_test`. A slice on which only one run marks something
    counts as in the scores themselves.

    Returns:
      One score (see `covjax.metrics.score`) per run, stage and quantity, of the run minus the first one, with "run"
      (its index), "stage", "what", "test", "p_value", "p_holm" (adjusted for all tests returned), "trainings" of each
      run, and "shared_only", whether other slices were left out. Where the truth of a slice is not the same for both,
      the value is None and the reason says so.

    Raises:
      InputError: a run has no per_image.csv of the part, or a damaged one.
    """
    first, *others = [_Run(workdir / "results" / part) for workdir in workdirs]
    found = []
    for index, other in enumerate(others, start=1):
        for stage in COLUMNS:
            found += [
                {"run": index, "stage": stage, "trainings": 1, **one}
                for one in _of_stage(first, other, stage)
            ]
    for one, adjusted in zip(found, holm([one["p_value"] for one in found]), strict=True):
        one["p_holm"] = adjusted
    return found


def _of_stage(first: _Run, other: _Run, stage: str) -> list[dict[str, Any]]:
    seen = first.seen(stage), other.seen(stage)
    ids = [name for name in seen[1] if name in set(seen[0])]
    if not ids:
        return []
    truth = COLUMNS[stage][1]
    apart = [
        name
        for name in ids
        if any(first.rows[name].get(k) != other.rows[name].get(k) for k in truth)
    ]
    if apart:
        reason = (
            f"the truth of {len(apart)} slices is not the same in both, the first is {apart[0]}"
        )
        return [
            {"what": "all scores", "value": None, "n": len(ids), "reason": reason, "p_value": None, "test": "",
             "shared_only": False}
        ]  # fmt: skip
    runs = (other, first)
    patients = [other.rows[name]["patient"] for name in ids]
    shared = {"shared_only": set(seen[0]) != set(seen[1])}
    compared = _classifiers(runs, ids) if stage == "classifier" else _segmenters(runs, ids, stage)
    return [
        {"what": what, **paired_test(statistic, patients, weights), **shared}
        for what, statistic, weights in compared
    ]


def _classifiers(
    runs: tuple[_Run, _Run], ids: list[str]
) -> list[tuple[str, Statistic, np.ndarray]]:
    label = runs[0].values(ids, "label")
    right = np.concatenate([run.values(ids, "called") == label for run in runs])
    found = [("accuracy", mean_of(right.astype(np.float64)), np.ones(len(ids)))]
    if len(set(label.tolist())) == 2:
        # Ranks, so that what is exchanged is of one kind: how sure a network is differs between two
        # of them.
        ranks = np.concatenate([rankdata(_scores(run, ids)) for run in runs])
        rarer = label == (label.mean() < 0.5)
        found.insert(0, ("ROC AUC", _area(np.tile(label, 2) == 1, ranks), rarer))
    return found


def _scores(run: _Run, ids: list[str]) -> np.ndarray:
    log_odds = run.values(ids, "log_odds")
    return run.values(ids, "probability") if np.isnan(log_odds).any() else log_odds


def _area(positive: np.ndarray, score: np.ndarray) -> Statistic:
    order = np.argsort(-score, kind="stable")
    return lambda weights: weighted_areas(weights[:, order], positive[order], score[order])[0]


def _segmenters(
    runs: tuple[_Run, _Run], ids: list[str], stage: str
) -> list[tuple[str, Statistic, np.ndarray]]:
    dice = [run.values(ids, COLUMNS[stage][2]) for run in runs]
    found = [("Dice, per slice", mean_of(np.concatenate(dice)), ~np.isnan(dice).all(0))]
    counts = [run.confusion(ids, stage) for run in runs]
    if all(count is not None for count in counts):
        pixels = np.concatenate(counts).astype(np.float64)
        hit = 2 * pixels[:, 1, 1]
        whole = hit + pixels[:, 0, 1] + pixels[:, 1, 0]
        found.insert(
            0, ("Dice, pooled", lambda weights: ratio(weights @ hit, weights @ whole), _both(whole))
        )
    return found


def _both(values: np.ndarray) -> np.ndarray:
    return values.reshape(2, -1).sum(0)


def _read(path: Path) -> Rows:
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            return {row["id"]: row for row in csv.DictReader(lines)}
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: missing or damaged ({error}), run the evaluation again"
        ) from error


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as content:
            return {
                name: content[name]
                for name in content.files
                if name.endswith(("id", "position", "confusion"))
            }
    except (OSError, ValueError, LookupError, EOFError) as error:
        raise InputError(f"{path}: damaged ({error}), run the evaluation again") from error
