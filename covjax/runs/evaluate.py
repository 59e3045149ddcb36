"""Evaluating a trained run on one part of its data: every stage, both together, and what was asked
for beside.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from tqdm import tqdm

from covjax.data.label_map import class_names
from covjax.data.loader import Batch, SliceReader, eval_batches
from covjax.data.prepared.dataset import Prepared
from covjax.data.splits.splits import PARTS, part_indices, read_splits
from covjax.errors import InputError, unknown
from covjax.evaluation.explain import grad_cam, most_confident
from covjax.evaluation.options import PLAIN, Options
from covjax.evaluation.predict import LARGE, NotFinite, collect, make_predictor
from covjax.evaluation.predictions import FORMATS, Save, saved_predictions
from covjax.evaluation.results import (
    Evaluated,
    evaluate_classifier,
    evaluate_segmenter,
    example_arrays,
    rank_examples,
    write_part,
)
from covjax.evaluation.tta import check_tta
from covjax.files import read_json, write_json
from covjax.metrics import infected_or_not, per_image_dice
from covjax.parallel import round_up
from covjax.runs.both_stages import evaluate_framework, gated_confusions
from covjax.runs.calibrate import noted
from covjax.runs.slices import open_run_data, part_reader, with_crops
from covjax.runs.trained import load_trained
from covjax.settings.config import read_config, stage_names
from covjax.stages.stage import Rows, Stage

# Rows that an evaluation adds to those of training.
KEEP = {"classifier": ("features",), "segmenter": ("surface", "lesions")}
MAX_FEATURES = 4_000_000  # numbers in features.npz: beyond, every second, third .. slice is kept


class Seen(NamedTuple):
    """What a stage says of the slices it sees, before any score is computed."""

    indices: np.ndarray  # [n], which slices of the data
    rows: Rows


def evaluate_run(
    workdir: Path, part: str = "test", batch_size: int | None = None, *,
    options: Options = PLAIN, save_predictions: str | None = None, explain: bool = False,
) -> None:  # fmt: skip
    """Evaluates a trained run on one part of its data, in batches, and writes results/PART/ when
    all is computed.

    Args:
      workdir: of the run.
      part: train, val or test.
      batch_size: slices per batch, over all devices; None for that of the training.
      options: test-time augmentation and post-processing.
      save_predictions: "png" or "npz", to write the masks of the slices that stage 2 sees to results/PART/predictions/.
      explain: whether to write Grad-CAM heat maps of the classifier's most confident calls to explain.npz.

    Raises InputError if the part is unknown, the data are gone or the run lacks the stage that an
    option is about, RunError if a stage was not trained.
    """
    if part not in PARTS:
        raise InputError(f"--split: '{part}' is unknown, use one of {', '.join(PARTS)}")
    config = read_config(workdir)
    check_asked(stage_names(config), options, save_predictions, explain)
    check_tta(config, options.tta)
    splits = read_splits(workdir / "splits.json")
    data = open_run_data(config, splits)
    folder = workdir / "results" / part
    indices = part_indices(data, splits, part)
    data = with_crops(config, data, indices)
    several = len(class_names(config.data.classes)) > 2
    with saved_predictions(folder / "predictions", save_predictions, several) as save:
        stages = {}
        arrays = {}
        seen = {}
        run = {}
        speed = {}
        for name in stage_names(config):
            stages[name], variables = load_trained(name, config, workdir)
            stages[name] = noted(stages[name], options.tta)
            saved = FORMATS[save_predictions] if save and name == "segmenter" else ()
            size = round_up(batch_size or config[name].batch_size)
            run[name] = _runner(stages[name], variables, size, options, save, saved, data.unit)
            if name == "segmenter" and _nothing_to_segment(config, data, indices, splits):
                logging.warning(
                    "the %s part of fold %d has no infected slice to segment", part, splits["fold"]
                )
                continue
            reader = part_reader(
                name, config, data, splits, part, cache=False, native=name == "segmenter"
            )
            rows, seconds = run[name](reader, keep=KEEP[name])
            speed[name] = {"slices_per_second_eval": round(len(reader) / seconds, 3)}
            if name == "classifier":
                rows["called"] = stages[name].calls(rows["log_odds"])
                arrays |= _features(reader, rows.pop("features", None))
                arrays |= _explanations(stages[name], variables, reader, rows) if explain else {}
            else:
                arrays |= _examples(run[name], reader, rows)
            seen[name] = Seen(reader.indices, rows)
        if len(stages) == 2:
            reader = part_reader(
                "segmenter", config, data, splits, part, cache=False, selection="all", native=True
            )
            seen["framework"] = _framework(reader, seen, run["segmenter"])
        arrays["rows"] = rows_to_arrays(seen, data, indices)
        write_part(
            folder,
            part,
            data,
            indices,
            evaluate_seen(stages, seen, data),
            arrays,
            options.in_force(),
        )
    for name in speed:
        record_timing(workdir, name, speed[name])


def _framework(reader: SliceReader, seen: Mapping[str, Seen], run: Callable) -> Seen:
    """Returns what both stages together say of the slices of `reader`: those that stage 1 called go
    through stage 2.

    Of several classes, only whether pixels are infected or not.
    """
    known = {}
    if "segmenter" in seen:
        confusions = infected_or_not(seen["segmenter"].rows["confusion"])
        known = dict(zip(seen["segmenter"].indices.tolist(), confusions, strict=True))
    segment = lambda some: infected_or_not(run(some, keep=())[0]["confusion"])  # noqa: E731
    called = seen["classifier"].rows["called"]
    return Seen(reader.indices, {"confusion": gated_confusions(called, reader, known, segment)})


def check_asked(
    names: list[str], options: Options, save_predictions: str | None = None, explain: bool = False
) -> None:
    """Raises InputError if the run lacks the stage that an option is about."""
    if save_predictions is not None and save_predictions not in FORMATS:
        raise unknown("--save_predictions", save_predictions, FORMATS)
    for flag, asked, stage in (
        ("min_size", options.min_size, "segmenter"),
        ("save_predictions", save_predictions, "segmenter"),
        ("explain", explain, "classifier"),
    ):
        if asked and stage not in names:
            raise InputError(f"--{flag}: this run has no {stage}, leave the flag out")


def evaluate_seen(
    stages: Mapping[str, Stage], seen: Mapping[str, Seen], data: Prepared
) -> dict[str, Evaluated]:
    """Returns what every stage says of a part: scores and columns, from its rows alone."""
    found = {}
    for name, evaluate in (("classifier", evaluate_classifier), ("segmenter", evaluate_segmenter)):
        if name in seen:
            found[name] = evaluate(stages[name], seen[name].rows, data, seen[name].indices)
    if "framework" in seen:
        screened = seen["classifier"].rows
        indices, rows = seen["framework"]
        found["framework"] = evaluate_framework(
            stages["classifier"].threshold, screened, rows["confusion"], data, indices
        )
    return found


def rows_to_arrays(
    seen: Mapping[str, Seen], data: Prepared, indices: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the arrays of rows.npz, from which a part can be scored again: see
    `rows_from_arrays`.
    """
    arrays = {
        "id": np.array([data.ids[i] for i in indices]),
        "patient": np.array([data.patients[i] for i in indices]),
        "label": data.labels[indices],
        "notes": np.array(["; ".join(data.notes.get(i, ())) for i in indices.tolist()]),
        "has_mask": data.has_mask[indices],
        "infected_pixels": data.infected_pixels[indices],
        "counted_pixels": data.counted_pixels[indices],
        "truth": np.array([data.truth[i] for i in indices]),
        "unit": np.array(data.unit),
    }
    position = {index: place for place, index in enumerate(indices.tolist())}
    for name, (some, rows) in seen.items():
        arrays[f"{name}/position"] = np.array([position[i] for i in some.tolist()], np.int64)
        arrays |= {f"{name}/{row}": values for row, values in rows.items()}
    return arrays


