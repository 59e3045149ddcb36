"""The training step: a pure function of (state, batch), mapped over devices with an axis name.

Losses are normalised by weights summed over all devices and every random key belongs to a position
in the global batch, so that the same global batch gives the same result on any number of devices.
"""

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from covjax.ops.synchronise import global_positions
from covjax.optim.freezing import overlay, split_frozen
from covjax.parallel import sum_over_devices
from covjax.preprocess.augment import augment_batch
from covjax.stages.stage import Stage
from covjax.stages.task import Batch
from covjax.training.state import TrainState


def train_step(
    state: TrainState, batch: Batch, *, stage: Stage, optimizer: optax.GradientTransformation
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Takes one optimiser step on this device's shard of a batch: (new state, metrics).

    Metrics: loss, weight (what the loss was divided by) and finite (bool: the loss and the new
    state are). A step with a finite loss may still leave parameters that are not.
    """
    augment_key, dropout_key = step_keys(state.rng, state.step)
    batch = _augmented(augment_key, batch, stage)
    trainable, frozen = split_frozen(state.params, stage.config.optimizer.freeze)
    (loss, (weight, batch_stats)), gradients = jax.value_and_grad(_loss, has_aux=True)(
        trainable, frozen, state.batch_stats, batch, dropout_key, stage
    )
    loss, gradients = sum_over_devices((loss, gradients))
    updates, opt_state = optimizer.update(gradients, state.opt_state, trainable)
    params = optax.apply_updates(trainable, updates)
    state = replace(
        state,
        step=state.step + 1,
        params=overlay(frozen, params),
        batch_stats=batch_stats,
        opt_state=opt_state,
        ema=averaged(state.ema, params, stage.config.optimizer.ema, state.step + 1),
    )
    # Behind a barrier, so that XLA does not compute the new parameters twice for the check.
    finite = _all_finite((loss, lax.optimization_barrier(params), batch_stats))
    return state, {"loss": loss, "weight": weight, "finite": finite}


def step_keys(rng: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the keys of a step's augmentation and dropout."""
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(rng, step))
    return augment_key, dropout_key


def _augmented(key: jax.Array, batch: Batch, stage: Stage) -> Batch:
    if not stage.task.needs_masks:  # then the mask is not warped for nothing
        batch = {name: values for name, values in batch.items() if name != "mask"}
    positions = global_positions(batch["image"].shape[0])
    return augment_batch(key, positions, batch, stage.config.augment)


def _loss(
    trainable: Any,
    frozen: Any,
    batch_stats: Any,
    batch: Batch,
    dropout_key: jax.Array,
    stage: Stage,
):
    """The share of this device in the loss of the global batch; shares add up over devices."""
    variables = {"params": overlay(frozen, trainable), "batch_stats": batch_stats}
    sums, weights, batch_stats = stage.training_loss(variables, batch, dropout_key)
    weight = sum_over_devices(weights.sum())
    return sums.sum() / jnp.maximum(weight, 1e-12), (weight, batch_stats)


def _all_finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def averaged(ema: Any, params: Any, decay: float, count: jax.Array) -> Any:
    """Returns the average of parameters p_1..p_n, n = `count` >= 1, with weights decay^(n-i).

    The weights are normalised to sum 1.

    `ema` is that of p_1..p_(n-1), and counts nothing if n is 1: the initial parameters are in no
    average. None stays None. Source: "Adam: A Method for Stochastic Optimization" (2014),
    arXiv:1412.6980, section 3, for the correction.
    """
    if ema is None:
        return None
    # The newest weighs (1 - d) / (1 - d^n). By expm1 and a logarithm in float64, because 1 - d^n in
    # float32, as in optax.ema, is wrong by 2e-4 at d = .9999.
    logarithm = math.log(decay) if decay else -math.inf
    newest = jnp.where(count == 1, 1.0, (1 - decay) / -jnp.expm1(count * logarithm))
    return jax.tree.map(lambda average, new: (1 - newest) * average + newest * new, ema, params)
