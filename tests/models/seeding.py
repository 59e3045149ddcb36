"""Weights for tests of networks that need no initialisation, and are the same in every framework
and version.
"""

import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np


def seeded_array(name, shape):
    """Values of a variable, a function of its name and shape alone; of a size that keeps
    activations near one.
    """
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    kind = name.rsplit("/", 1)[-1]
    if kind.endswith("kernel"):
        return (noise * math.sqrt(2 / np.prod(shape[:-1]))).astype(np.float32)
    if kind in ("scale", "var"):
        return np.exp(0.2 * noise).astype(np.float32)
    return (0.1 * noise).astype(np.float32)


def seeded_variables(model, channels):
    side = max(32, getattr(model, "smallest", 1))
    shapes = jax.eval_shape(model.init, jax.random.PRNGKey(0), jnp.zeros((1, side, side, channels)))

    def fill(path, leaf):
        return jnp.asarray(seeded_array("/".join(entry.key for entry in path[1:]), leaf.shape))

    return jax.tree_util.tree_map_with_path(
        fill, {k: shapes[k] for k in ("params", "batch_stats") if k in shapes}
    )


def seeded_input(*shape):
    """A slice-like input: zero-centred, of the 0..255 scale."""
    return 50 * seeded_array(f"input {shape}", shape) / 0.1
