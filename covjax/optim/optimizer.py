"""Stochastic gradient descent as the paper trains, AdamW for fine-tuning, and schedules."""

from typing import Any

import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from covjax.errors import InputError, unknown
from covjax.optim.freezing import scale_by_part
from covjax.optim.settings import OPTIMIZERS, SCHEDULES, OptimizerSettings


def make_schedule(config: OptimizerSettings, steps_per_epoch: int, epochs: int) -> optax.Schedule:
    """Returns step -> learning rate: a linear warm-up, then the schedule that `config` names.

    Of n steps of warm-up, step k has (k + 1) / (n + 1) of the rate: none is without effect, and the
    next has all of it.
    """
    if config.schedule not in SCHEDULES:
        raise unknown("optimizer.schedule", config.schedule, SCHEDULES)
    warmup = round(config.warmup_epochs * steps_per_epoch)
    total = steps_per_epoch * epochs
    if warmup and warmup >= total:
        raise InputError(
            f"optimizer.warmup_epochs: {config.warmup_epochs} leaves nothing of {epochs} epochs, "
            "use a smaller value"
        )
    if config.schedule == "constant":
        main = optax.constant_schedule(config.learning_rate)
    else:
        main = optax.cosine_decay_schedule(config.learning_rate, max(1, total - warmup))
    if not warmup:
        return main
    rising = optax.linear_schedule(
        config.learning_rate / (warmup + 1), config.learning_rate, warmup
    )
    return optax.join_schedules([rising, main], [warmup])


def make_optimizer(
    config: OptimizerSettings, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Returns the optimiser that `config` names, with decay and clipping by the global norm.

    The decay of sgd is added to the clipped gradient before the momentum (L2, as the paper's
    toolbox does); that of adamw is decoupled, and `momentum` is its first moment's. Convolution
    kernels and the scale and offset of BatchNorm decay, convolution and dense biases do not.
    `rates` gives parts of the network other learning rates (`covjax.optim.freezing`). Raises
    InputError for an unknown name.

    Source of adamw: Loshchilov and Hutter, "Decoupled Weight Decay Regularization"
    (arXiv:1711.05101).
    """
    if config.name not in OPTIMIZERS:
        raise unknown("optimizer.name", config.name, OPTIMIZERS)
    decay = config.weight_decay
    parts = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    if config.name == "adamw":
        parts.append(optax.adamw(schedule, b1=config.momentum, weight_decay=decay, mask=decay_mask))
    else:
        parts += [optax.add_decayed_weights(decay, mask=decay_mask)] if decay else []
        parts.append(optax.sgd(schedule, momentum=config.momentum))
    if config.rates:
        parts.append(scale_by_part(config.rates))
    return optax.chain(*parts)


def decay_mask(params: Any) -> Any:
    """Returns a tree of bools: whether each parameter decays."""
    flat = flatten_dict(params)
    return unflatten_dict(
        {
            # a layer with a scale is a BatchNorm
            path: path[-1] in ("kernel", "final_kernel") or (*path[:-1], "scale") in flat
            for path in flat
        }
    )
