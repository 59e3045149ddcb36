"""Windows: what reading refuses; what it computes is tested with the poolings."""

import jax.numpy as jnp
import pytest

from covjax.ops.grids import Grid, take


@pytest.mark.parametrize("shape", [(2, 1, 2, 3), (1, 2, 2, 3), (2, 2, 2, 1), (2, 4, 4, 3)])
def test_places_of_other_windows_than_those_of_the_grid_are_refused(shape):
    with pytest.raises(AssertionError):
        take(Grid((4, 4), 2, 2), jnp.zeros((2, 4, 4, 3)), jnp.zeros(shape, jnp.int8))
