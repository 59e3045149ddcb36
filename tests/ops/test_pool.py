"""Every pooling against numpy loops, with exact gradients, in bfloat16, on odd sizes, side by side
and overlapping.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pywt
from jax.test_util import check_grads

from covjax.ops.kept import Switches
from covjax.ops.pool import parameter_shapes, pool2d
from covjax.ops.poolings import POOLINGS, smoothings
from tests.ops import loops

GRIDS = ((2, 2), (2, 1), (3, 2))
ON_GRIDS = [kind for kind in POOLINGS if not kind.startswith("haar")]


def parameters_of(kind, window, channels):
    """Not those it starts with, which are alike in every channel."""
    rng = np.random.default_rng(len(kind))
    shapes = {name: shape for name, (_, shape) in parameter_shapes(kind, window, channels).items()}
    return {name: np.asarray(0.5 * rng.standard_normal(shape)) for name, shape in shapes.items()}


def pooled(kind, x, parameters, grids):
    return [pool2d(x, kind, window, stride, parameters[window])[0] for window, stride in grids]


def value_and_gradients(kind, grid, x, parameters):
    return jax.jit(jax.value_and_grad(lambda x, p: pool2d(x, kind, *grid, p)[0].sum(), (0, 1)))(
        x, parameters
    )


def test_every_pooling_is_explained_with_its_source():
    assert all("arXiv:" in text for text in POOLINGS.values())
    assert set(loops.OF_A_WINDOW) < set(POOLINGS)


@pytest.mark.parametrize("kind", ON_GRIDS)
def test_against_loops_with_exact_gradients_and_in_bfloat16(kind):
    parameters = {window: parameters_of(kind, window, 2) for window in (2, 3)}
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 2))
    x[0, :4, :4] = -np.abs(x[0, :4, :4])  # windows in which nothing is above zero
    x[1, :3, :3] = 0
    want = [loops.pool(x, kind, *grid, parameters[grid[0]]) for grid in GRIDS]
    for dtype, grids, tolerance in ((jnp.float32, GRIDS, 1e-5), (jnp.bfloat16, GRIDS[:1], 0.06)):
        several = jax.jit(lambda x, p, grids=grids: pooled(kind, x, p, grids))
        for got, value in zip(several(jnp.asarray(x, dtype), parameters), want, strict=False):
            assert got.dtype == dtype
            np.testing.assert_allclose(got.astype(np.float32), value, rtol=1e-5, atol=tolerance)
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(1).normal(size=(1, 5, 6, 2)))  # no ties
        several = jax.jit(lambda x, parameters: pooled(kind, x, parameters, GRIDS[:2]))
        check_grads(
            several, (x, parameters), order=1, modes=["rev"], rtol=1e-6, atol=1e-6, eps=1e-5
        )


@pytest.mark.parametrize("kind", ("max", "avg_then_max", "max_avg_sum", "mixed", "gated", "blur"))
@pytest.mark.parametrize("grid", [(2, 2), (3, 2)])
def test_the_gradient_of_a_tie_goes_to_the_first_maximum(kind, grid):
    """All pixels alike: what the maximum passes on is the largest part of every gradient, and comes
    first.
    """
    parameters = {name: np.zeros(p.shape) for name, p in parameters_of(kind, grid[0], 1).items()}
    x = jnp.ones((1, 2, 2, 1)) if grid == (2, 2) else jnp.ones((1, 3, 3, 1))
    value, gradient = jax.jit(
        jax.value_and_grad(lambda x: pool2d(x, kind, *grid, parameters)[0][0, 0, 0, 0])
    )(x)
    # every one of these is of degree one
    assert float(gradient.sum()) == pytest.approx(float(value))
    assert gradient[0, 0, 0, 0] > 2 * jnp.abs(gradient).ravel()[1:].max() or kind in (
        "avg_then_max",
        "blur",
    )
    # smoothed, only the first of the window is the mean of four ones, the others less
    if kind == "avg_then_max":
        np.testing.assert_allclose(gradient[0, :2, :2, 0], gradient[0, 0, 0, 0])


@pytest.mark.parametrize("kind", ON_GRIDS)
def test_no_nan_vanishes(kind):
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 2, 0].set(jnp.nan)
    got = jax.jit(lambda x, p: pool2d(x, kind, 2, 2, p)[0])(x, parameters_of(kind, 2, 1))
    assert np.isnan(got[0, 0, 1]).any()


@pytest.mark.parametrize("kind", ON_GRIDS)
def test_no_gather_scatter_or_window_reduction_is_left(kind):
    def loss(x):
        return sum(
            pool2d(x, kind, *grid, parameters_of(kind, grid[0], 2))[0].sum() for grid in GRIDS
        )

    text = jax.jit(jax.grad(loss)).lower(jnp.ones((1, 7, 6, 2))).as_text()
    assert not any(
        f"stablehlo.{op}" in text
        for op in ("gather", "scatter", "reduce_window", "select_and_scatter")
    )


@pytest.mark.parametrize("kind", ["lp", "soft", "stochastic", "mixed", "gated"])
def test_large_values_and_empty_maps_stay_finite_with_their_gradients(kind):
    parameters = parameters_of(kind, 3, 2)
    for value in (0.0, 1e-30, 3e4, -3e4):
        x = jnp.full((1, 5, 5, 2), value, jnp.float32)
        found = value_and_gradients(kind, (3, 2), x, parameters)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_lp_lies_between_the_mean_and_the_maximum():
    x = jnp.asarray(np.random.default_rng(0).random((1, 4, 4, 1)), jnp.float32)
    mean = pool2d(x, "avg")[0]
    top = pool2d(x, "max")[0]
    np.testing.assert_allclose(
        pool2d(x, "lp", parameters={"power": jnp.full(1, -30.0)})[0], mean, rtol=1e-5
    )
    np.testing.assert_allclose(
        pool2d(x, "lp", parameters={"power": jnp.full(1, 3e3)})[0], top, rtol=1e-3
    )
    start = parameter_shapes("lp", 2, 1)["power"][0](None, (1,), jnp.float32)
    want = (np.asarray(x).reshape(2, 2, 2, 2) ** 3).mean((1, 3)) ** (1 / 3)
    np.testing.assert_allclose(
        pool2d(x, "lp", parameters={"power": start})[0][0, :, :, 0], want, rtol=1e-5
    )


def test_a_stochastic_pooling_draws_in_proportion_and_gives_the_gradient_to_what_it_drew():
    n = 20_000
    x = jnp.tile(jnp.asarray([[0.0, 1.0], [-2.0, 3.0]])[None, :, :, None], (n, 1, 1, 1))
    keys = jax.random.split(jax.random.PRNGKey(0), n)

    def drawn(x):
        return pool2d(x, "stochastic", keys=keys)[0]

    values = np.asarray(drawn(x)).ravel()
    assert set(values) == {1.0, 3.0}
    assert abs((values == 3).mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / n)
    assert pool2d(x[:1], "stochastic")[0].item() == 2.5  # (1 + 9) / 4
    gradient = np.asarray(jax.grad(lambda x: drawn(x).sum())(x))[:, :, :, 0]
    np.testing.assert_array_equal(gradient[:, 0, 1], values == 1)
    np.testing.assert_array_equal(gradient[:, 1, 1], values == 3)
    assert gradient.sum() == n
    # Nothing above zero: every pixel that is there as often.
    empty = np.asarray(
        pool2d(jnp.full_like(x, -1).at[:, 1, 1].set(-2), "stochastic", 3, 2, keys=keys)[0]
    )
    assert set(empty.ravel()) == {-1.0, -2.0} and abs((empty == -2).mean() - 0.25) < 4 * np.sqrt(
        0.25 * 0.75 / n
    )


def test_which_poolings_keep_switches():
    x = jnp.zeros((1, 6, 6, 2))
    kept = {
        k: jax.eval_shape(partial(pool2d, kind=k, parameters=parameters_of(k, 2, 2)), x)[1]
        for k in ON_GRIDS
    }
    with_switches = {kind for kind, value in kept.items() if isinstance(value, Switches)}
    assert with_switches == {"max", "max_avg_sum", "avg_then_max", "mixed", "gated"}
    assert pool2d(x, "max", 3, 2)[1] is None  # a pixel may win two windows


@pytest.mark.parametrize("kind", [kind for kind in smoothings() if kind != "none"])
def test_smoothings_keep_size_and_channels(kind):
    x = jnp.zeros((1, 5, 4, 3))
    got, _ = jax.eval_shape(
        partial(pool2d, kind=kind, window=2, stride=1, parameters=parameters_of(kind, 2, 3)), x
    )
    assert got.shape == x.shape


def test_haar_against_pywavelets():
    x = np.random.default_rng(0).normal(size=(2, 7, 10, 3))
    ll, (lh, hl, hh) = pywt.dwt2(x, "haar", axes=(1, 2))
    pooled, kept = pool2d(jnp.asarray(x, jnp.float32), "haar_bands")
    np.testing.assert_allclose(pooled, np.concatenate([ll, lh, hl, hh], -1), atol=1e-5)
    np.testing.assert_array_equal(kept.bands.hh, pooled[..., 9:])
