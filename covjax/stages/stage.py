"""One stage of a run, ready to train or to use: its network, task and statistics together."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from scipy.special import logit

from covjax.data.settings import DataSettings
from covjax.errors import InputError
from covjax.models import create_model, list_models, model_options
from covjax.optim.freezing import check_parts, frozen_statistics
from covjax.optim.losses import sample_losses
from covjax.preprocess.network_input import Normalization, network_channels, network_input
from covjax.stages import task_of
from covjax.stages.settings import StageSettings
from covjax.stages.task import Batch, Task


class Statistics(NamedTuple):
    """What is measured on the training split only; classes are of slices or of pixels."""

    normalization: Normalization
    class_counts: np.ndarray  # [K]
    class_weights: np.ndarray  # [K]
    # [K] where masks are predicted: counted pixels of the slices in which a class occurs
    image_pixels: np.ndarray | None = None


class Calibration(NamedTuple):
    """What is fitted on the validation split only, of a stage that calls slices."""

    temperature: float = 1.0  # by which its logits are divided
    # log-odds from which a slice is called infected; None: as configured
    threshold: float | None = None
    notes: tuple[str, ...] = ()  # what whoever reads the results should know of the fit


@dataclass(frozen=True)
class Stage:
    """One stage, ready to train or to use; its parameters live elsewhere."""

    name: str  # its section in the configuration
    config: StageSettings
    task: Task
    model: nn.Module
    statistics: Statistics
    calibration: Calibration = Calibration()

    @property
    def threshold(self) -> float:
        """Log-odds from which a slice is called infected, 0 (probability 0.5) unless set."""
        if self.calibration.threshold is not None:
            return self.calibration.threshold
        return float(logit(getattr(self.config, "threshold", 0.5)))

    def calibrated(self, log_odds: np.ndarray) -> np.ndarray:
        """Divides log-odds by the temperature, in float64, which keeps their order and ties."""
        return np.asarray(log_odds, np.float64) / self.calibration.temperature

    def calls(self, log_odds: np.ndarray) -> np.ndarray:
        """Returns which slices are called infected, bool [N], from calibrated log-odds."""
        return np.asarray(log_odds, np.float64) >= self.threshold

    def logits(
        self, variables: Any, images: jax.Array, *, train: bool = False, **kwargs: Any
    ) -> Any:
        """Runs the network on slices [N, H, W] in 0..255."""
        x = network_input(
            images, self.config.input, self.statistics.normalization, self.task.predicts_masks
        )
        with frozen_statistics(self.config.optimizer.freeze) if train else nullcontext():
            return self.model.apply(variables, x, train=train, **kwargs)

    def outputs(
        self, variables: Any, images: jax.Array, size: tuple[int, int] | None = None
    ) -> dict[str, jax.Array]:
        """Evaluates slices [N, H, W] in 0..255, at `size` if given, else the configured one.

        Returns "logits", and "features" float32 [N, D] if the network exposes them.
        """
        config = replace(self.config.input, size=size or self.config.input.size)

        def together(images: jax.Array) -> dict[str, jax.Array]:
            x = network_input(
                images, config, self.statistics.normalization, self.task.predicts_masks
            )
            logits, kept = self.model.apply(variables, x, train=False, mutable=["intermediates"])
            outputs = {"logits": logits}
            exposed = kept.get("intermediates") or {}
            if "features" in exposed:
                outputs["features"] = jnp.asarray(exposed["features"][0], jnp.float32)
            return outputs

        def alone(image: jax.Array) -> dict[str, jax.Array]:
            return jax.tree.map(lambda x: x[0], together(image[None]))

        def one_by_one(images: jax.Array) -> dict[str, jax.Array]:
            return lax.map(alone, images)

        if not self.task.predicts_masks:
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
        """Runs the network in training: loss of each sample (sum [N], weight [N]), batch_stats.

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


def make_model(name: str, config: StageSettings, data: DataSettings | None = None) -> nn.Module:
    """Builds the network of stage `name` for the masks of `data`, see `task_of`.

    Raises InputError if the model is unknown or of another task.
    """
    options = config.model.options
    network = config.model.name
    task = task_of(name, data)
    if task.predicts_masks and network in list_models(task.networks):
        unknown = options.keys() - model_options(network)
        if unknown:
            # Its options are fields of the configuration, which a flag cannot exchange for those of
            # another network.
            raise InputError(
                f"{name}.model: option '{min(unknown)}' is unknown to {network}, "
                f"start from --config segment:model={network}"
            )
    common = {"dtype": config.dtype, "remat": config.remat}
    return create_model(network, len(task.classes), task=task.networks, **common, **options)


def make_stage(
    name: str, config: StageSettings, statistics: Statistics, data: DataSettings | None = None
) -> Stage:
    """Puts a stage together for the masks of `data`, see `task_of`.

    Raises InputError if the statistics are of other classes.
    """
    task = task_of(name, data)
    counted = len(statistics.class_counts)
    if counted != len(task.classes):
        raise InputError(
            f"data.classes: {len(task.classes)} classes ({', '.join(task.classes)}), but the "
            f"statistics of the {name} count {counted}, restore the run's config.json or use "
            "another --workdir"
        )
    return Stage(name, config, task, make_model(name, config, data), statistics)


def init_variables(model: nn.Module, config: StageSettings, seed: int) -> Any:
    """Returns freshly initialised variables, the same for any number of devices."""
    return _collections(jax.jit(_initialiser(model, config))(jax.random.PRNGKey(seed)))


def variable_shapes(model: nn.Module, config: StageSettings) -> Any:
    """Returns the shapes and types of `init_variables` without compiling or computing."""
    return _collections(jax.eval_shape(_initialiser(model, config), jax.random.PRNGKey(0)))


def check_fine_tuning(name: str, config: StageSettings) -> None:
    """Raises InputError if `freeze` or `rates` do not fit the parameters of the network."""
    settings = config.optimizer
    if settings.freeze or settings.rates:
        shapes = variable_shapes(make_model(name, config), config)
        check_parts(f"{name}.optimizer", shapes["params"], settings.freeze, settings.rates)


def _initialiser(model: nn.Module, config: StageSettings) -> Callable[[jax.Array], Any]:
    x = jnp.zeros((1, *config.input.size, network_channels(config.input)))
    return lambda key: model.init(key, x)


def _collections(variables: Any) -> Any:
    return {k: variables.get(k, {}) for k in ("params", "batch_stats")}
