"""How layers see the batch when devices share it: the one place that knows the mapped axis.

Networks name no axis. Whoever maps a training step over devices sets it around the step, and what
needs the whole batch asks here: statistics of BatchNorm, and random draws by a sample's place.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

import jax
import jax.numpy as jnp
from jax import lax

_axis: ContextVar[str | None] = ContextVar("axis", default=None)


@contextmanager
def synchronised(axis_name: str) -> Generator[None]:
    """Within this context layers treat the batch as shared over a mapped axis; outside, as whole.

    It is read while a function is traced, so it belongs inside of what `jax.pmap` or `jax.vmap` map
    under that name.
    """
    token = _axis.set(axis_name)
    try:
        yield
    finally:
        _axis.reset(token)


def batch_axis() -> str | None:
    """Returns the mapped axis that shares the batch, or None."""
    return _axis.get()


def global_positions(local_size: int) -> jax.Array:
    """Returns each local sample's position [local_size] int32 in the global batch."""
    axis_name = batch_axis()
    first = 0 if axis_name is None else lax.axis_index(axis_name) * local_size
    return first + jnp.arange(local_size)


def shares(axis_name: str | None) -> int:
    """Returns among how many devices an axis divides the batch."""
    return 1 if axis_name is None else lax.axis_size(axis_name)


def over_devices(
    combine: Callable[[jax.Array, str], jax.Array], axis_name: str | None, *vectors: jax.Array
) -> tuple[jax.Array, ...]:
    """Combines vectors [C] over the devices of an axis in one exchange, by lax.psum or pmean."""
    if axis_name is None or shares(axis_name) == 1:
        return vectors
    return tuple(combine(jnp.stack(vectors), axis_name))
