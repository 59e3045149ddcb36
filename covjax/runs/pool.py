"""Cross-validation: the predictions of all folds put together and scored once."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from absl import logging

from covjax.data.listing import LEFT_OUT
from covjax.data.prepared.dataset import Prepared
from covjax.data.splits.splits import read_splits, whole_split
from covjax.errors import InputError
from covjax.evaluation.examples import filled_up, rank_examples
from covjax.evaluation.outputs import (
    StageOutput,
    joined_outputs,
    outputs_from_arrays,
    outputs_to_arrays,
)
from covjax.evaluation.result_files import write_results
from covjax.fields import BITS_CHANGE, MAY_CHANGE, flat_fields
from covjax.files import (
    check_new_folder,
    current_folder,
    new_folder,
    read_arrays,
    write_json,
)
from covjax.metrics import DEFINITIONS, infected_or_not, per_image_dice
from covjax.plugins import record_plugins
from covjax.records import read_record
from covjax.runs.calibrate import noted, read_calibration
from covjax.runs.evaluate import evaluate_outputs
from covjax.runs.trained import read_statistics
from covjax.settings import (
    RunSettings,
    fields_that_may_change,
    load_settings,
    settings_dict,
    write_settings,
)
from covjax.stages.settings import StageSettings
from covjax.stages.stage import Calibration, make_stage


class PooledSummary(TypedDict):
    """What is used of summary.json."""

    definitions: int
    options: dict[str, Any]


def pool_runs(workdirs: Sequence[Path], output: Path, split: str = "test") -> None:
    """Scores one split of several evaluated runs as one, and writes OUTPUT/results/SPLIT/.

    Confusion matrices and probabilities are put together; no score of a fold enters. Nothing is
    computed again.

    Raises InputError if a run was not evaluated, if runs differ in data, configuration or
    evaluation options, if a slice is in the same split of two of them, or if `output` exists and
    is not empty.
    """
    if len(workdirs) < 2:
        raise InputError("pool: name two runs or more, e.g. runs/fold0 runs/fold1")
    check_new_folder(output)
    configs = [load_settings(workdir) for workdir in workdirs]
    splits = [read_splits(workdir / "splits.json") for workdir in workdirs]
    summaries = [_read_summary(workdir, split) for workdir in workdirs]
    arrays = [read_row_arrays(workdir, split) for workdir in workdirs]
    _check_alike(workdirs, configs, splits, summaries)
    _check_apart(workdirs, [content["id"] for content in arrays], split)
    data, outputs = _joined(splits[0], arrays)
    config = configs[0]
    stages = {
        name: make_stage(
            name, config.stages[name], read_statistics(name, workdirs[0]), data=config.data
        )
        for name in config.stages
    }
    tta = summaries[0]["options"].get("tta", ())
    for name, stage in stages.items():
        if stage.task.calls_slices:
            calibration = _calibration(workdirs, stage.config)
            stages[name] = noted(replace(stage, calibration=calibration), tta)
    indices = np.arange(len(data))
    pooled = {"rows": outputs_to_arrays(outputs, data, indices)}
    segmented = [
        outputs[name] for name in outputs if name in stages and stages[name].task.predicts_masks
    ]
    if segmented:
        pooled |= _examples(workdirs, split, segmented[0])
    options = summaries[0]["options"] | {"pooled_runs": len(workdirs)} | _folds(splits)
    with new_folder(output) as partial:
        record_plugins(partial)
        write_settings(partial / "config.json", configs[0])
        write_json(partial / "splits.json", _pooled_splits(splits[0], data, split))
        if (workdirs[0] / LEFT_OUT).is_file():
            shutil.copy(workdirs[0] / LEFT_OUT, partial)
        evaluated = evaluate_outputs(stages, outputs, data)
        write_results(partial / "results" / split, split, data, indices, evaluated, pooled, options)


def _check_alike(
    workdirs: Sequence[Path],
    configs: Sequence[RunSettings],
    splits: Sequence[dict],
    summaries: Sequence[dict],
) -> None:
    """Raises InputError unless all runs are of one cross-validation, evaluated alike.

    They may differ in their fold and in what says how they are computed, not what: fields that may
    change when a run goes on, but for the number of epochs, with which it is another training.
    """
    may_change = fields_that_may_change(configs[0])
    same = {name for name, how in may_change.items() if how in (MAY_CHANGE, BITS_CHANGE)}
    for workdir, config, split, summary in zip(workdirs, configs, splits, summaries, strict=True):
        if split["fingerprint"] != splits[0]["fingerprint"]:
            raise InputError(
                f"{workdir}: trained on other data than {workdirs[0]}, pool runs on the same data"
            )
        ours = flat_fields(settings_dict(config))
        theirs = flat_fields(settings_dict(configs[0]))
        for field in sorted(ours.keys() | theirs.keys()):
            if field not in {"split.fold", *same} and ours.get(field) != theirs.get(field):
                raise InputError(
                    f"{workdir}: {field} is {json.dumps(ours.get(field))}, in {workdirs[0]} it is "
                    f"{json.dumps(theirs.get(field))}, pool runs of one configuration"
                )
        if summary["definitions"] != DEFINITIONS:
            raise InputError(
                f"{workdir}: evaluated by another covjax, run eval.py --workdir {workdir} again"
            )
        if summary["options"] != summaries[0]["options"]:
            raise InputError(
                f"{workdir}: evaluated with other options than {workdirs[0]} "
                f"({json.dumps(summary['options'])} and {json.dumps(summaries[0]['options'])}), "
                "evaluate both alike"
            )


def _check_apart(workdirs: Sequence[Path], ids: Sequence[np.ndarray], split: str) -> None:
    for (a, one), (b, other) in combinations(enumerate(ids), 2):
        shared = set(one.tolist()) & set(other.tolist())
        if shared:
            raise InputError(
                f"{workdirs[b]}: {len(shared)} slices, first {min(shared)}, are in the {split} "
                f"split of {workdirs[a]} too, pool the folds of one cross-validation (split.folds, "
                "split.fold)"
            )


def _joined(
    splits: Mapping[str, Any], arrays: Sequence[Mapping[str, np.ndarray]]
) -> tuple[Prepared, dict[str, StageOutput]]:
    """Returns the slices of all runs as one data set without pictures, and every stage's output."""
    names = (
        "id",
        "patient",
        "label",
        "has_mask",
        "infected_pixels",
        "counted_pixels",
        "truth",
        "notes",
    )
    known = {name: np.concatenate([content[name] for content in arrays]) for name in names}
    count = len(known["id"])
    texts = known["notes"].tolist()
    data = Prepared(
        fingerprint=splits["fingerprint"],
        source=splits["source"],
        ids=tuple(known["id"].tolist()),
        labels=known["label"],
        patients=tuple(known["patient"].tolist()),
        splits=("",) * count,
        has_mask=known["has_mask"],
        records=(),
        unit=str(arrays[0]["unit"]),
        truth=tuple(known["truth"].tolist()),
        infected_pixels=known["infected_pixels"],
        counted_pixels=known["counted_pixels"],
        notes={i: tuple(text.split("; ")) for i, text in enumerate(texts) if text},
    )
    parts: dict[str, list[StageOutput]] = {}
    first = 0
    for content in arrays:
        for name, output in outputs_from_arrays(content).items():
            moved = output._replace(indices=output.indices + first)
            parts.setdefault(name, []).append(moved)
        first += len(content["id"])
    return data, {name: joined_outputs(found) for name, found in parts.items()}


