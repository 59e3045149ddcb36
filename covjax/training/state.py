"""The state of a training: one immutable tree, everything a resume needs."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from covjax.optim.freezing import overlay, split_frozen


@struct.dataclass
class TrainState:
    """Step, parameters, their average if asked, BatchNorm statistics, optimiser state and seed."""

    step: jax.Array  # int32 []
    params: Any
    batch_stats: Any
    opt_state: Any  # of the parameters that train; nothing is kept for frozen ones
    rng: jax.Array  # uint32 [2]; the keys of a step are folded from it and the step number
    # average of the parameters that train, over the steps taken (`step.averaged`); None if not
    # asked for
    ema: Any


def create_state(
    variables: Any, optimizer: optax.GradientTransformation, seed: int, ema: bool, freeze: str = ""
) -> TrainState:
    """Returns the state before the first step.

    `freeze` names the parameters that do not train, see `covjax.optim.freezing`.

    Until a step is taken the average is the initial parameters, so that a checkpoint of step 0 can
    be evaluated.
    """
    params = variables["params"]
    trainable, _ = split_frozen(params, freeze)
    return TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats=variables["batch_stats"],
        opt_state=jax.jit(optimizer.init)(trainable),  # one program, not one for every array
        rng=jax.random.PRNGKey(seed),
        ema=jax.tree.map(jnp.copy, trainable) if ema else None,
    )


def eval_variables(state: TrainState) -> Any:
    """Returns the variables to evaluate with: the averaged parameters where they are kept."""
    params = state.params if state.ema is None else overlay(state.params, state.ema)
    return {"params": params, "batch_stats": state.batch_stats}
