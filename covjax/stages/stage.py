"""A stage is one of the paper's two steps: a network, its task, and what was measured on its
training part.

The same loop, evaluation and checkpoints serve both; what differs stands in the Task table below.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from scipy.special import logit

from covjax.data.label_map import class_names
from covjax.errors import InputError
from covjax.metrics import (
    classification_scores,
    confusion_matrix,
    infection_scores,
    surface_summary,
)
from covjax.metrics.registry import OUTLINES, WHILE_TRAINING, checkpoint_scores
from covjax.models import create_model, list_models, model_options
from covjax.optim.freezing import check_parts, frozen_statistics
from covjax.optim.losses import sample_losses
from covjax.preprocess.network_input import Normalization, network_channels, network_input

Batch = dict[str, jax.Array]
Rows = dict[str, np.ndarray]
CLASSIFICATION_CLASSES = ("healthy", "infected")
SEGMENTATION_CLASSES = ("background", "infected")


@dataclass(frozen=True)
class Task:
    """Pure functions of a task, all of them named ones, so that a task and its stage can be
    pickled.

    truth(batch) -> int labels; rows(logits, truth) -> per-sample arrays (fetched from the device as
    they are); scores(rows, threshold of log-odds, patients) -> {name: score}, with intervals if
    patients are given; `best` names the score that selects the best checkpoint (higher is better).
    """

    name: str
    classes: tuple[str, ...]  # by their numbers in truth and logits
    truth: Callable[[Batch], jax.Array]
    rows: Callable[[jax.Array, jax.Array], dict[str, jax.Array]]
    scores: Callable[[Rows, float, Sequence[str] | None], dict[str, dict]]
    best: str
    # added to the names of validation scores, where they are not those of an evaluation
    while_training: str = ""

    @property
    def labels_pixels(self) -> bool:
        """Whether masks are compared with the network's input, which must then lie over the
        slice.
        """
        return self.name == "segmentation"


def _classification_rows(logits: jax.Array, truth: jax.Array) -> dict[str, jax.Array]:
    # No probability: near 1 float32 rounds it to 1.
    return {
        "log_odds": logits[:, 1].astype(jnp.float32) - logits[:, 0].astype(jnp.float32),
        "label": truth,
    }


def _segmentation_rows(logits: jax.Array, truth: jax.Array) -> dict[str, jax.Array]:
    classes = logits.shape[-1]
    # Of a tie the first class, background above all.
    predicted = logits[..., 1] > logits[..., 0] if classes == 2 else logits.argmax(-1)
    predicted = predicted.astype(jnp.uint8)
    return {"confusion": confusion_matrix(truth, predicted, classes)}


def _segmentation_scores(
    rows: Rows, _: float, patients: Sequence[str] | None, classes: tuple[str, ...]
) -> dict[str, dict]:
    scores = infection_scores(rows["confusion"], classes, patients)
    if OUTLINES[0] in rows:
        scores |= surface_summary(
            {name: rows[name] for name in OUTLINES}, SEGMENTATION_CLASSES, patients
        )
    return scores


def _classification_truth(batch: Batch) -> jax.Array:
    return batch["label"]


def _classification_scores(
    rows: Rows, threshold: float, patients: Sequence[str] | None
) -> dict[str, dict]:
    called = rows.get("called")
    return classification_scores(
        rows["label"], None, threshold, patients, called, log_odds=rows["log_odds"]
    )


def _segmentation_truth(batch: Batch) -> jax.Array:
    return batch["mask"].astype(jnp.int32)


def segmentation_task(classes: tuple[str, ...] = SEGMENTATION_CLASSES) -> Task:
    """The task of telling `classes` apart, background first; several of infection select the best
    by their mean.
    """
    return Task(
        name="segmentation",
        classes=classes,
        truth=_segmentation_truth,
        rows=_segmentation_rows,
        scores=partial(_segmentation_scores, classes=classes),
        best=checkpoint_scores("segmenter")[len(classes) > 2],
        while_training=WHILE_TRAINING["segmenter"],
    )


TASKS = {
    "classifier": Task(
        name="classification",
        classes=CLASSIFICATION_CLASSES,
        truth=_classification_truth,
        rows=_classification_rows,
        scores=_classification_scores,
        best=checkpoint_scores("classifier")[0],
    ),
    "segmenter": segmentation_task(),
}


def task_of(name: str, data: Any = None) -> Task:
    """The task of stage `name` of a run whose `data` section is given: its classes are those of the
    masks.
    """
    return (
        TASKS[name]
        if name != "segmenter" or data is None
        else segmentation_task(class_names(data.classes))
    )


class Statistics(NamedTuple):
    """What is measured on the training part only: normalisation, class counts (slices or pixels),
    class weights.
    """

    normalization: Normalization
    class_counts: np.ndarray  # [K]
    class_weights: np.ndarray  # [K]
    # [K] of a segmenter: counted pixels of the slices in which a class occurs
    image_pixels: np.ndarray | None = None


class Calibration(NamedTuple):
    """What is fitted on the validation part only, of a classifier that is asked for it."""

    temperature: float = 1.0  # by which its logits are divided
    # log-odds from which a slice is called infected; None: as configured
    threshold: float | None = None
    notes: tuple[str, ...] = ()  # what whoever reads the results should know of the fit


@dataclass(frozen=True)
class Stage:
    """One stage, ready to train or to use; its parameters live elsewhere."""

    name: str  # "classifier" or "segmenter"
    config: Any
    task: Task
    model: nn.Module
    statistics: Statistics
    calibration: Calibration = Calibration()

    @property
    def threshold(self) -> float:
        """Log-odds from which a slice is called infected; a segmenter has none and takes the
        likelier class.
        """
        if self.calibration.threshold is not None:
            return self.calibration.threshold
        return float(logit(self.config.get("threshold", 0.5)))

    def calibrated(self, log_odds: np.ndarray) -> np.ndarray:
        """Divides log-odds by the temperature, in float64: their order stays, and no two become
        one.
        """
        return np.asarray(log_odds, np.float64) / self.calibration.temperature

    def calls(self, log_odds: np.ndarray) -> np.ndarray:
        """Returns which slices are called infected, bool [N], from calibrated log-odds, as the
        threshold was fitted.
        """
        return np.asarray(log_odds, np.float64) >= self.threshold

    def logits(
        self, variables: Any, images: jax.Array, *, train: bool = False, **kwargs: Any
    ) -> Any:
        """Runs the network on slices [N, H, W] in 0..255."""
        x = network_input(
            images, self.config.input, self.statistics.normalization, self.task.labels_pixels
        )
        with frozen_statistics(self.config.optimizer.freeze) if train else nullcontext():
            return self.model.apply(variables, x, train=train, **kwargs)

    def outputs(
        self, variables: Any, images: jax.Array, size: tuple[int, int] | None = None
    ) -> dict[str, jax.Array]:
        """Evaluates slices [N, H, W] in 0..255: "logits", and "features" float32 [N, D] if the
        network exposes them.

        `size` replaces that of the network's input.
        """
        config = SimpleNamespace(**self.config.input)
        config.size = size or config.size

        def together(images):
            x = network_input(
                images, config, self.statistics.normalization, self.task.labels_pixels
            )
            logits, kept = self.model.apply(variables, x, train=False, mutable=["intermediates"])
            exposed = kept.get("intermediates", {})
            features = (
                {"features": exposed["features"][0].astype(jnp.float32)}
                if "features" in exposed
                else {}
            )
            return {"logits": logits} | features

        def one_by_one(images):
            return lax.map(
                lambda image: jax.tree.map(lambda x: x[0], together(image[None])), images
            )

        if self.task.name != "segmentation":
            return together(images)
        # A CPU segments slices one by one: what lies between layers stays in its cache.
        return lax.platform_dependent(images, cpu=one_by_one, default=together)

    def loss(self, logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Returns the loss of each sample as (sum [N], weight [N])."""
        weights = jnp.asarray(self.statistics.class_weights)
        return sample_losses(
            self.config.loss, logits, self.task.truth(batch), batch["valid"], weights
        )

    def training_loss(
        self, variables: Any, batch: Batch, dropout_key: jax.Array
    ) -> tuple[jax.Array, jax.Array, Any]:
        """Runs the network in training; returns the loss of each sample as (sum [N], weight [N]),
        and new batch_stats.

        The loss of each auxiliary head is added `auxiliary_weight` times, a number that the network
        states.
        """
        logits, updated = self.logits(
            variables, batch["image"], train=True, mutable=["batch_stats", "intermediates"],
            # flax folds a layer's own path into its key
            rngs={"dropout": dropout_key, "pooling": dropout_key},
        )  # fmt: skip
        sums, weights = self.loss(logits, batch)
        for head in updated.get("intermediates", {}).get("auxiliary", ()):
            sums = sums + self.model.auxiliary_weight * self.loss(head, batch)[0]
        return sums, weights, updated.get("batch_stats", {})


