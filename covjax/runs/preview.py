"""What the augmentation of a configuration does to training slices, as arrays to be drawn."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from covjax.data.loader import train_batches
from covjax.data.prepared.dataset import Prepared, prepare
from covjax.data.splits.splits import make_splits
from covjax.errors import InputError
from covjax.preprocess.augment import augment_batch
from covjax.runs.slices import needed_classes, split_reader
from covjax.settings import RunSettings
from covjax.training.step import step_keys

SLICES = 6
DRAWS = 7


class Preview(NamedTuple):
    """Training slices as they are, and as the first steps of a training would change them."""

    ids: list[str]  # [N]
    images: np.ndarray  # [1 + DRAWS, N, H, W], 0..255; the first as they are
    masks: np.ndarray  # uint8 [1 + DRAWS, N, h, w]: 0, 1, 255 where nothing is known or blanked
    infected: np.ndarray  # [1 + DRAWS, N]: 0 healthy to 1 infected, in between where mixed


def preview_augmentation(config: RunSettings) -> dict[str, Preview]:
    """Augments the first slices of the first epoch as DRAWS steps would, for each stage of a run.

    Masks are augmented for a classifier too, which trains without. Raises InputError for a
    configuration or data that cannot be used.
    """
    data = prepare(config.data)
    splits = make_splits(data, config.split, config.seed, needed_classes(config))
    return {name: _preview(name, config, data, splits) for name in config.stages}


def _preview(name: str, config: RunSettings, data: Prepared, splits: dict[str, Any]) -> Preview:
    reader = split_reader(name, config, data, splits, "train", cache=False)
    count = min(SLICES, len(reader) // 2 * 2)  # even, for pairs to mix
    if not count:
        raise InputError(
            f"{name}: the train split has a single slice, add slices or change split.shares or seed"
        )
    batch = next(train_batches(reader, batch_size=count, seed=config.seed, epoch=0))
    ids = [data.ids[i] for i in batch.pop("index")]
    how = config.stages[name].augment
    batch["valid"] = np.ones(count, bool)

    @jax.jit
    def step(number, batch):
        key, _ = step_keys(jax.random.PRNGKey(config.seed), number)
        return augment_batch(key, jnp.arange(count), batch, how)

    drawn = [batch, *(jax.device_get(step(number, batch)) for number in range(DRAWS))]
    labels = [x["label"][:, 1] if x["label"].ndim == 2 else x["label"] for x in drawn]
    return Preview(
        ids,
        np.stack([x["image"] for x in drawn]),
        np.stack([x["mask"] for x in drawn]),
        np.stack(labels),
    )
