"""Batched, pmapped prediction: per-slice rows, identical for every batch size and device count."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

from covjax.data.loader import Batch
from covjax.data.source import infected
from covjax.errors import RunError
from covjax.evaluation.options import PLAIN, Options
from covjax.evaluation.postprocess import remove_small
from covjax.evaluation.tta import averaged_outputs
from covjax.metrics import confusion_matrix, surface_scores
from covjax.parallel import pmap_eval, shard, unshard
from covjax.stages import Rows, Stage

INPUTS = ("image", "mask", "label", "valid")
ON_REQUEST = ("predicted", "pixel_probability", "features")  # rows too large to be fetched unless named in `keep`


class NotFinite(RunError):
    """A network returned NaN or infinity for a slice, so that nothing can be called."""

    def __init__(self, stage: str, position: int, name: str = ""):
        """Takes the slice's place among those predicted, and its name where that is known."""
        self.stage, self.position = stage, position
        super().__init__(
            f"{name or f'slice {position}'}: what the {stage} returns is NaN or infinite, so nothing is called; its "
            "weights are damaged or diverged, train it anew (with a lower optimizer.learning_rate, or dtype=float32)"
        )

    def of(self, name: str) -> "NotFinite":
        """Returns the error with the slice's name."""
        return NotFinite(self.stage, self.position, name)


def make_predictor(
    stage: Stage, keep: tuple[str, ...] = (), options: Options = PLAIN
) -> Callable[[Any, Iterable[Batch]], Iterator[Rows]]:
    """Returns predict(variables, batches), which yields the rows of every batch without its padding.

    Rows are per-slice arrays: "loss", "weight" and what the task says ("confusion"; or "log_odds" and "probability" of
    infection, float64 and calibrated). Those in ON_REQUEST stay on the device unless named in `keep`: masks "predicted"
    uint8 [n, h, w], "pixel_probability" of infection of any class float32 [n, h, w], a classifier's penultimate
    "features" float32 [n, D]. With "surface" in `keep` the host adds the scores of the boundaries of the infected
    region, float64 [n, 2] each. The device starts on a batch before the rows of the one before are fetched, so that it
    need not wait for the host.

    Raises NotFinite where logits are: neither a comparison nor a maximum would show it.
    """
    clean = options.min_size if stage.name == "segmenter" else 0
    fetched = {*keep, "predicted"} if clean or "surface" in keep else set(keep)
    step = pmap_eval(partial(_rows, stage=stage, keep=fetched, tta=options.tta))

    def fetch(rows, batch, done):
        rows = unshard(rows)
        if clean:
            rows |= _cleaned(rows, batch["mask"], clean)
        rows = {k: v[batch["valid"]] for k, v in rows.items()}
        finite = rows.pop("finite")
        if not finite.all():
            raise NotFinite(stage.name, done + int(finite.argmin()))
        if "surface" in keep:
            rows |= _of_boundaries(batch["mask"][batch["valid"]], rows["predicted"])
        return {k: v for k, v in (rows | _calibrated(stage, rows)).items() if k in keep or k not in ON_REQUEST}

    def predict(variables, batches):
        started, done = None, 0
        for batch in batches:
            previous, started = started, (step(variables, shard({k: batch[k] for k in INPUTS})), batch)
            if previous is not None:
                yield fetch(*previous, done)
                done += int(previous[1]["valid"].sum())
        if started is not None:
            yield fetch(*started, done)

    return predict


def _rows(
    variables: Any, batch: dict[str, jax.Array], *, stage: Stage, keep: set[str], tta: tuple[str, ...]
) -> dict[str, jax.Array]:
    images = batch["image"]
    outputs = averaged_outputs(stage, variables, images, tta) if tta else stage.outputs(variables, images)
    logits = outputs.pop("logits")
    loss, weight = stage.loss(logits, batch)
    rows = stage.task.rows(logits, stage.task.truth(batch)) | outputs
    if "pixel_probability" in keep:
        rows["pixel_probability"] = _of_infection(jax.nn.softmax(logits))
    rows = {k: v for k, v in rows.items() if k in keep or k not in ON_REQUEST}
    finite = jnp.isfinite(logits).all(tuple(range(1, logits.ndim)))
    return rows | {"loss": loss, "weight": weight, "finite": finite}


def _calibrated(stage: Stage, rows: Rows) -> Rows:
    """Returns the log-odds and the probability of infection, float64 [n], with the stage's temperature."""
    if "log_odds" not in rows:
        return {}
    log_odds = stage.calibrated(rows["log_odds"])
    return {"log_odds": log_odds, "probability": expit(log_odds)}


def _of_infection(probability: jax.Array) -> jax.Array:
    """The probability [..., K] of any class but the first, the background."""
    return probability[..., 1] if probability.shape[-1] == 2 else probability[..., 1:].sum(-1)


def _cleaned(rows: Rows, truth: np.ndarray, min_size: int) -> Rows:
    """Returns masks without small components and what is counted in them."""
    predicted = remove_small(rows["predicted"], min_size)
    confusion = confusion_matrix(truth, predicted, rows["confusion"].shape[-1])
    return {"predicted": predicted, "confusion": np.asarray(confusion)}


def _of_boundaries(truth: np.ndarray, predicted: np.ndarray) -> Rows:
    """Boundary scores of the infected region, whatever its classes."""
    return surface_scores(np.where(infected(truth), 1, truth), (predicted > 0).astype(np.uint8))


def collect(rows: Iterable[Rows]) -> Rows:
    """Joins the rows of all batches."""
    parts = list(rows)
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


def mean_loss(rows: Rows) -> float:
    """The loss over all slices: weighted sums over weights, so that batches do not matter."""
    weight = rows["weight"].astype(np.float64).sum()
    return float(rows["loss"].astype(np.float64).sum() / weight) if weight else float("nan")


def scores_of(stage: Stage, rows: Rows, patients: Sequence[str] | None = None) -> dict[str, dict]:
    """Returns the scores of a stage over rows of any number of slices, bootstrapped over `patients` if given."""
    return stage.task.scores(rows, stage.threshold, patients)