def _examples(workdirs: Sequence[Path], split: str, segmented: StageOutput) -> dict[str, dict]:
    """Chooses best, median and worst slices among those that the runs kept pictures of.

    As many of the best and worst of all are among them as every run kept; of the rest those nearest
    to the median.
    """
    paths = {
        workdir: current_folder(workdir / "results" / split) / "examples.npz"
        for workdir in workdirs
    }
    kept = [
        read_arrays(path, _evaluate_again(workdir, split))
        for workdir, path in paths.items()
        if path.is_file()
    ]
    if not kept:
        return {}
    kept = {name: _together([arrays[name] for arrays in kept]) for name in kept[0]}
    median = np.nanmedian(per_image_dice(infected_or_not(segmented.rows["confusion"])))
    each = max(len(places) for places in rank_examples(kept["dice"]).values())
    order = np.argsort(-kept["dice"], kind="stable")
    best = order[:each]
    worst = order[len(order) - each :]
    others = np.setdiff1d(order, np.concatenate([best, worst]))
    near = others[np.argsort(np.abs(kept["dice"][others] - median), kind="stable")][:each]
    chosen = np.concatenate([best, near, worst])
    rank = np.repeat(["best", "median", "worst"], [len(best), len(near), len(worst)])
    return {"examples": {name: values[chosen] for name, values in kept.items()} | {"rank": rank}}


def _together(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Joins arrays of examples.npz; pictures of several runs may differ in size."""
    pictures = arrays[0].ndim == 3
    return (
        filled_up([one for some in arrays for one in some]) if pictures else np.concatenate(arrays)
    )


def _calibration(workdirs: Sequence[Path], config: StageSettings) -> Calibration:
    """Returns what all runs share of their calibration; NaN where each run has its own."""
    fitted = [read_calibration(config, workdir) for workdir in workdirs]
    temperatures = {one.temperature for one in fitted}
    thresholds = {one.threshold for one in fitted}
    notes = [
        f"{workdir.name}: {note}"
        for workdir, one in zip(workdirs, fitted, strict=True)
        for note in one.notes
    ]
    return Calibration(
        temperatures.pop() if len(temperatures) == 1 else np.nan,
        thresholds.pop() if len(thresholds) == 1 else np.nan,
        tuple(notes),
    )


def _folds(splits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Says which folds of how many were pooled, and warns if some are missing."""
    count = splits[0].get("folds", 0)
    if not count:
        return {}
    folds = sorted(split["fold"] for split in splits)
    missing = sorted(set(range(count)) - set(folds))
    if missing:
        logging.warning(
            "folds %s of %d are not among the pooled runs", ", ".join(map(str, missing)), count
        )
    return {"pooled_folds": folds, "of_folds": count}


def _pooled_splits(splits: Mapping[str, Any], data: Prepared, split: str) -> dict[str, Any]:
    """Returns what splits.json of the output holds: one split, of all runs together."""
    same = {
        name: splits[name]
        for name in ("source", "fingerprint", "by", "seed", "shares", "folds")
        if name in splits
    }
    return same | whole_split(data, split)


def _read_summary(workdir: Path, split: str) -> dict[str, Any]:
    path = current_folder(workdir / "results" / split) / "summary.json"
    summary = read_record(path, PooledSummary, _evaluate_again(workdir, split))
    return {name: summary[name] for name in ("definitions", "options")}


def read_row_arrays(workdir: Path, split: str) -> dict[str, np.ndarray]:
    """Returns the arrays of rows.npz that an evaluation left, see `outputs_from_arrays`."""
    path = current_folder(workdir / "results" / split) / "rows.npz"
    return read_arrays(path, _evaluate_again(workdir, split))


def _evaluate_again(workdir: Path, split: str) -> str:
    return f"run eval.py --workdir {workdir} --split {split} again"
