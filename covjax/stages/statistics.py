"""Measuring a stage on its training split: normalisation, class counts and class weights."""

import hashlib
import json
from collections.abc import Iterable
from typing import NotRequired, TypedDict

import jax
import jax.numpy as jnp
import numpy as np

from covjax.data.settings import DataSettings
from covjax.models import published
from covjax.optim.losses import class_weights
from covjax.preprocess.network_input import Normalization, enhanced, pretrained_normalization
from covjax.stages import task_of
from covjax.stages.settings import StageSettings
from covjax.stages.stage import Statistics, make_model

INPUTS = ("image", "mask", "label")


def measure_statistics(
    name: str,
    config: StageSettings,
    batches: Iterable[dict[str, np.ndarray]],
    data: DataSettings | None = None,
) -> Statistics:
    """Measures normalisation and class counts over batches of the training split.

    With input.normalize="pretrained" the normalisation is not measured, but what the published
    weights expect. Of `data` see `task_of`. Raises InputError for an unknown class_weights rule
    or a class that never occurs.
    """
    task = task_of(name, data)

    @jax.jit
    def of_slices(batch):
        x = enhanced(batch["image"], config.input, task.predicts_masks)
        truth = task.truth(batch).reshape(len(batch["image"]), -1)
        counts = jnp.stack([(truth == k).sum(1) for k in range(len(task.classes))], 1)
        return x.mean((1, 2)), (x**2).mean((1, 2)), counts

    measured = []
    for batch in batches:
        values = jax.device_get(of_slices({key: batch[key] for key in INPUTS}))
        measured.append([value[batch["valid"]] for value in values])
    # of every slice
    means, squares, counts = (np.concatenate(values) for values in zip(*measured, strict=True))
    counts = counts.astype(np.int64)
    occurs = counts > 0
    # Where a slice is of one class, there is nothing to count within it.
    pixels = (counts.sum(1, keepdims=True) * occurs).sum(0) if task.predicts_masks else None
    counts = counts.sum(0)
    weights = class_weights(config.loss.class_weights, counts, task.classes, pixels)
    if config.input.normalize == "pretrained":
        network = published(make_model(name, config))
        assert network is not None  # a configuration without one is refused
        mean, std, _ = network.pretrained_input
        normalization = pretrained_normalization(mean, std, config.input.channels)
    else:
        mean = means.mean(0, dtype=np.float64)
        std = np.sqrt(np.maximum(squares.mean(0, dtype=np.float64) - mean**2, 0))
        normalization = Normalization(mean.astype(np.float32), std.astype(np.float32))
    return Statistics(normalization, counts, weights, pixels)


class StatisticsFile(TypedDict):
    """statistics_STAGE.json."""

    mean: list[float]
    std: list[float]
    class_counts: list[int]
    class_weights: list[float]
    image_pixels: NotRequired[list[int]]


def statistics_to_json(statistics: Statistics) -> dict[str, list]:
    """Returns the statistics as plain lists, exactly."""
    mean, std = statistics.normalization
    values = {
        "mean": mean,
        "std": std,
        "class_counts": statistics.class_counts,
        "class_weights": statistics.class_weights,
        "image_pixels": statistics.image_pixels,
    }
    return {name: value.tolist() for name, value in values.items() if value is not None}


def statistics_digest(statistics: Statistics) -> str:
    """Returns a hash of the statistics, by which a checkpoint knows those that it belongs to."""
    content = json.dumps(statistics_to_json(statistics), sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def statistics_from_json(values: StatisticsFile) -> Statistics:
    """Reads what `statistics_to_json` returned; raises ValueError for what cannot be measured."""
    normalization = Normalization(
        np.array(values["mean"], np.float32), np.array(values["std"], np.float32)
    )
    counts = np.array(values["class_counts"])
    weights = np.array(values["class_weights"], np.float32)
    pixels = np.array(values["image_pixels"]) if "image_pixels" in values else None
    _check_range("mean", normalization.mean, -np.inf)
    _check_range("std", normalization.std)
    _check_range("class_counts", counts)
    _check_range("class_weights", weights)
    if normalization.mean.shape != normalization.std.shape or counts.shape != weights.shape:
        raise ValueError("mean and std, or class_counts and class_weights, differ in length")
    return Statistics(normalization, counts, weights, pixels)


def _check_range(name: str, values: np.ndarray, least: float = 0) -> None:
    if values.ndim != 1 or not np.isfinite(values).all() or (values < least).any():
        raise ValueError(f"{name} is {values.tolist()}, out of range")
