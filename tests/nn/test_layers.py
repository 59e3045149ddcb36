"""Layers that networks share: what they refuse."""

import jax.numpy as jnp
import pytest
from flax import linen as nn

from covjax.nn.layers import expose


class Exposing(nn.Module):
    @nn.compact
    def __call__(self, x):
        return expose(self, "x", x)


def test_a_perturbation_that_would_broadcast_is_refused():
    x = jnp.ones((2, 3))
    perturbed = Exposing().apply({"perturbations": {"x": jnp.ones((2, 3))}}, x)
    assert (perturbed == 2).all()
    with pytest.raises(AssertionError):
        Exposing().apply({"perturbations": {"x": jnp.ones((1, 3))}}, x)
