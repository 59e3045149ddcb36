"""A run in its workdir: prepare the data, split, measure, train each stage, evaluate."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from tqdm import tqdm

from covjax.config import check_config, claim_workdir, read_config, stage_names, write_json
from covjax.data.loader import SliceReader, SliceSizes, eval_batches
from covjax.data.prepared import Prepared, open_prepared, prepare, prepared_dir
from covjax.data.splits import CLASSES, PARTS, make_splits, part_indices, read_splits
from covjax.errors import InputError
from covjax.evaluation.predict import collect, make_predictor
from covjax.evaluation.results import (
    evaluate_classifier,
    evaluate_segmenter,
    example_arrays,
    rank_examples,
    write_part,
)
from covjax.framework.end_to_end import evaluate_framework
from covjax.framework.trained import load_trained, read_statistics, statistics_path
from covjax.inputs import slice_size
from covjax.metrics import per_image_dice
from covjax.parallel import AXIS, round_up
from covjax.runtime import environment
from covjax.stages import Rows, Stage, make_stage, measure_statistics, statistics_to_json
from covjax.training.loop import train_stage


def train_run(config: Any, workdir: Path) -> None:
    """Trains every stage of a run, then evaluates it on the test part; continues where an earlier call stopped.

    Raises InputError, before anything is written, for a configuration or data that cannot be used.
    """
    check_config(config)
    with _own(workdir):
        if (workdir / "config.json").is_file():
            claim_workdir(workdir, config)
        data = prepare(config.data)
        splits = _splits(config, data, workdir)
        claim_workdir(workdir, config)
    write_json(workdir / "environment.json", environment())
    write_json(workdir / "splits.json", splits)
    for name in stage_names(config):
        readers = {part: _reader(name, config, data, splits, part) for part in ("train", "val")}
        stage = _measured_stage(name, config, readers["train"], workdir)
        _record_timing(workdir, name, train_stage(stage, readers, config, workdir))
    evaluate_run(workdir, "test")


def evaluate_run(workdir: Path, part: str = "test", batch_size: int | None = None) -> None:
    """Evaluates a trained run on one part of its data, in batches, and writes results/PART/ when all is computed.

    Raises InputError if the part is unknown or the data are gone, RunError if a stage was not trained.
    """
    if part not in PARTS:
        raise InputError(f"--split: '{part}' is unknown, use one of {', '.join(PARTS)}")
    config = read_config(workdir)
    splits = read_splits(workdir / "splits.json")
    data = open_run_data(config, splits)
    names, stages, arrays, rows, run, speed = stage_names(config), {}, {}, {}, {}, {}
    for name in names:
        stage, variables = load_trained(name, config, workdir)
        reader = _reader(name, config, data, splits, part, cache=False)
        run[name] = _runner(stage, variables, round_up(batch_size or config[name].batch_size))
        rows[name], seconds = run[name](reader, keep=())
        speed[name] = {"slices_per_second_eval": round(len(reader) / seconds, 3)}
        if name == "classifier":
            stages[name] = evaluate_classifier(stage, rows[name], data, reader.indices)
        else:
            stages[name] = evaluate_segmenter(stage, rows[name], data, reader.indices)
            arrays |= _examples(run[name], reader, rows[name])
    if len(names) == 2:
        reader = _reader("segmenter", config, data, splits, part, cache=False, selection="all")
        called = rows["classifier"]["probability"] >= config.classifier.threshold
        segment = lambda some: run["segmenter"](some, keep=())[0]  # noqa: E731
        stages["framework"] = evaluate_framework(
            config.classifier.threshold, rows["classifier"], called, reader, segment
        )
    write_part(workdir / "results" / part, part, data, part_indices(data, splits, part), stages, arrays, options={})
    for name in names:
        _record_timing(workdir, name, speed[name])


@contextmanager
def _own(workdir: Path) -> Iterator[None]:
    """Creates the workdir before the long work, so that an unwritable one is known at once; leaves no empty folder."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--workdir: {workdir} cannot be made ({error.strerror}), name another folder") from error
    try:
        yield
    finally:
        if not any(workdir.iterdir()):
            workdir.rmdir()


def _splits(config: Any, data: Prepared, workdir: Path) -> dict[str, Any]:
    """Reads the run's splits, or makes them the first time."""
    path = workdir / "splits.json"
    if not path.is_file():
        if config.split.by == "slice":
            logging.warning("split.by=slice: slices of one patient are in train and test, scores will be optimistic")
        needs = CLASSES if "classifier" in config else ("infected",)
        return make_splits(data, config.split, config.seed, needs)
    splits = read_splits(path)
    if splits["fingerprint"] != data.fingerprint:
        raise InputError(f"{path}: the data changed since this run began, use another --workdir or restore the data")
    return splits