def make_model(name: str, config: Any, data: Any = None) -> nn.Module:
    """Builds the network of stage `name` for the classes of `data`, a run's section; None: infected
    or not.

    Raises InputError if the model is unknown or of the other task.
    """
    options = {k: v for k, v in config.model.items() if k != "name"}
    network = config.model.name
    if (
        name == "segmenter"
        and network in list_models(TASKS[name].name)
        and options.keys() - model_options(network)
    ):
        # Its options are fields of the configuration, which a flag cannot exchange for those of
        # another network.
        raise InputError(
            f"segmenter.model: option '{min(options.keys() - model_options(network))}' is unknown to {network}, "
            f"start from --config configs/segment.py:model={network}"
        )
    common = {"dtype": config.dtype, "remat": config.remat}
    task = task_of(name, data)
    return create_model(config.model.name, len(task.classes), task=task.name, **common, **options)


def settled_stage(config: Any) -> Any:
    """Returns a stage's configuration with input.normalize="auto" replaced by what it means; all
    else always holds.
    """
    if config.input.normalize != "auto":
        return config
    config = config.copy_and_resolve_references()
    config.input.normalize = "zero_center" if config.init.weights == "none" else "pretrained"
    return config


def make_stage(name: str, config: Any, statistics: Statistics, data: Any = None) -> Stage:
    """Puts a stage together from its configuration, its statistics and the run's section `data`
    (see `make_model`).

    Raises InputError if the statistics are of other classes.
    """
    task = task_of(name, data)
    counted = len(statistics.class_counts)
    if counted != len(task.classes):
        raise InputError(
            f"data.classes: {len(task.classes)} classes ({', '.join(task.classes)}), but the statistics of the "
            f"{name} count {counted}, restore the run's config.json or use another --workdir"
        )
    return Stage(name, settled_stage(config), task, make_model(name, config, data), statistics)


def init_variables(model: nn.Module, config: Any, seed: int) -> Any:
    """Returns freshly initialised variables of a stage's network, the same for any number of
    devices.
    """
    return _collections(jax.jit(_initialiser(model, config))(jax.random.PRNGKey(seed)))


def variable_shapes(model: nn.Module, config: Any) -> Any:
    """Returns the shapes and types of what `init_variables` returns; nothing is compiled or
    computed for it.
    """
    return _collections(jax.eval_shape(_initialiser(model, config), jax.random.PRNGKey(0)))


def check_fine_tuning(name: str, config: Any) -> None:
    """Raises InputError if what stage `name` is to freeze, or its rates, do not fit its network's
    parameters.
    """
    settings = config.optimizer
    if settings.freeze or settings.rates:
        shapes = variable_shapes(make_model(name, config), config)
        check_parts(f"{name}.optimizer", shapes["params"], settings.freeze, settings.rates)


def _initialiser(model: nn.Module, config: Any) -> Callable[[jax.Array], Any]:
    x = jnp.zeros((1, *config.input.size, network_channels(settled_stage(config).input)))
    return lambda key: model.init(key, x)


def _collections(variables: Any) -> Any:
    return {k: variables.get(k, {}) for k in ("params", "batch_stats")}
