"""A run in its workdir: prepare the data, split, measure, train each stage, then evaluate."""

from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from absl import logging
from tqdm import tqdm

from covjax.data.listing import LEFT_OUT, left_out_table
from covjax.data.loader import SliceReader, eval_batches
from covjax.data.prepared.dataset import Prepared, prepare
from covjax.data.splits.splits import SPLITS, make_splits, read_splits, split_indices
from covjax.errors import InputError
from covjax.files import write_json, write_whole
from covjax.locks import held
from covjax.records import read_record_or_empty
from covjax.runs.calibrate import check_calibration, fit_calibration, is_asked
from covjax.runs.evaluate import evaluate_run, record_timing
from covjax.runs.initialise import check_unseen, find_start, init_path, start_text
from covjax.runs.intensity import record_intensity
from covjax.runs.slices import check_sizes, needed_classes, split_reader, with_crops
from covjax.runs.trained import load_trained, read_statistics, statistics_path
from covjax.runtime import environment
from covjax.settings import RunSettings, check_workdir, claim_workdir
from covjax.stages import task_of
from covjax.stages.stage import Stage, make_stage
from covjax.stages.statistics import measure_statistics, statistics_to_json
from covjax.training.loop import check_batch_size, train_stage

# of environment.json: with the same a run that goes on ends with the same bits as one that did not
# stop
SAME_BITS = ("commit", "jax", "devices", "XLA_FLAGS", "remat")


class Environment(TypedDict, total=False):
    """environment.json, of which all else is only shown and compared."""

    changes: list[str]


def train_run(config: RunSettings, workdir: Path) -> None:
    """Trains every stage of a run and evaluates it on test; continues an interrupted call.

    Raises InputError, before anything is written, for a configuration or data that cannot be used,
    and if another process uses the workdir.
    """
    with held(workdir):
        _train(config, workdir)
        evaluate_run(workdir, "test")


def _train(config: RunSettings, workdir: Path) -> None:
    check_workdir(workdir, config)
    for name, stage in config.stages.items():
        check_batch_size(name, stage)
    starts = {name: find_start(name, config, workdir) for name in config.stages}
    data = prepare(config.data)
    if data.left_out:
        logging.warning("%d files of data.path are not read, see left_out.csv", len(data.left_out))
    data = with_crops(config, data)
    check_sizes(config, data)
    splits = _splits(config, data, workdir)
    check_calibration(config, data, splits)
    for name in [name for name, start in starts.items() if start is not None]:
        if config.stages[name].init.run:
            check_unseen(name, splits, Path(config.stages[name].init.run))
    claim_workdir(workdir, config)
    _record_environment(config, workdir)
    write_json(workdir / "splits.json", splits)
    write_whole(workdir / LEFT_OUT, left_out_table(data.left_out))
    record_intensity(config, data, workdir)
    for name in config.stages:
        readers = {
            split: split_reader(name, config, data, splits, split) for split in ("train", "val")
        }
        stage = _measured_stage(name, config, readers["train"], workdir)
        variables, record = starts.pop(name) or (None, None)
        if record is not None:
            write_json(init_path(name, workdir), record)
            print(start_text(name, record, config.stages[name].input.normalize), flush=True)
        record_timing(workdir, name, train_stage(stage, readers, config, workdir, start=variables))
        if stage.task.calls_slices and is_asked(stage.config):
            fit_calibration(
                *load_trained(name, config, workdir, calibrated=False), readers["val"], workdir
            )


def _record_environment(config: RunSettings, workdir: Path) -> None:
    """Writes environment.json, and says if a run goes on where the same bits are not promised."""
    path = workdir / "environment.json"
    kept = read_record_or_empty(path, Environment)
    before: dict[str, Any] = {**kept}
    now = environment() | {"remat": [name for name, s in config.stages.items() if s.remat]}
    changes = [
        f"{name} is {now[name]}, it was {before[name]}"
        for name in SAME_BITS
        if name in before and before[name] != now[name]
    ]
    if changes:
        logging.warning(
            "%s: %s; the run goes on, but not to the same bits as without this change",
            workdir,
            "; ".join(changes),
        )
    write_json(path, now | {"changes": [*kept.get("changes", []), *changes]})


def _splits(config: RunSettings, data: Prepared, workdir: Path) -> dict[str, Any]:
    """Reads the run's splits, or makes them the first time."""
    path = workdir / "splits.json"
    if not path.is_file():
        if config.split.by == "slice":
            logging.warning(
                "split.by=slice: slices of one patient are in train and test, scores will be "
                "optimistic"
            )
        splits = make_splits(data, config.split, config.seed, needed_classes(config))
        splits["origins"] = {
            split: [data.origins[i] for i in split_indices(data, splits, split)] for split in SPLITS
        }
        if left_out := splits.get("left_out"):
            logging.warning("%d slices are in no split (left_out in splits.json)", len(left_out))
        return splits
    splits = read_splits(path)
    if splits["fingerprint"] != data.fingerprint:
        raise InputError(
            f"{path}: the data changed since this run began, use another --workdir or restore the "
            "data"
        )
    return splits


def _measured_stage(name: str, config: RunSettings, reader: SliceReader, workdir: Path) -> Stage:
    """Puts a stage together for training; measures its statistics on train the first time."""
    if statistics_path(name, workdir).is_file():
        return make_stage(
            name, config.stages[name], read_statistics(name, workdir), data=config.data
        )
    batches = eval_batches(reader, batch_size=config.stages[name].batch_size)
    total = -(-len(reader) // config.stages[name].batch_size)
    batches = tqdm(
        batches, total=total, desc=f"{name}: measuring training slices", unit="batch", leave=False
    )
    statistics = measure_statistics(name, config.stages[name], batches, config.data)
    for missing in np.flatnonzero(statistics.class_counts == 0):
        never = task_of(name, config.data).classes[missing]
        logging.warning(
            "%s: %s never occurs in the training split, it will not be learned", name, never
        )
    write_json(statistics_path(name, workdir), statistics_to_json(statistics))
    return make_stage(name, config.stages[name], statistics, data=config.data)