def open_run_data(config: Any, splits: dict[str, Any]) -> Prepared:
    """Opens the data as the run saw them: prepared ones if they are still there, even when the source is gone."""
    folder = prepared_dir(config.data) / f"{splits['source']}-{splits['fingerprint']}"
    if (folder / "index.json").is_file():
        return open_prepared(folder)
    data = prepare(config.data)
    if data.fingerprint != splits["fingerprint"]:
        raise InputError(f"data.path: {config.data.path} changed since this run was trained, restore the data")
    return data


def _reader(
    name: str, config: Any, data: Prepared, splits: dict[str, Any], part: str, *,
    cache: bool | None = None, selection: str | None = None,
) -> SliceReader:  # fmt: skip
    """Slices of a part as a stage wants them: all for the classifier, those it trains on for the segmenter."""
    indices = part_indices(data, splits, part)
    if name == "segmenter":
        _check_masks(data, indices)
        if (selection or config.segmenter.slices) == "infected":
            indices = indices[data.labels[indices] == 1]
    if not len(indices):
        raise InputError(f"{name}: the {part} part has no slice to work on, add slices or change split.shares or seed")
    stage = config[name]
    sizes = SliceSizes(slice_size(stage.input), tuple(stage.input.size))
    return SliceReader(data, indices, sizes, config.data.cache if cache is None else cache)


def _check_masks(data: Prepared, indices: np.ndarray) -> None:
    without = indices[~data.has_mask[indices]]
    if len(without):
        raise InputError(
            f"{data.ids[without[0]]} (and {len(without) - 1} more): no mask, segmentation needs one per slice; "
            "add it to masks/ or train a classifier only (configs/cov_ctnet.py)"
        )


def _measured_stage(name: str, config: Any, reader: SliceReader, workdir: Path) -> Stage:
    """Puts a stage together for training, measuring its statistics on the training part the first time."""
    if statistics_path(name, workdir).is_file():
        return make_stage(name, config[name], read_statistics(name, workdir), axis_name=AXIS)
    batches = eval_batches(reader, batch_size=config[name].batch_size)
    total = -(-len(reader) // config[name].batch_size)
    batches = tqdm(batches, total=total, desc=f"{name}: measuring training slices", unit="batch", leave=False)
    statistics = measure_statistics(name, config[name], batches)
    write_json(statistics_path(name, workdir), statistics_to_json(statistics))
    return make_stage(name, config[name], statistics, axis_name=AXIS)


def _runner(stage: Stage, variables: Any, batch_size: int) -> Callable[..., tuple[Rows, float]]:
    """Returns run(reader, keep) -> (rows of all its slices, seconds without the first batch's compilation)."""
    predictors: dict[tuple, Callable] = {}

    def run(reader: SliceReader, keep: tuple[str, ...]) -> tuple[Rows, float]:
        if keep not in predictors:
            predictors[keep] = make_predictor(stage, keep)
        total = -(-len(reader) // batch_size)
        rows = predictors[keep](variables, eval_batches(reader, batch_size=batch_size))
        rows = iter(tqdm(rows, total=total, desc=f"{stage.name}: evaluating", unit="batch", leave=False))
        start = time.perf_counter()
        parts = [next(rows)]
        if total > 1:
            start = time.perf_counter()
        parts += rows
        slices = len(reader) - (batch_size if total > 1 else 0)
        return collect(parts), (time.perf_counter() - start) * len(reader) / slices

    return run


def _examples(run: Callable, reader: SliceReader, rows: Rows) -> dict[str, dict[str, np.ndarray]]:
    """Segments the best, median and worst slices once more, this time keeping the pictures."""
    dice = per_image_dice(rows["confusion"])
    ranks = rank_examples(dice)
    positions = np.concatenate(list(ranks.values()))
    if not len(positions):
        return {}
    some = SliceReader(reader.data, reader.indices[positions], reader.sizes, cache=True)
    predicted = run(some, keep=("predicted",))[0]["predicted"]
    rank = np.repeat(list(ranks), [len(p) for p in ranks.values()])
    return {"examples": example_arrays(some, predicted, dice[positions], rank)}


def _record_timing(workdir: Path, name: str, values: dict[str, Any]) -> None:
    path = workdir / "results" / "timing.json"
    timing = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    timing[name] = timing.get(name, {}) | values
    write_json(path, timing)
