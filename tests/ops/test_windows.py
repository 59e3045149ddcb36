"""Overlapping and adaptive pooling against flax, loops over the windows, and the rules of PyTorch's
ceil_mode.
"""

import math
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from covjax.ops.windows import adaptive_average_pool, average_pool, global_max_pool, max_pool

IMAGES = [(41, 42), (9, 10), (3, 3), (1, 2)]


def integers(seed, *shape):
    """Many ties, and sums that are exact."""
    return jnp.asarray(np.random.default_rng(seed).integers(-4, 5, shape), jnp.float32)


def with_gradient(function, x):
    """What `function` makes of x, and the gradient of its sum weighted by small integers."""

    def both(x):
        y, backward = jax.vjp(function, x)
        return y, backward(integers(1, *y.shape))[0]

    # one program: compiling every operation by itself takes several times as long
    return jax.jit(both)(x)


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize(
    ("window", "stride", "padding"),
    [(3, 2, 1), (3, 1, 1), (2, 2, 0), (3, 3, 1), (3, 2, "same"), (2, 2, "same")],
)
def test_max_pool_is_that_of_flax(image, window, stride, padding):
    if padding != "same" and min(image) + 2 * padding < window:
        pytest.skip("the window does not fit into this image")
    around = "SAME" if padding == "same" else ((padding, padding),) * 2
    want = partial(
        nn.max_pool, window_shape=(window, window), strides=(stride, stride), padding=around
    )
    x = integers(0, 2, *image, 5)
    chex.assert_trees_all_equal(
        with_gradient(lambda x: max_pool(x, window, stride, padding), x), with_gradient(want, x)
    )


def test_global_max_pool_gives_its_gradient_to_the_first_maximum():
    x = np.array(integers(0, 3, 5, 4, 6))
    got, gradient = with_gradient(global_max_pool, jnp.asarray(x))
    np.testing.assert_array_equal(got, x.max((1, 2)))
    for n, c in np.ndindex(got.shape):
        first = np.unravel_index(x[n, :, :, c].argmax(), (5, 4))
        assert gradient[n, *first, c] == integers(1, *got.shape)[n, c]
    assert np.count_nonzero(gradient) == np.count_nonzero(integers(1, *got.shape))
    x[0, 2, 1, 0] = np.nan
    assert np.isnan(global_max_pool(jnp.asarray(x))[0, 0])  # must not vanish: training has to stop


def windows(side, window, stride, padding, round_up):
    """Ranges of pixels along one side, by the rule that PyTorch documents: a window must start
    before the end.
    """
    last = (side + 2 * padding - window) / stride
    starts = [
        k * stride - padding for k in range((math.ceil if round_up else math.floor)(last) + 1)
    ]
    starts = [start for start in starts if start < side + padding] if round_up else starts
    return [range(max(start, 0), min(start + window, side)) for start in starts]


@pytest.mark.parametrize("image", [*IMAGES[:3], (7, 12), (8, 11)])
@pytest.mark.parametrize("round_up", [False, True])
@pytest.mark.parametrize(
    ("window", "stride", "padding"), [(3, 2, 0), (2, 2, 0), (3, 2, 1), (2, 3, 0), (3, 3, 0)]
)
def test_max_pool_over_loops(image, round_up, window, stride, padding):
    x = np.asarray(integers(0, 1, *image, 2))
    rows, columns = (windows(side, window, stride, padding, round_up) for side in image)
    want = [
        [x[0, rs.start : rs.stop, cs.start : cs.stop].max((0, 1)) for cs in columns] for rs in rows
    ]
    got, gradient = with_gradient(
        lambda x: max_pool(x, window, stride, padding, round_up=round_up), jnp.asarray(x)
    )
    np.testing.assert_array_equal(got[0], want)
    # every output's gradient arrives at one pixel
    assert gradient.sum() == integers(1, *got.shape).sum()


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("count_padding", [True, False])
@pytest.mark.parametrize(
    ("window", "stride", "padding"), [(3, 2, 1), (3, 1, 1), (2, 2, 0), (7, 7, 0)]
)
def test_average_pool_is_that_of_flax(image, count_padding, window, stride, padding):
    if min(image) + 2 * padding < window:
        pytest.skip("the window does not fit into this image")

    def want(x):
        around = ((padding, padding),) * 2
        return nn.avg_pool(
            x, (window, window), (stride, stride), around, count_include_pad=count_padding
        )

    def own(x):
        return average_pool(x, window, stride, padding, count_padding=count_padding)

    x = integers(0, 2, *image, 5)
    value, gradient = with_gradient(own, x)
    value_wanted, gradient_wanted = with_gradient(want, x)
    np.testing.assert_allclose(value, value_wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(gradient, gradient_wanted, rtol=1e-5, atol=1e-5)


def test_average_pool_adds_bfloat16_in_float32():
    x = jnp.full((1, 16, 16, 1), 1 + 2**-7, jnp.bfloat16)
    # 256 terms, of which bfloat16 would lose the last places
    assert average_pool(x, 16, 16) == x[:, :1, :1]


@pytest.mark.parametrize("image", [(7, 7), (2, 2), (9, 9), (14, 21), (5, 12)])
@pytest.mark.parametrize("sides", [(7, 7), (1, 1), (3, 2)])
def test_adaptive_average_pool_over_loops(image, sides):
    x = np.asarray(integers(0, 2, *image, 3))
    edges = [
        [(i * side // bins, math.ceil((i + 1) * side / bins)) for i in range(bins)]
        for side, bins in zip(image, sides, strict=True)
    ]
    want = [
        [x[:, top:bottom, left:right].mean((1, 2)) for left, right in edges[1]]
        for top, bottom in edges[0]
    ]
    got = jax.jit(adaptive_average_pool, static_argnums=1)(jnp.asarray(x), sides)
    np.testing.assert_allclose(got, np.moveaxis(np.array(want), 2, 0), rtol=1e-5, atol=1e-5)
