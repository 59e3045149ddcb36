"""Batched, pmapped prediction: per-slice rows, identical for every batch size and device count."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from covjax.parallel import pmap_eval, shard, unshard
from covjax.stages import Rows, Stage

INPUTS = ("image", "mask", "label", "valid")


def make_predictor(stage: Stage, keep: tuple[str, ...] = ()) -> Callable[[Any, dict[str, np.ndarray]], Rows]:
    """Returns predict(variables, batch) -> rows of that batch without its padding.

    Rows are per-slice arrays: "loss", "weight" and what the task says ("probability"; "confusion"). Pictures as large
    as the input ("predicted") stay on the device unless named in `keep`.
    """
    step = pmap_eval(partial(_rows, stage=stage, keep=keep))

    def predict(variables, batch):
        rows = unshard(step(variables, shard({k: batch[k] for k in INPUTS})))
        return {k: v[batch["valid"]] for k, v in rows.items()}

    return predict


def _rows(variables: Any, batch: dict[str, jax.Array], *, stage: Stage, keep: tuple[str, ...]) -> dict[str, jax.Array]:
    logits = stage.logits(variables, batch["image"], train=False)
    loss, weight = stage.loss(logits, batch)
    rows = stage.task.rows(logits, stage.task.truth(batch))
    rows = {k: v for k, v in rows.items() if k != "predicted" or k in keep}
    return rows | {"loss": loss, "weight": weight}


def predict_rows(
    predict: Callable, variables: Any, batches: Iterable[dict[str, np.ndarray]]
) -> Iterator[tuple[dict[str, np.ndarray], Rows]]:
    """Yields (batch, rows) for every batch."""
    for batch in batches:
        yield batch, predict(variables, batch)


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
