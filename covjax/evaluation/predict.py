"""Batched, pmapped prediction: per-slice rows, identical for every batch size and device count."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

from covjax.data.loader import Batch
from covjax.data.views import Native, whole_view
from covjax.errors import RunError
from covjax.evaluation.delivered import delivered_rows
from covjax.evaluation.options import PLAIN, Options
from covjax.evaluation.tta import averaged_outputs
from covjax.parallel import pmap_eval, shard, unshard
from covjax.stages.stage import Stage
from covjax.stages.task import Rows

INPUTS = ("image", "mask", "label", "valid")
# rows that are kept only where `keep` names them
LARGE = ("predicted", "pixel_probability", "features")


class NotFinite(RunError):
    """A network returned NaN or infinity for a slice, so that nothing can be called."""

    def __init__(self, stage: str, position: int, name: str = ""):
        """Takes the slice's place among those predicted, and its name where that is known."""
        self.stage = stage
        self.position = position
        super().__init__(
            f"{name or f'slice {position}'}: what the {stage} returns is NaN or infinite, so "
            "nothing is called; its weights are damaged or diverged, train it anew (with a lower "
            "optimizer.learning_rate, or dtype=float32)"
        )

    def of(self, name: str) -> "NotFinite":
        """Returns the error with the slice's name."""
        return NotFinite(self.stage, self.position, name)


def make_predictor(
    stage: Stage, keep: Sequence[str] = (), options: Options = PLAIN, unit: str = "pixels"
) -> Callable[..., Iterator[Rows]]:
    """Returns predict(variables, batches, keep=keep), which yields each batch's rows unpadded.

    Rows are per-slice arrays: "loss", "weight" and what the task says ("confusion"; or "log_odds"
    and "probability" of infection, float64 and calibrated), a classifier's penultimate "features"
    float32 [n, D] if named in `keep`. A segmenter's masks are delivered in the slices' own size and
    counted there (see `evaluation.delivered`, also of what `keep` may name) where batches hold the
    slices so, "native", or where `keep` or `options` ask for masks at all: then what the batch
    holds is the slice. Else, in training, confusion is counted on the device at the network's size.

    The device starts on a batch before the rows of the one before are fetched, so that it need not
    wait for the host.

    Raises NotFinite where logits are: neither a comparison nor a maximum would show it.
    """
    features = "features" in keep
    segments = stage.task.predicts_masks
    at_network, delivered = (
        pmap_eval(
            partial(_rows, stage=stage, features=features, tta=options.tta, probabilities=on_host)
        )
        for on_host in (False, True)
    )

    def start(variables, batch, keep):
        on_host = segments and bool("native" in batch or keep or options.min_size)
        return (delivered if on_host else at_network)(
            variables, shard({k: batch[k] for k in INPUTS})
        ), batch

    def fetch(rows, batch, keep, done):
        rows = {k: v[batch["valid"]] for k, v in unshard(rows).items()}
        finite = rows.pop("finite")
        if not finite.all():
            raise NotFinite(stage.name, done + int(finite.argmin()))
        if "probabilities" in rows:
            rows |= delivered_rows(
                _natives(batch), rows.pop("probabilities"), set(keep), options.min_size, unit
            )
        return rows | _calibrated(stage, rows, options.tta)

    def predict(variables, batches, keep=keep):
        started = None
        done = 0
        for batch in batches:
            previous = started
            started = start(variables, batch, keep)
            if previous is not None:
                yield fetch(*previous, keep, done)
                done += int(previous[1]["valid"].sum())
        if started is not None:
            yield fetch(*started, keep, done)

    return predict


def _natives(batch: Batch) -> list[Native]:
    if "native" in batch:
        return batch["native"]
    return [Native(whole_view(mask.shape), mask) for mask in batch["mask"][batch["valid"]]]


def _rows(
    variables: Any, batch: dict[str, jax.Array], *,
    stage: Stage, features: bool, tta: tuple[str, ...], probabilities: bool,
) -> dict[str, jax.Array]:  # fmt: skip
    images = batch["image"]
    outputs = (
        averaged_outputs(stage, variables, images, tta) if tta else stage.outputs(variables, images)
    )
    logits = outputs.pop("logits")
    loss, weight = stage.loss(logits, batch)
    finite = jnp.isfinite(logits).all(tuple(range(1, logits.ndim)))
    rows = {"loss": loss, "weight": weight, "finite": finite} | (outputs if features else {})
    if probabilities:
        probability = jax.nn.softmax(logits.astype(jnp.float32))
        rows["probabilities"] = probability[..., 1] if probability.shape[-1] == 2 else probability
    else:
        rows |= stage.task.rows(logits, stage.task.truth(batch))
    return rows


def _calibrated(stage: Stage, rows: Rows, tta: tuple[str, ...]) -> Rows:
    """Returns log-odds, calibrated, and probability of infection, float64 [n] each.

    Of several views each was calibrated before they were averaged.
    """
    if "log_odds" not in rows:
        return {}
    log_odds = rows["log_odds"].astype(np.float64) if tta else stage.calibrated(rows["log_odds"])
    return {"log_odds": log_odds, "probability": expit(log_odds)}


def collect(rows: Iterable[Rows]) -> Rows:
    """Joins the rows of all batches: arrays to arrays, lists to lists."""
    parts = list(rows)
    return {k: _joined([part[k] for part in parts]) for k in parts[0]}


def _joined(values: Sequence[Any]) -> Any:
    return (
        [one for some in values for one in some]
        if isinstance(values[0], list)
        else np.concatenate(values)
    )


def mean_loss(rows: Rows) -> float:
    """The loss over all slices: weighted sums over weights, so that batches do not matter."""
    weight = rows["weight"].astype(np.float64).sum()
    return float(rows["loss"].astype(np.float64).sum() / weight) if weight else float("nan")
