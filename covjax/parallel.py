"""Devices and processes: the one place that knows how steps are mapped over them.

Steps are pmapped over a batch that is sharded along its first axis, with a replicated state. Each
process holds the state for its own devices and reads its own share of every batch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from covjax.errors import InputError
from covjax.ops.synchronise import synchronised

AXIS = "batch"


def pmap_train(step: Callable) -> Callable:
    """Maps step(state, batch) -> (state, metrics) over shards; state is replicated and donated."""

    def synchronised_step(state: Any, batch: Any) -> Any:
        with synchronised(AXIS):
            return step(state, batch)

    return _pmapped(synchronised_step, out_axes=(None, None), donate_argnums=(0,))


def pmap_eval(step: Callable) -> Callable:
    """Maps step(variables, batch) -> per-sample rows over the batch's shards."""
    return _pmapped(step, out_axes=0)


def _pmapped(step: Callable, **options: Any) -> Callable:
    count = jax.device_count()  # of all processes: batches are global arrays
    return jax.pmap(step, axis_name=AXIS, axis_size=count, in_axes=(None, 0), **options)


def sum_over_devices(tree: Any) -> Any:
    """Sums every array over the devices, inside a mapped step; copies nothing on one device."""
    return tree if lax.axis_size(AXIS) == 1 else lax.psum(tree, AXIS)


def replicate(state: Any) -> Any:
    """Puts a state where a mapped step leaves it, so that the first step is not compiled apart."""
    return jax.device_put(state, _sharding(jax.local_devices(), PartitionSpec()))


def shard(batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Puts this process's share of a batch, arrays [N, ...], onto its devices.

    Returns arrays [devices, N / devices, ...] over the devices of all processes. Raises InputError
    if the devices of this process do not divide N.
    """
    devices = jax.local_device_count()
    size = len(next(iter(batch.values())))
    if size % devices:
        raise InputError(f"batch_size: {size} is not a multiple of the {devices} devices")
    # In the order in which pmap takes the devices: process by process.
    every = [d for process in range(jax.process_count()) for d in jax.local_devices(process)]
    place = _sharding(every, PartitionSpec(AXIS))
    return {
        name: jax.make_array_from_process_local_data(
            place, values.reshape(devices, size // devices, *values.shape[1:])
        )
        for name, values in batch.items()
    }


def unshard(rows: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
    """Fetches per-sample rows [devices, n, ...] as numpy [devices * n, ...]."""
    return {k: v.reshape(-1, *v.shape[2:]) for k, v in jax.device_get(rows).items()}


def round_up(batch_size: int) -> int:
    """Returns the smallest multiple of the device count that holds `batch_size`."""
    devices = jax.local_device_count()
    return -(-batch_size // devices) * devices


def _sharding(devices: Sequence[Any], spec: PartitionSpec) -> NamedSharding:
    return NamedSharding(Mesh(np.array(devices), (AXIS,)), spec)
