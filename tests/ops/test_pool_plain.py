"""Maximum, mean and Haar: against slow numpy loops that follow PyTorch's definitions, and what
compiled code holds.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from covjax.errors import InputError
from covjax.ops.pool import MAX_WINDOW, pool2d
from covjax.ops.unpool import unpool2d

pool2d_jit = jax.jit(pool2d, static_argnums=(1, 2, 3))
unpool2d_jit = jax.jit(unpool2d, static_argnames="kind")


def loops_max_pool(x, window):
    """Maximum of each window and its flat index in the image; the first one wins, as in PyTorch."""
    n, height, width, channels = x.shape
    h = height // window
    w = width // window
    pooled = np.zeros((n, h, w, channels), x.dtype)
    index = np.zeros((n, h, w, channels), int)
    for b, i, j, c in np.ndindex(n, h, w, channels):
        part = x[b, i * window : (i + 1) * window, j * window : (j + 1) * window, c]
        # argmax: the first maximum in row-major order
        row, column = divmod(int(part.argmax()), window)
        pooled[b, i, j, c] = part[row, column]
        index[b, i, j, c] = (i * window + row) * width + j * window + column
    return pooled, index


def loops_unpool(values, index, size):
    out = np.zeros((values.shape[0], size[0] * size[1], values.shape[3]), values.dtype)
    for b, i, j, c in np.ndindex(*values.shape):
        out[b, index[b, i, j, c], c] = values[b, i, j, c]
    return out.reshape(values.shape[0], *size, values.shape[3])


def loops_same_mean(x, window):
    """MATLAB's "same" at stride 1: zeros around, the odd one at the bottom and right, always
    divided by the window.
    """
    around = ((window - 1) // 2, window // 2)
    padded = np.pad(x.astype(np.float64), ((0, 0), around, around, (0, 0)))
    out = np.zeros(x.shape)
    for i, j in np.ndindex(x.shape[1:3]):
        out[:, i, j] = padded[:, i : i + window, j : j + window].mean((1, 2))
    return out


shapes = st.tuples(st.integers(1, 2), st.integers(3, 9), st.integers(3, 9), st.integers(1, 3))


@settings(deadline=None, max_examples=15)
@given(shape=shapes, window=st.sampled_from([2, 3]), seed=st.integers(0, 99))
def test_max_pool_and_unpool_with_many_ties_and_odd_sizes(shape, window, seed):
    x = np.random.default_rng(seed).integers(-2, 3, shape).astype(np.float32)
    pooled, switches = pool2d_jit(jnp.asarray(x), "max", window)
    want, index = loops_max_pool(x, window)
    np.testing.assert_array_equal(pooled, want)
    assert switches.winner.dtype == jnp.int8 and switches.size == shape[1:3]
    values = want + 7
    np.testing.assert_array_equal(
        unpool2d_jit(jnp.asarray(values), switches), loops_unpool(values, index, shape[1:3])
    )


@settings(deadline=None, max_examples=8)
@given(shape=shapes, window=st.sampled_from([2, 3]), seed=st.integers(0, 99))
def test_average_pools(shape, window, seed):
    x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    n, height, width, channels = shape
    h = height // window
    w = width // window
    strided = np.zeros((n, h, w, channels))
    for i, j in np.ndindex(h, w):
        strided[:, i, j] = x[:, i * window : (i + 1) * window, j * window : (j + 1) * window].mean(
            (1, 2), dtype=float
        )
    np.testing.assert_allclose(pool2d_jit(jnp.asarray(x), "avg", window)[0], strided, atol=1e-6)
    same, switches = pool2d_jit(jnp.asarray(x), "avg", window, 1)
    np.testing.assert_allclose(same, loops_same_mean(x, window), atol=1e-6)
    assert switches is None


def test_stride_one_average_by_hand():
    x = jnp.arange(1.0, 7.0).reshape(1, 2, 3, 1)  # 1 2 3 / 4 5 6
    np.testing.assert_allclose(
        pool2d(x, "avg", 2, 1)[0][0, :, :, 0], [[3, 4, 2.25], [2.25, 2.75, 1.5]]
    )


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("size", [(6, 6), (7, 8)])
def test_gradients(size, window):
    rng = np.random.default_rng(0)
    # far from any tie
    x = jnp.asarray(rng.permutation(np.prod(size) * 2).reshape(1, *size, 2), jnp.float32)
    pooled, switches = pool2d(x, "max", window)
    values = jnp.asarray(rng.normal(size=pooled.shape), jnp.float32)
    for function, argument in (
        (lambda x: pool2d(x, "max", window)[0], x),
        (lambda x: pool2d(x, "avg", window)[0], x),
        (lambda x: pool2d(x, "avg", window, 1)[0], x),
        (lambda v: unpool2d(v, switches), values),
        (lambda x: unpool2d(*pool2d(jnp.sin(x), "max", window)), x),
    ):
        check_grads(
            jax.jit(function), (argument,), order=1, modes=["rev"], rtol=1e-2, atol=1e-2, eps=1e-2
        )


def test_gradient_of_a_tie_goes_to_the_first_maximum():
    gradient = jax.grad(lambda x: pool2d(x, "max")[0].sum())(jnp.ones((1, 3, 4, 1)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("position", range(4))
def test_nan_propagates(position):
    x = jnp.zeros((1, 4, 4, 1)).at[0, position // 2, position % 2, 0].set(jnp.nan)
    for kind, stride in (("max", 2), ("avg", 2), ("avg", 1)):
        assert jnp.isnan(pool2d(x, kind, 2, stride)[0]).sum() >= 1


def test_infinities_and_negative_values():
    x = jnp.full((1, 2, 2, 1), -jnp.inf).at[0, 1, 1, 0].set(-5.0)
    pooled, switches = pool2d(x)
    assert pooled.item() == -5.0 and switches.winner.item() == 3


def test_bfloat16_keeps_its_type_and_agrees():
    x = jnp.asarray(np.random.default_rng(0).integers(0, 64, (2, 6, 7, 3)), jnp.float32)
    for kind, stride in (("max", 2), ("avg", 2), ("avg", 1)):
        low = pool2d_jit(x.astype(jnp.bfloat16), kind, 2, stride)[0]
        high = pool2d_jit(x, kind, 2, stride)[0]
        assert low.dtype == jnp.bfloat16
        np.testing.assert_allclose(low.astype(jnp.float32), high, rtol=1e-2, atol=0.3)
    gradient = jax.jit(jax.grad(lambda x: unpool2d(*pool2d(x)).astype(jnp.float32).sum()))(
        x.astype(jnp.bfloat16)
    )
    assert gradient.dtype == jnp.bfloat16 and gradient.astype(jnp.float32).sum() == 2 * 3 * 3 * 3


def test_switches_cross_jit_and_vmap():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 5, 6, 2)), jnp.float32)
    pooled, switches = jax.jit(pool2d)(x)
    want = jax.jit(lambda x: unpool2d(*pool2d(x)))(x)
    np.testing.assert_array_equal(unpool2d_jit(pooled, switches), want)
    np.testing.assert_array_equal(
        jax.jit(jax.vmap(lambda x: unpool2d(*pool2d(x[None]))[0]))(x), want
    )


def test_no_gather_scatter_or_window_reduction_is_left():
    text = (
        jax.jit(jax.grad(lambda x: (unpool2d(*pool2d(x)) ** 2).sum()))
        .lower(jnp.ones((1, 6, 6, 2)))
        .as_text()
    )
    assert not any(
        f"stablehlo.{op}" in text
        for op in ("gather", "scatter", "reduce_window", "select_and_scatter")
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(kind="maxx"), "'maxx' is unknown, use one of avg, .*, haar, .*; did you mean 'max'"),
        (dict(kind="max", window=2, stride=3), "stride 3 must be 1 to the window, 2"),
        (dict(kind="lp"), "has no parameter 'power', use the module covjax.pooling.Pool"),
        (dict(kind="max", window=5), "4x4 input is smaller than the 5x5 window"),
        (dict(kind="max", window=MAX_WINDOW + 1), "must be 1 to 11"),
        (dict(kind="avg", window=0), "must be 1 to 11"),
    ],
)
def test_pool_errors(arguments, message):
    with pytest.raises(InputError, match=message):
        pool2d(jnp.zeros((1, 4, 4, 1)), **arguments)


def test_unpool_errors():
    pooled, switches = pool2d(jnp.zeros((1, 4, 4, 1)))
    with pytest.raises(InputError, match="'index' is unknown, use one of bilinear, haar, indices"):
        unpool2d(pooled, switches, "index")
    with pytest.raises(InputError, match="kept no indices"):
        unpool2d(*pool2d(jnp.zeros((1, 4, 4, 1)), "avg"))
    with pytest.raises(
        InputError, match=r"values \(1, 3, 2, 1\) do not match the indices \(1, 2, 2, 1\)"
    ):
        unpool2d(jnp.zeros((1, 3, 2, 1)), switches)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", [(6, 8), (7, 5), (1, 2)])
@pytest.mark.parametrize(("kind", "factor"), [("haar", 1), ("haar_bands", 4)])
def test_haar_poolings_and_their_inverse(kind, factor, size, dtype):
    x = jnp.asarray(np.random.default_rng(0).integers(0, 32, (2, *size, 3)), dtype)
    pooled, kept = pool2d_jit(x, kind)
    assert (
        pooled.shape == (2, -(-size[0] // 2), -(-size[1] // 2), 3 * factor)
        and pooled.dtype == dtype
    )
    assert kept.size == size
    # exact: small integers
    np.testing.assert_array_equal(unpool2d_jit(pooled, kept, kind="haar"), x)
    ll = np.pad(
        x.astype(np.float32), ((0, 0), (0, size[0] % 2), (0, size[1] % 2), (0, 0)), mode="edge"
    )
    ll = ll.reshape(2, pooled.shape[1], 2, pooled.shape[2], 2, 3).sum((2, 4)) / 2
    np.testing.assert_array_equal(pooled[..., :3].astype(np.float32), ll)


@pytest.mark.parametrize("kind", ["haar", "haar_bands"])
def test_haar_gradients(kind):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 6, 2)), jnp.float32)
    check_grads(
        jax.jit(lambda x: pool2d(x, kind)[0]), (x,), order=1, rtol=1e-2, atol=1e-2, eps=1e-2
    )

    def sharpened(x):
        pooled, kept = pool2d(x, kind)
        return unpool2d(2 * pooled, kept, "haar")

    check_grads(jax.jit(sharpened), (x,), order=1, rtol=1e-2, atol=1e-2, eps=1e-2)


def test_haar_errors():
    x = jnp.zeros((1, 4, 4, 1))
    pooled, kept = pool2d(x, "haar")
    for call, message in (
        (
            lambda: pool2d(x, "haar", window=3),
            "pooling 'haar': window 3 with stride 3 is not offered",
        ),
        (lambda: pool2d(x, "haar_bands", stride=1), "pooling 'haar_bands': window 2 with stride 1"),
        (
            lambda: unpool2d(*pool2d(x, "max"), "haar"),
            "kept no high bands, use pooling 'haar' or 'haar_bands'",
        ),
        (lambda: unpool2d(pooled, kept), "'indices': the pooling kept no indices"),
        (
            lambda: unpool2d(pooled[:, :1], kept, "haar"),
            r"values \(1, 1, 2, 1\) do not match the high bands",
        ),
    ):
        with pytest.raises(InputError, match=message):
            call()