def rows_from_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, Seen]:
    """Returns what the arrays of rows.npz hold, the slices numbered by their place in its "id"."""
    found: dict[str, Rows] = {}
    for key, values in arrays.items():
        stage, _, row = key.rpartition("/")
        if stage:
            found.setdefault(stage, {})[row] = values
    return {name: Seen(rows.pop("position"), rows) for name, rows in found.items()}


def _nothing_to_segment(
    config: Any, data: Prepared, indices: np.ndarray, splits: dict[str, Any]
) -> bool:
    """A fold of patients without infection is no mistake: its slices count where the folds are
    pooled.
    """
    return (
        bool(splits.get("folds"))
        and config.segmenter.slices == "infected"
        and not data.labels[indices].any()
    )


def _runner(
    stage: Stage,
    variables: Any,
    batch_size: int,
    options: Options,
    save: Save | None,
    saved: tuple[str, ...],
    unit: str,
) -> Callable[..., tuple[Rows, float]]:
    """Returns run(reader, keep) -> (rows of all its slices, seconds without the first batch's
    compilation).

    The rows `saved` go to `save` beside.
    """
    predict = make_predictor(stage, KEEP[stage.name], options, unit)

    def predicted(reader: SliceReader, batches: Iterator[Batch], keep: set[str]) -> Iterator[Rows]:
        try:
            yield from predict(variables, batches, keep=keep)
        except NotFinite as error:
            raise error.of(reader.data.ids[reader.indices[error.position]]) from None

    def run(reader: SliceReader, keep: tuple[str, ...]) -> tuple[Rows, float]:
        total = -(-len(reader) // batch_size)
        batches = predicted(reader, eval_batches(reader, batch_size=batch_size), {*keep, *saved})
        batches = iter(
            tqdm(batches, total=total, desc=f"{stage.name}: evaluating", unit="batch", leave=False)
        )
        start = time.perf_counter()
        parts = []
        done = 0
        for rows in batches:
            n = len(rows["loss"])
            if saved:
                save([reader.data.ids[i] for i in reader.indices[done : done + n]], rows)
            parts.append(_kept(rows, keep, done, len(reader)))
            done += n
            if len(parts) == 1 and total > 1:
                start = time.perf_counter()
        slices = len(reader) - (batch_size if total > 1 else 0)
        return collect(parts), (time.perf_counter() - start) * len(reader) / slices

    return run


def _kept(rows: Rows, keep: tuple[str, ...], first: int, total: int) -> Rows:
    """Drops what was only fetched to be saved, and the features of slices for which there is no
    room.
    """
    rows = {name: values for name, values in rows.items() if name in keep or name not in LARGE}
    if "features" in rows:
        every = _features_every(total, rows["features"].shape[1])
        rows["features"] = rows["features"][-first % every :: every]
    return rows


def _features_every(slices: int, size: int) -> int:
    return -(-slices * size // MAX_FEATURES)


def _features(reader: SliceReader, features: np.ndarray | None) -> dict[str, dict[str, np.ndarray]]:
    if features is None:
        return {}
    indices = reader.indices[:: _features_every(len(reader), features.shape[1])]
    ids = np.array([reader.data.ids[i] for i in indices])
    return {"features": {"features": features, "label": reader.data.labels[indices], "id": ids}}


def _explanations(
    stage: Stage, variables: Any, reader: SliceReader, rows: Rows
) -> dict[str, dict[str, np.ndarray]]:
    label = rows["label"]
    probability = rows["probability"]
    chosen = most_confident(label, rows["log_odds"], rows["called"])
    images = np.stack([reader[i]["image"] for i in chosen])
    heat = jax.jit(lambda v, x: grad_cam(stage, v, x))(variables, images)
    ids = np.array([reader.data.ids[i] for i in reader.indices[chosen]])
    return {"explain": {
        "id": ids, "image": images, "heat": np.asarray(heat), "label": label[chosen],
        "probability": probability[chosen], "called": rows["called"][chosen],
    }}  # fmt: skip


def _examples(run: Callable, reader: SliceReader, rows: Rows) -> dict[str, dict[str, np.ndarray]]:
    """Segments the best, median and worst slices once more, this time keeping the pictures."""
    dice = per_image_dice(infected_or_not(rows["confusion"]))
    ranks = rank_examples(dice)
    positions = np.concatenate(list(ranks.values()))
    if not len(positions):
        return {}
    some = reader.of(reader.indices[positions])
    predicted = run(some, keep=("predicted",))[0]["predicted"]
    rank = np.repeat(list(ranks), [len(p) for p in ranks.values()])
    return {"examples": example_arrays(some, predicted, dice[positions], rank)}


def record_timing(workdir: Path, name: str, values: dict[str, Any]) -> None:
    """Adds what was measured of a stage to results/timing.json."""
    path = workdir / "results" / "timing.json"
    timing = read_json(path, "delete it") if path.is_file() else {}
    timing[name] = timing.get(name, {}) | values
    write_json(path, timing)
