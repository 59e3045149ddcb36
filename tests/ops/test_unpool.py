"""Unpoolings that need nothing of the pooling against numpy loops; every pair that fits, and what
the others get.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from covjax.errors import InputError
from covjax.nn.pooling import Pool, Unpool
from covjax.ops.fitting import check_pooling
from covjax.ops.poolings import POOLINGS
from covjax.ops.unpool import FITS, UNPOOLINGS, unpool2d, unpool_parameter_shapes
from tests.ops import loops

SIZES = {2: ((6, 8), (7, 9), (5, 7)), 3: ((9, 12), (11, 13), (7, 10))}  # exactly, one row more, cut


def parameters_of(kind, stride, channels):
    rng = np.random.default_rng(stride)
    shapes = {
        name: shape for name, (_, shape) in unpool_parameter_shapes(kind, stride, channels).items()
    }
    return {name: np.asarray(rng.standard_normal(shape)) for name, shape in shapes.items()}


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("kind", ["nearest", "bilinear", "transposed_conv"])
def test_against_loops_with_exact_gradients_and_in_bfloat16(kind, stride):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 2))
    parameters = parameters_of(kind, stride, 2)

    def by_all_sizes(x, parameters):
        return [unpool2d(x, None, kind, size, stride, parameters) for size in SIZES[stride]]

    for dtype, tolerance in ((jnp.float32, 1e-5), (jnp.bfloat16, 0.05)):
        for got, size in zip(
            jax.jit(by_all_sizes)(jnp.asarray(x, dtype), parameters), SIZES[stride], strict=True
        ):
            assert got.dtype == dtype
            want = loops.unpool(x, kind, size, stride, parameters)
            np.testing.assert_allclose(got.astype(np.float64), want, rtol=tolerance, atol=tolerance)
    with jax.enable_x64(True):
        arguments = jnp.asarray(x), parameters
        check_grads(
            jax.jit(by_all_sizes), arguments, order=1, modes=["rev"], rtol=1e-6, atol=1e-6, eps=1e-5
        )


def test_a_constant_map_stays_constant():
    x = jnp.full((1, 3, 4, 1), 2.0)
    for kind in ("nearest", "bilinear"):
        np.testing.assert_array_equal(unpool2d(x, None, kind, (7, 9)), jnp.full((1, 7, 9, 1), 2.0))
    assert unpool2d(x, None, "nearest").shape == (1, 6, 8, 1)


def test_what_fits_what_is_data():
    assert FITS.keys() == UNPOOLINGS.keys() and all(len(text) > 20 for text in UNPOOLINGS.values())
    assert all(set(poolings) <= set(POOLINGS) for poolings in FITS.values())
    assert all(any(pooling in poolings for poolings in FITS.values()) for pooling in POOLINGS)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pair_runs_and_learns_if_it_fits_and_else_says_what_would(pooling):
    size = (5, 7)
    x = jnp.asarray(np.abs(np.random.default_rng(0).normal(size=(2, *size, 3))), jnp.float32)
    fitting = [unpooling for unpooling in UNPOOLINGS if pooling in FITS[unpooling]]

    def down_and_up(variables, x):
        pooled, kept = Pool(pooling).apply(variables["down"], x)
        return {up: Unpool(up).apply(variables[up], pooled, kept, size) for up in fitting}

    def loss(variables):
        outputs = down_and_up(variables, x)
        return sum((y**2).mean() for y in outputs.values()), outputs

    @jax.jit
    def once(key, x):
        (pooled, kept), down = Pool(pooling).init_with_output(key, x)
        variables = {"down": down} | {
            up: Unpool(up).init(key, pooled, kept, size) for up in fitting
        }
        return pooled, kept, *jax.value_and_grad(loss, has_aux=True)(variables)

    pooled, kept, (value, outputs), gradients = once(jax.random.PRNGKey(0), x)
    assert np.isfinite(value)
    assert all(y.shape[:3] == x.shape[:3] for y in outputs.values())
    assert all(jnp.abs(g).max() > 0 for g in jax.tree.leaves(gradients))
    for unpooling in UNPOOLINGS:
        if unpooling in fitting:
            check_pooling("none", pooling, unpooling, "none")
            continue
        with pytest.raises(
            InputError,
            match=f"'{unpooling}' does not fit.*use {' or '.join(fitting)}, or a pooling",
        ):
            check_pooling("none", pooling, unpooling, "none")
        with pytest.raises(InputError, match="kept no"):
            unpool2d(pooled, kept, unpooling)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: unpool2d(x, None, "nearest", (9, 6)), "3x3 enlarged 2 times is no 9x6"),
        (
            lambda x: unpool2d(x, None, "transposed_conv"),
            "no parameter 'bias', use the module covjax.pooling.Unpool",
        ),
        (
            lambda x: check_pooling("conv", "max", "indices", "avg"),
            "encoder_smoothing: 'conv' is unknown, use one of",
        ),
        (
            lambda x: check_pooling("avg", "none", "indices", "avg"),
            "encoder_pooling: 'none' is unknown",
        ),
        (lambda x: check_pooling("avg", "max", "bilinaer", "avg"), "did you mean 'bilinear'"),
        (
            lambda x: check_pooling("avg", "max", "indices", "max_avg"),
            "decoder_smoothing.*did you mean 'max_avg_sum'",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(InputError, match=message):
        call(jnp.zeros((1, 3, 3, 1)))
