"""The least time that a card needs for a step, from what XLA counts and what the card can do."""

import jax
import jax.numpy as jnp

from covjax.models import create_model
from tests.benchmarks.contenders import NETWORKS

# FLOP/s in TF32 and bfloat16 (dense), bytes/s of its memory, as the vendor states them.
CARDS = {
    "H100": {"float32": 494e12, "bfloat16": 989e12, "bytes": 3.35e12},
    "H200": {"float32": 494e12, "bfloat16": 989e12, "bytes": 4.8e12},
}
TRAINING = 3  # forward passes that the arithmetic of a training step equals


def least_seconds(network: str, dtype: str, batch: int) -> dict[str, float]:
    """Returns the least seconds of an evaluation and a training step; {} for an unknown card.

    Arithmetic is that of the forward pass as XLA counts it, memory what its parameters and input
    take: both are lower bounds.
    """
    kind = str(jax.devices()[0].device_kind)
    card = next((values for name, values in CARDS.items() if name in kind), None)
    if card is None:
        return {}
    model = create_model(network)
    x = jnp.zeros((1, *NETWORKS[network]))
    variables = jax.eval_shape(model.init, jax.random.PRNGKey(0), x)
    flops = batch * jax.jit(model.apply).lower(variables, x).cost_analysis()["flops"]
    read = sum(leaf.size * 4 for leaf in jax.tree.leaves(variables)) + batch * x[0].size
    forward = max(flops / card[dtype], read / card["bytes"])
    return {"eval": forward, "train": TRAINING * forward}
