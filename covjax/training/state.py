"""The state of a training: one immutable tree, everything a resume needs."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct


@struct.dataclass
class TrainState:
    """Step number, parameters, BatchNorm statistics, optimiser state, random seed; averaged parameters if asked."""

    step: jax.Array  # int32 []
    params: Any
    batch_stats: Any
    opt_state: Any
    rng: jax.Array  # uint32 [2]; the keys of a step are folded from it and the step number
    ema: Any  # exponential moving average of params, or None


def create_state(variables: Any, optimizer: optax.GradientTransformation, seed: int, ema: bool) -> TrainState:
    """Returns the state before the first step."""
    params = variables["params"]
    return TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(params),
        rng=jax.random.PRNGKey(seed),
        ema=jax.tree.map(jnp.copy, params) if ema else None,
    )


def eval_variables(state: TrainState) -> Any:
    """Returns the variables to evaluate with: the averaged parameters where they are kept."""
    return {"params": state.params if state.ema is None else state.ema, "batch_stats": state.batch_stats}
