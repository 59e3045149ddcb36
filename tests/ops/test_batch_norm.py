"""BatchNorm with ReLU against flax's, whose gradients come from autodiff."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.test_util import check_grads

from covjax.nn.layers import BatchNorm
from covjax.ops.batch_norm import batch_norm


def flax_batch_norm(x, scale, bias, activation):
    """(y, mean, variance), by flax."""
    layer = nn.BatchNorm(use_running_average=False, momentum=0.0, epsilon=1e-5, dtype=x.dtype)
    start = {"mean": jnp.zeros_like(scale), "var": jnp.ones_like(scale)}
    y, updated = layer.apply(
        {"params": {"scale": scale, "bias": bias}, "batch_stats": start}, x, mutable=["batch_stats"]
    )
    after = {None: lambda y: y, "relu": nn.relu, "relu6": nn.relu6}[activation]
    return after(y), updated["batch_stats"]["mean"], updated["batch_stats"]["var"]


def operands(shape, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    x, g = (jnp.asarray(rng.normal(size=shape) * 2 + 1, dtype) for _ in range(2))
    wide = jnp.promote_types(dtype, jnp.float32)
    # beyond 6 at times
    scale, bias = (jnp.asarray(4 * rng.normal(size=shape[-1]), wide) for _ in range(2))
    return x, scale, bias, g


def value_and_gradients(function, x, scale, bias, g):
    y, back, moments = jax.vjp(
        lambda *given: (lambda y, *rest: (y, rest))(*function(*given)), x, scale, bias, has_aux=True
    )
    return y, *moments, *back(g)


@pytest.mark.parametrize("shape", [(3, 7, 5, 4), (1, 1, 1, 2), (2, 16, 16, 33)])
@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
def test_values_and_gradients_are_those_of_flax(shape, activation):
    given = operands(shape)
    got = value_and_gradients(partial(batch_norm, epsilon=1e-5, activation=activation), *given)
    want = value_and_gradients(partial(flax_batch_norm, activation=activation), *given)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=2e-5 * float(jnp.abs(b).max() + 1e-2))


def test_bfloat16_keeps_its_type_and_adds_up_in_float32():
    given = operands((4, 32, 32, 8), jnp.bfloat16)
    got = value_and_gradients(partial(batch_norm, epsilon=1e-5, activation="relu"), *given)
    exact = value_and_gradients(
        partial(batch_norm, epsilon=1e-5, activation="relu"),
        *(a.astype(jnp.float32) for a in given),
    )
    assert [a.dtype for a in got] == [
        jnp.bfloat16,
        *[jnp.float32] * 2,
        jnp.bfloat16,
        *[jnp.float32] * 2,
    ]
    for a, b in zip(got[1:3], exact[1:3], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    for a, b in zip(got, exact, strict=True):
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=2**-7 * float(jnp.abs(b).max()))


def test_first_and_second_derivatives_by_finite_differences():
    with jax.enable_x64(True):
        x, scale, bias, g = operands((2, 3, 3, 2), jnp.float64)

        def weighted(*given):
            y, mean, variance = batch_norm(*given, epsilon=1e-5, activation=None)
            return (y * g).sum() + (mean**2 * variance).sum()

        check_grads(weighted, (x, scale, bias), order=2, modes=["rev"], rtol=1e-5)


def test_relu_lets_no_gradient_through_at_zero():
    x = jnp.zeros((1, 2, 2, 1))
    gradient = jax.grad(
        lambda bias: batch_norm(x, jnp.ones(1), bias, epsilon=1e-5, activation="relu")[0].sum()
    )(jnp.zeros(1))
    assert gradient == 0


@pytest.mark.parametrize("train", [True, False])
def test_layer_is_the_one_of_flax(train):
    x, scale, bias, _ = operands((2, 6, 5, 3))
    ours = BatchNorm()
    theirs = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5)
    variables = ours.init(jax.random.PRNGKey(0), x, train=True)
    assert jax.tree.all(
        jax.tree.map(jnp.array_equal, variables, theirs.init(jax.random.PRNGKey(0), x))
    )
    variables = variables | {"params": {"scale": scale, "bias": bias}}
    got = ours.apply(variables, x, train=train, mutable=["batch_stats"])
    want = theirs.apply(variables, x, mutable=["batch_stats"])
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wrong", ["scale", "bias"])
def test_a_shape_that_would_broadcast_is_refused(wrong):
    x, scale, bias, _ = operands((2, 3, 3, 4))
    given = {"scale": scale, "bias": bias} | {wrong: jnp.ones(1)}
    with pytest.raises(AssertionError):
        batch_norm(x, given["scale"], given["bias"], epsilon=1e-5, activation=None)
