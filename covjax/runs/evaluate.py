"""Evaluating a trained run on one split of its data: every stage, then two stages together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from covjax.data.label_map import class_names
from covjax.data.loader import SliceReader
from covjax.data.prepared.dataset import Prepared
from covjax.data.splits.splits import SPLITS, read_splits, split_indices
from covjax.errors import InputError, unknown
from covjax.evaluation.examples import example_arrays, rank_examples
from covjax.evaluation.explain import grad_cam, most_confident
from covjax.evaluation.options import PLAIN, Options
from covjax.evaluation.outputs import StageOutput, outputs_to_arrays
from covjax.evaluation.predictions import FORMATS, prediction_writer
from covjax.evaluation.result_files import write_results
from covjax.evaluation.results import Evaluated, evaluate_stage
from covjax.evaluation.runner import Runner, features_every
from covjax.evaluation.tta import check_tta
from covjax.files import replaced_folder, write_json
from covjax.locks import held
from covjax.metrics import infected_or_not, per_image_dice
from covjax.parallel import round_up
from covjax.records import Timing, read_record
from covjax.runs.both_stages import (
    TWO_STAGES,
    TwoStages,
    evaluate_two_stages,
    two_stages,
    two_stages_output,
)
from covjax.runs.calibrate import noted
from covjax.runs.slices import open_run_data, split_reader, with_crops
from covjax.runs.trained import load_trained
from covjax.settings import RunSettings, load_settings
from covjax.stages import task_of
from covjax.stages.stage import Stage
from covjax.stages.task import Rows
from covjax.training.checkpoint import digest

EXTERNAL = "external"  # of splits: the slices of another set, none of which was trained on
Arrays = dict[str, dict[str, np.ndarray]]  # NAME.npz -> its arrays


@dataclass(frozen=True)
class Subject:
    """The slices that a run is evaluated on, and how it reads them."""

    workdir: Path  # of the run
    config: RunSettings
    data: Prepared
    splits: dict[str, Any]
    split: str
    unmasked: tuple[str, ...] = ()  # stages that need masks, of slices without any

    def reader(
        self, name: str, *, selection: str | None = None, native: bool = False
    ) -> SliceReader:
        """Returns the slices that a stage works on."""
        return split_reader(
            name, self.config, self.data, self.splits, self.split,
            cache=False, selection=selection, native=native,
        )  # fmt: skip

    def cannot_be_scored(self, stage: Stage) -> bool:
        """Whether nothing here says what a stage should find, of which a warning says why.

        A fold without an infected patient counts where folds are pooled.
        """
        if stage.name in self.unmasked:
            logging.warning("%s: not scored, no infected slice has a mask", stage.name)
            return True
        indices = split_indices(self.data, self.splits, self.split)
        works_on_infected = stage.task.selection(stage.config) == "infected"
        if not works_on_infected or self.data.labels[indices].any():
            return False
        if not self.splits.get("folds") and self.splits["by"] != EXTERNAL:
            return False
        fold = f" of fold {self.splits['fold']}" if self.splits.get("folds") else ""
        logging.warning("the %s split%s has no infected slice to segment", self.split, fold)
        return True


@dataclass
class Evaluation:
    """What is known of a split so far, each by the name of the stage but `arrays`."""

    stages: dict[str, Stage] = field(default_factory=dict)
    runners: dict[str, Runner] = field(default_factory=dict)
    outputs: dict[str, StageOutput] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # per slice
    arrays: Arrays = field(default_factory=dict)


def evaluate_run(
    workdir: Path, split: str = "test", batch_size: int | None = None, *,
    options: Options = PLAIN, save_predictions: str | None = None, explain: bool = False,
    data_path: Path | None = None,
) -> None:  # fmt: skip
    """Evaluates a trained run in batches, and writes results/SPLIT/ when all is computed.

    Args:
      workdir: of the run.
      split: train, val or test.
      batch_size: slices per batch, over all devices; None for that of the training.
      options: test-time augmentation and post-processing.
      save_predictions: "png" or "npz", to write the predicted masks to results/SPLIT/predictions/.
      explain: whether to write Grad-CAM heat maps of the most confident calls to explain.npz.
      data_path: where the data lie now; None for data.path of the run.

    Raises:
      InputError: the split is unknown, the data are gone, the run lacks the stage that an option is
        about, or another process uses the workdir.
      RunError: a stage was not trained.
    """
    if split not in SPLITS:
        raise InputError(f"--split: '{split}' is unknown, use one of {', '.join(SPLITS)}")
    config = load_settings(workdir)
    check_options(config, options, save_predictions, explain)
    splits = read_splits(workdir / "splits.json")
    data = open_run_data(config, splits, data_path)
    data = with_crops(config, data, split_indices(data, splits, split).tolist())
    subject = Subject(workdir, config, data, splits, split)
    with held(workdir), replaced_folder(workdir / "results" / split) as folder:
        seconds = evaluate_into(
            folder, subject, batch_size,
            options=options, save_predictions=save_predictions, explain=explain,
        )  # fmt: skip
        for name, per_slice in seconds.items():
            record_timing(workdir, name, {"slices_per_second_eval": round(1 / per_slice, 3)})


def check_options(
    config: RunSettings, options: Options, save_predictions: str | None, explain: bool
) -> None:
    """Raises InputError for options that do not fit the stages of a run."""
    check_asked(config.stages, options, save_predictions, explain)
    check_tta(config, options.tta)


def evaluate_into(
    folder: Path, subject: Subject, batch_size: int | None = None, *,
    options: Options = PLAIN, save_predictions: str | None = None, explain: bool = False,
) -> dict[str, float]:  # fmt: skip
    """Evaluates every stage, then two together; returns seconds per slice of each stage.

    Writes the result files into `folder`; the rest as `evaluate_run`.
    """
    config = subject.config
    found = Evaluation()
    several = len(class_names(config.data.classes)) > 2
    save = prediction_writer(folder / "predictions", save_predictions, several)
    for name in config.stages:
        stage, variables = load_trained(name, config, subject.workdir)
        stage = noted(stage, options.tta)
        size = round_up(batch_size or config.stages[name].batch_size)
        saved = FORMATS[save_predictions] if save_predictions and stage.task.predicts_masks else ()
        found.stages[name] = stage
        found.runners[name] = Runner(
            stage, variables, size, options, subject.data.unit, save, saved
        )
        if subject.cannot_be_scored(stage):
            continue
        _evaluate_stage(
            found, name, subject.reader(name, native=stage.task.predicts_masks), explain
        )
    pair = two_stages(found.stages)
    if pair is not None and pair.segmenting not in subject.unmasked:
        reader = subject.reader(pair.segmenting, selection="all", native=True)
        found.outputs[TWO_STAGES] = _two_stages(found, pair, reader)
    indices = split_indices(subject.data, subject.splits, subject.split)
    found.arrays["rows"] = outputs_to_arrays(found.outputs, subject.data, indices)
    evaluated = evaluate_outputs(found.stages, found.outputs, subject.data)
    for name in found.stages.keys() & evaluated.keys():
        evaluated[name].section["checkpoint"] = digest(found.runners[name].variables, {})
    write_results(
        folder, subject.split, subject.data, indices, evaluated, found.arrays, options.in_force()
    )
    return found.seconds


def _evaluate_stage(found: Evaluation, name: str, reader: SliceReader, explain: bool) -> None:
    """Runs a stage over its slices, and keeps what the report shows of some of them."""
    runner = found.runners[name]
    task = runner.stage.task
    rows, seconds = runner.run(reader, task.keep)
    found.seconds[name] = seconds / len(reader)
    if task.calls_slices:
        rows["called"] = runner.stage.calls(rows["log_odds"])
        if explain:
            found.arrays["explain"] = _explanations(runner, reader, rows)
    if "features" in rows:
        found.arrays["features"] = _features(reader, rows.pop("features"))
    if task.predicts_masks:
        found.arrays |= _examples(runner, reader, rows)
    found.outputs[name] = StageOutput(reader.indices, rows)


def check_asked(
    names: Iterable[str],
    options: Options,
    save_predictions: str | None = None,
    explain: bool = False,
) -> None:
    """Raises InputError if the run lacks the stage that an option is about."""
    if save_predictions is not None and save_predictions not in FORMATS:
        raise unknown("--save_predictions", save_predictions, FORMATS)
    tasks = [task_of(name) for name in names]
    segments = any(task.predicts_masks for task in tasks)
    calls = any(task.calls_slices for task in tasks)
    for flag, asked, stage, present in (
        ("min_size", options.min_size, "segmenter", segments),
        ("save_predictions", save_predictions, "segmenter", segments),
        ("explain", explain, "classifier", calls),
    ):
        if asked and not present:
            raise InputError(f"--{flag}: this run has no {stage}, leave the flag out")


def evaluate_outputs(
    stages: Mapping[str, Stage], outputs: Mapping[str, StageOutput], data: Prepared
) -> dict[str, Evaluated]:
    """Returns scores and columns of every stage, from what it returned alone."""
    found = {
        name: evaluate_stage(stage, outputs[name].rows, data, outputs[name].indices)
        for name, stage in stages.items()
        if name in outputs
    }
    pair = two_stages(stages)
    if pair and TWO_STAGES in outputs:
        threshold = stages[pair.calling].threshold
        screened = outputs[pair.calling].rows
        found[TWO_STAGES] = evaluate_two_stages(threshold, screened, outputs[TWO_STAGES], data)
    return found


def _features(reader: SliceReader, features: np.ndarray) -> dict[str, np.ndarray]:
    indices = reader.indices[:: features_every(len(reader), features.shape[1])]
    ids = np.array([reader.data.ids[i] for i in indices])
    return {"features": features, "label": reader.data.labels[indices], "id": ids}


def _explanations(runner: Runner, reader: SliceReader, rows: Rows) -> dict[str, np.ndarray]:
    label = rows["label"]
    chosen = most_confident(label, rows["log_odds"], rows["called"])
    images = np.stack([reader[i]["image"] for i in chosen])
    heat = jax.jit(lambda v, x: grad_cam(runner.stage, v, x))(runner.variables, images)
    return {
        "id": np.array([reader.data.ids[i] for i in reader.indices[chosen]]),
        "image": images,
        "heat": np.asarray(heat),
        "label": label[chosen],
        "probability": rows["probability"][chosen],
        "called": rows["called"][chosen],
    }


def _examples(runner: Runner, reader: SliceReader, rows: Rows) -> Arrays:
    """Segments the best, median and worst slices once more, this time keeping the pictures."""
    dice = per_image_dice(infected_or_not(rows["confusion"]))
    ranks = rank_examples(dice)
    positions = np.concatenate(list(ranks.values()))
    if not len(positions):
        return {}
    some = reader.of(reader.indices[positions])
    predicted = runner.run(some, ("predicted",))[0]["predicted"]
    rank = np.repeat(list(ranks), [len(p) for p in ranks.values()])
    return {"examples": example_arrays(some, predicted, dice[positions], rank)}


def _two_stages(found: Evaluation, pair: TwoStages, reader: SliceReader) -> StageOutput:
    """Returns what two stages together say of the slices of `reader`, all of the split."""

    def segment(some: SliceReader) -> np.ndarray:
        return found.runners[pair.segmenting].run(some, ())[0]["confusion"]

    called = found.outputs[pair.calling].rows["called"]
    return two_stages_output(called, reader, found.outputs.get(pair.segmenting), segment)


def record_timing(workdir: Path, name: str, values: dict[str, Any]) -> None:
    """Adds what was measured of a stage to results/timing.json."""
    path = workdir / "results" / "timing.json"
    timing = read_record(path, Timing, "delete it") if path.is_file() else {}
    timing[name] = timing.get(name, {}) | values
    write_json(path, timing)
