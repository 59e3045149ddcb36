"""Layers treat shards as one batch under a step that says so, and as batches without it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from covjax.nn.layers import BatchNorm, Dropout
from covjax.ops.synchronise import batch_axis, global_positions, synchronised

X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 5, 2)) * 2 + 1, jnp.float32)
SHARDS = X.reshape(2, 2, 3, 5, 2)
LAYER = BatchNorm("relu")


def normalised(variables, x):
    y, updated = LAYER.apply(variables, x, train=True, mutable=["batch_stats"])
    return y, updated["batch_stats"]


def in_step(function):
    def step(x):
        with synchronised("devices"):
            return function(x)

    return jax.vmap(step, axis_name="devices")


def test_statistics_and_gradients_are_those_of_the_whole_batch():
    variables = LAYER.init(jax.random.PRNGKey(0), X, train=True)
    y, statistics = in_step(lambda x: normalised(variables, x))(SHARDS)
    want, whole = normalised(variables, X)
    np.testing.assert_allclose(y.reshape(X.shape), want, rtol=1e-5, atol=1e-6)
    for name, value in whole.items():
        np.testing.assert_allclose(statistics[name], [value] * 2, rtol=1e-6)

    def loss(x):  # whose gradient is traced after the context has been left
        with synchronised("devices"):
            y, _ = normalised(variables, x)
        return (y**3).sum()

    gradient = jax.vmap(jax.grad(loss), axis_name="devices")(SHARDS)
    want = jax.grad(lambda x: (normalised(variables, x)[0] ** 3).sum())(X)
    np.testing.assert_allclose(gradient.reshape(X.shape), want, rtol=1e-4, atol=1e-4)


def test_a_network_that_is_under_no_step_sees_its_own_batch():
    variables = LAYER.init(jax.random.PRNGKey(0), X, train=True)
    y, _ = jax.vmap(lambda x: normalised(variables, x), axis_name="devices")(SHARDS)
    for shard, got in zip(SHARDS, y, strict=True):
        np.testing.assert_allclose(got, normalised(variables, shard)[0], rtol=1e-5, atol=1e-6)


def test_dropout_belongs_to_a_place_in_the_whole_batch():
    def drop(x):
        rngs = {"dropout": jax.random.PRNGKey(1)}
        return Dropout(0.5).apply({}, x, train=True, rngs=rngs)

    np.testing.assert_array_equal(in_step(drop)(SHARDS).reshape(X.shape), drop(X))
    np.testing.assert_array_equal(
        in_step(lambda x: global_positions(len(x)))(SHARDS), [[0, 1], [2, 3]]
    )


def test_the_axis_is_forgotten_after_an_error():
    with pytest.raises(RuntimeError), synchronised("devices"):
        assert batch_axis() == "devices"
        raise RuntimeError
    assert batch_axis() is None
