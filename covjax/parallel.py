"""Devices: the one place that knows that steps are pmapped over a sharded batch with a replicated
state.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from covjax.errors import InputError
from covjax.ops.synchronise import synchronised

AXIS = "batch"


def pmap_train(step: Callable) -> Callable:
    """Maps step(state, batch) -> (state, metrics) over the batch's shards; state is replicated and
    donated.
    """

    def synchronised_step(state: Any, batch: Any) -> Any:
        with synchronised(AXIS):
            return step(state, batch)

    return jax.pmap(
        synchronised_step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=(0,),
    )


def pmap_eval(step: Callable) -> Callable:
    """Maps step(variables, batch) -> per-sample rows over the batch's shards."""
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=0)


def sum_over_devices(tree: Any) -> Any:
    """Sums every array over the devices, inside a mapped step. On one device XLA would copy them
    all.
    """
    return tree if lax.axis_size(AXIS) == 1 else lax.psum(tree, AXIS)


def replicate(state: Any) -> Any:
    """Puts a state where a mapped step leaves it, so that the first step does not compile for a
    place of its own.
    """
    return jax.device_put(
        state, NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), PartitionSpec())
    )


def shard(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Splits every array [N, ...] into [devices, N / devices, ...]. Raises InputError if they do
    not divide N.
    """
    devices = jax.local_device_count()
    size = len(next(iter(batch.values())))
    if size % devices:
        raise InputError(f"batch_size: {size} is not a multiple of the {devices} devices")
    return {k: v.reshape(devices, v.shape[0] // devices, *v.shape[1:]) for k, v in batch.items()}


def unshard(rows: dict[str, jax.Array]) -> dict[str, np.ndarray]:
    """Fetches per-sample rows [devices, n, ...] as numpy [devices * n, ...]."""
    return {k: v.reshape(-1, *v.shape[2:]) for k, v in jax.device_get(rows).items()}


def round_up(batch_size: int) -> int:
    """Returns the smallest multiple of the device count that holds `batch_size`: evaluation pads to
    it.
    """
    devices = jax.local_device_count()
    return -(-batch_size // devices) * devices
