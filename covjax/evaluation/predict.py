"""Batched, pmapped prediction: per-slice rows, identical for every batch size and device count."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax

from covjax.data.loader import Batch
from covjax.parallel import pmap_eval, shard, unshard
from covjax.stages import Rows, Stage

INPUTS = ("image", "mask", "label", "valid")


def make_predictor(stage: Stage, keep: tuple[str, ...] = ()) -> Callable[[Any, Iterable[Batch]], Iterator[Rows]]:
    """Returns predict(variables, batches), which yields the rows of every batch without its padding.

    Rows are per-slice arrays: "loss", "weight" and what the task says ("probability"; "confusion"). Pictures as large
    as the input ("predicted") stay on the device unless named in `keep`. The device starts on a batch before the rows
    of the one before are fetched, so that it need not wait for the host.
    """
    step = pmap_eval(partial(_rows, stage=stage, keep=keep))

    def predict(variables, batches):
        started = None
        for batch in batches:
            previous, started = started, (step(variables, shard({k: batch[k] for k in INPUTS})), batch["valid"])
            if previous is not None:
                yield _fetch(*previous)
        if started is not None:
            yield _fetch(*started)

    return predict


def _fetch(rows: dict[str, jax.Array], valid: np.ndarray) -> Rows:
    return {k: v[valid] for k, v in unshard(rows).items()}


def _rows(variables: Any, batch: dict[str, jax.Array], *, stage: Stage, keep: tuple[str, ...]) -> dict[str, jax.Array]:
    logits = _logits(variables, batch["image"], stage)
    loss, weight = stage.loss(logits, batch)
    rows = stage.task.rows(logits, stage.task.truth(batch))
    rows = {k: v for k, v in rows.items() if k != "predicted" or k in keep}
    return rows | {"loss": loss, "weight": weight}


def _logits(variables: Any, images: jax.Array, stage: Stage) -> jax.Array:
    """Runs the network on images [N, H, W]. A CPU segments them one by one: what lies between layers stays in cache."""
    together = partial(stage.logits, variables, train=False)
    if stage.task.name != "segmentation":
        return together(images)
    one_by_one = partial(lax.map, lambda image: together(image[None])[0])
    return lax.platform_dependent(images, cpu=one_by_one, default=together)


def collect(rows: Iterable[Rows]) -> Rows:
    """Joins the rows of all batches."""
    parts = list(rows)
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


def mean_loss(rows: Rows) -> float:
    """The loss over all slices: weighted sums over weights, so that batches do not matter."""
    weight = rows["weight"].astype(np.float64).sum()
    return float(rows["loss"].astype(np.float64).sum() / weight) if weight else float("nan")


def scores_of(stage: Stage, rows: Rows) -> dict[str, dict]:
    """Returns the scores of a stage over rows of any number of slices."""
    return stage.task.scores(rows, stage.config)
