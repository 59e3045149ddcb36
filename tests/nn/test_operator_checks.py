"""The check of operators passes those of covjax and rejects planted faults."""

import jax
import jax.numpy as jnp
import pytest

from covjax.errors import InputError
from covjax.nn.operator_checks import check_operator, operator_findings
from covjax.ops.grids import views
from covjax.ops.poolings import POOLING_TABLE
from covjax.ops.register import register_pooling


@jax.custom_vjp
def twice(x):
    return x


twice.defvjp(lambda x: (x, None), lambda _, g: (2 * g,))


def mean(x, grid):
    return sum(views(x, grid)) / grid.window**2


def wrong_gradient(x, grid, parameters, keys):
    return twice(mean(x, grid)), None


def wrong_shape(x, grid, parameters, keys):
    window = grid.window
    padded = jnp.pad(x, ((0, 0), (0, -x.shape[1] % window), (0, -x.shape[2] % window), (0, 0)))
    n, h, w, c = padded.shape
    return padded.reshape(n, h // window, window, w // window, window, c).max((2, 4)), None


def of_the_batch(x, grid, parameters, keys):
    return mean(x, grid) - x.mean(), None


def not_a_number(x, grid, parameters, keys):
    values = jnp.stack(views(x, grid))
    middle = values.mean(0)
    return middle / jnp.sqrt(jnp.mean((values - middle) ** 2, 0)), None


def leaking(x, grid, parameters, keys):
    return mean(x.astype(jnp.float32), grid), None


def sound(x, grid, parameters, keys):
    return mean(x, grid), None


FAULTS = {
    wrong_gradient: {"gradient"},
    wrong_shape: {"shape"},
    of_the_batch: {"batch", "4 devices"},
    not_a_number: {"constant picture"},
    leaking: {"type"},
    sound: set(),
}


@pytest.mark.parametrize("function", FAULTS, ids=lambda function: function.__name__)
def test_planted_faults_are_found(function, forgetting):
    register_pooling("planted", function)
    found = {check for check, problem in operator_findings("planted") if problem}
    # this process may have one device, on which that check cannot be made
    if jax.local_device_count() < 4:
        found = found - {"4 devices"} | FAULTS[function] & {"4 devices"}
    assert found == FAULTS[function]


def test_a_fault_is_one_line_and_a_name_must_be_known(forgetting):
    register_pooling("planted", leaking)
    with pytest.raises(InputError, match="operator 'planted': type: .*float32 of bfloat16"):
        check_operator("planted")
    with pytest.raises(InputError, match="operator: 'plented' is unknown.*mean 'planted'"):
        operator_findings("plented")
    assert "planted" in POOLING_TABLE
