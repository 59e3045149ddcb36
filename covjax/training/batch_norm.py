"""BatchNorm statistics over the training set, as the released network was finalised."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from covjax.nn.layers import BATCH_NORM_MOMENTUM, Dropout
from covjax.optim.freezing import overlay, split_statistics
from covjax.parallel import pmap_train, replicate, shard
from covjax.stages.stage import Stage


def make_finaliser(stage: Stage) -> Callable[[Any, Any, Iterable[dict[str, np.ndarray]]], Any]:
    """Returns finalise(params, batch_stats, batches) -> BatchNorm statistics over all `batches`.

    A layer's mean is the mean over batches; its variance is the mean of the batches' second moments
    around it. They are those of evaluation, without dropout, which makes what a later BatchNorm
    sees more variable ("Understanding the Disharmony between Dropout and Batch Normalization by
    Variance Shift", arXiv:1801.05134). Frozen layers keep the statistics they have.
    """
    freeze = stage.config.optimizer.freeze

    def moments(sums, batch):
        # The statistics are for evaluation, so all but BatchNorm is as there: nothing is dropped,
        # and there is no key for a stochastic pooling, which then gives the expected value.
        with without_dropout():
            _, updated = stage.logits(
                {"params": sums["params"], "batch_stats": sums["start"]},
                batch["image"],
                train=True,
                mutable=["batch_stats"],
            )
        # From zero, one update leaves (1 - momentum) times the statistics of this batch alone.
        batch_stats = jax.tree.map(lambda s: s / (1 - BATCH_NORM_MOMENTUM), updated["batch_stats"])
        total = jax.tree.map(jnp.add, sums["total"], _raw_moments(batch_stats))
        return sums | {"total": total}, jnp.zeros(())

    step = pmap_train(moments)

    @jax.jit
    def start(params, batch_stats):
        # Copies, because the mapped step donates what it is given.
        zeros = jax.tree.map(jnp.zeros_like, batch_stats)
        begin = overlay(zeros, jax.tree.map(jnp.copy, split_statistics(batch_stats, freeze)[1]))
        return {"params": jax.tree.map(jnp.copy, params), "start": begin, "total": zeros}

    def finalise(params, batch_stats, batches):
        moving, frozen = split_statistics(batch_stats, freeze)
        if not moving:
            return batch_stats
        sums = replicate(start(params, batch_stats))
        count = 0
        for batch in batches:
            sums, _ = step(sums, shard({"image": batch["image"]}))
            count += 1
        means = jax.tree.map(lambda s: s / count, jax.device_get(sums["total"]))
        return replicate(overlay(_central_moments(means), frozen))

    return finalise


def without_dropout() -> AbstractContextManager:
    """Within this context a training network drops nothing."""

    def intercept(call, args, kwargs, context):
        if isinstance(context.module, Dropout) and context.method_name == "__call__":
            kwargs = kwargs | {"train": False}
        return call(*args, **kwargs)

    return nn.intercept_methods(intercept)


def _raw_moments(stats: Any) -> Any:
    """{mean, var} of every layer -> {mean, second moment}, which average over batches."""
    return _per_layer(stats, lambda mean, var: (mean, var + mean**2))


def _central_moments(stats: Any) -> Any:
    return _per_layer(stats, lambda mean, square: (mean, np.maximum(square - mean**2, 0)))


def _per_layer(stats: Any, change: Callable) -> Any:
    def layer(node):
        if "mean" not in node:
            return {name: layer(child) for name, child in node.items()}
        return dict(zip(("mean", "var"), change(node["mean"], node["var"]), strict=True))

    return layer(stats)
