"""Convolution and its gradients against XLA's own, in every form that a shape or a platform may choose."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from covjax import convolution
from covjax.convolution import conv2d


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def reference(x, kernel, stride=1, dilation=1, padding=None):
    pad = kernel.shape[0] // 2 * dilation if padding is None else padding
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad)] * 2, rhs_dilation=(dilation, dilation), dimension_numbers=numbers
    )


def gradients(conv, x, kernel, g):
    return jax.vjp(conv, x, kernel)[1](g)


def assert_same(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("channels", [(3, 64), (64, 2), (32, 32), (48, 64), (8, 8), (41, 41)])
@pytest.mark.parametrize(("size", "options"), [(3, {}), (3, {"dilation": 2}), (5, {"padding": 1}), (7, {})])
def test_gradients_at_stride_one(channels, size, options):
    x, kernel = normal(0, 2, 37, 46, channels[0]), normal(1, size, size, *channels)
    own, want = partial(conv2d, **options), partial(reference, **options)
    y = jax.jit(own)(x, kernel)
    np.testing.assert_array_equal(y, jax.jit(want)(x, kernel))
    g = normal(2, *y.shape)
    assert_same(jax.jit(partial(gradients, own))(x, kernel, g), jax.jit(partial(gradients, want))(x, kernel, g))


@pytest.mark.parametrize(
    ("size", "stride", "dilation"), [(1, 1, 1), (1, 2, 1), (3, 2, 1), (7, 2, 1), (3, 2, 2), (2, 1, 1)]
)
@pytest.mark.parametrize("image", [(1, 1), (9, 8), (35, 40)])
def test_gradients_elsewhere(size, stride, dilation, image):
    x, kernel = normal(0, 2, *image, 20), normal(1, size, size, 20, 24)
    own, want = (partial(f, stride=stride, dilation=dilation) for f in (conv2d, reference))
    g = normal(2, *want(x, kernel).shape)
    assert_same(gradients(own, x, kernel, g), gradients(want, x, kernel, g))


@pytest.mark.parametrize("image", [(1, 1), (2, 9), (8, 8), (17, 5), (33, 3)])
@pytest.mark.parametrize("form", ["_shift_first", "_shift_both"])
@pytest.mark.parametrize(("size", "dilation", "padding"), [(3, 1, 1), (3, 2, 2), (3, 2, 1), (5, 1, 2)])
def test_matrix_forms_at_any_size(form, image, size, dilation, padding):
    x = normal(0, 2, *image, 3)
    if min(image) + 2 * padding <= (size - 1) * dilation:
        pytest.skip("the kernel does not fit into this image")
    kernel = jnp.zeros((size, size, 3, 4))
    conv = partial(reference, dilation=dilation, padding=padding)
    g = normal(1, *conv(x, kernel).shape)
    got = getattr(convolution, form)(size, dilation, padding, x, g)
    assert_same([got], [gradients(conv, x, kernel, g)[1]])


@pytest.mark.parametrize("channels", [(2, 17), (41, 41)])
def test_second_derivatives(channels, monkeypatch):
    monkeypatch.setattr(convolution, "SMALL_IMAGE", 1)
    x, kernel = normal(0, 1, 6, 5, channels[0]), normal(1, 3, 3, *channels)
    assert convolution._matrix_form(3, 1, 1, x, reference(x, kernel)) is not None

    def second(conv):
        def size_of_gradients(x, kernel):
            to_x, to_kernel = jax.grad(lambda x, k: jnp.sin(conv(x, k)).sum(), (0, 1))(x, kernel)
            return (to_x**2).sum() + (to_kernel**3).sum()

        return jax.jit(jax.grad(size_of_gradients, (0, 1)))(x, kernel)

    assert_same(second(conv2d), second(reference))


def test_forward_mode_is_refused_by_name():
    x, kernel = normal(0, 1, 6, 5, 2), normal(1, 3, 3, 2, 2)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(conv2d, (x, kernel), (x, kernel))


def test_accelerators_keep_the_convolutions_of_their_library():
    x, kernel = jnp.zeros((2, 64, 64, 64)), jnp.zeros((3, 3, 64, 64))
    train = jax.jit(jax.grad(lambda kernel, x: conv2d(x, kernel).sum()))
    count = {}
    for platform in ("cpu", "cuda", "tpu"):
        text = train.trace(kernel, x).lower(lowering_platforms=(platform,)).as_text()
        count[platform] = text.count("stablehlo.convolution"), text.count("stablehlo.while")
    assert count["cuda"] == count["tpu"] and count["cuda"][1] == 0 < count["cpu"][1]
    assert count["cuda"][0] == count["cpu"][0] + 1
