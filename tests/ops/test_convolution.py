"""Convolution and its gradients against XLA's own, in every form that a shape or a platform may
choose.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from covjax.errors import InputError
from covjax.ops.convolution import Geometry, conv2d
from covjax.ops.convolution.blocks import blocked_conv, shift_both, shift_first
from covjax.ops.convolution.patches import patch_weight_gradient


def square(size, dilation, padding):
    return Geometry((size, size), 1, dilation, (padding, padding))


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def reference(x, kernel, stride=1, dilation=1, padding=None, groups=1):
    sides = [k // 2 * dilation for k in kernel.shape[:2]] if padding is None else [padding] * 2
    pad = "SAME" if padding == "same" else [(p, p) for p in sides]
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        pad,
        rhs_dilation=(dilation, dilation),
        feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@partial(jax.jit, static_argnums=0)
def value_and_gradients(conv, x, kernel, g):
    y, back = jax.vjp(conv, x, kernel)
    return y, *back(g)


def assert_same(got, want):
    """To 1e-5 of the largest value."""
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * float(jnp.abs(b).max()))


def compare(x, kernel, **options):
    own = partial(conv2d, **options)
    want = partial(reference, **options)
    g = normal(2, *jax.eval_shape(want, x, kernel).shape)
    assert_same(value_and_gradients(own, x, kernel, g), value_and_gradients(want, x, kernel, g))


@pytest.mark.parametrize("channels", [(3, 64), (64, 2), (32, 32), (48, 64), (8, 8)])
@pytest.mark.parametrize(("size", "options"), [(3, {}), (3, {"dilation": 2}), (5, {"padding": 1})])
def test_large_images(channels, size, options):
    compare(normal(0, 2, 37, 46, channels[0]), normal(1, size, size, *channels), **options)


@pytest.mark.parametrize("image", [(1, 1), (35, 40)])
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (3, 1)])
def test_every_size_stride_and_dilation(image, size, stride, dilation):
    compare(
        normal(0, 2, *image, 20), normal(1, size, size, 20, 24), stride=stride, dilation=dilation
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("image", [(7, 7), (33, 40)])
@pytest.mark.parametrize("size", [(1, 7), (7, 1)])
@pytest.mark.parametrize(("channels", "groups"), [((20, 24), 1), ((48, 44), 1), ((8, 16), 8)])
def test_rectangular_kernels(image, size, channels, groups, dtype):
    x = normal(0, 2, *image, channels[0])
    kernel = normal(1, *size, channels[0] // groups, channels[1])
    if dtype == jnp.float32:
        return compare(x, kernel, groups=groups)
    exact = reference(*(a.astype(dtype).astype(jnp.float32) for a in (x, kernel)), groups=groups)
    got = jax.jit(partial(conv2d, groups=groups))(x.astype(dtype), kernel.astype(dtype))
    np.testing.assert_allclose(got.astype(jnp.float32), exact, rtol=0, atol=single_rounding(exact))


@pytest.mark.parametrize("image", [(5, 8), (40, 37)])
@pytest.mark.parametrize(
    ("size", "options"),
    [((3, 3), {"stride": 2}), ((5, 3), {"stride": 3}), ((2, 2), {"dilation": 2}), ((1, 1), {})],
)
@pytest.mark.parametrize("groups", [1, 6])
def test_padding_of_tensorflow(image, size, options, groups):
    x = normal(0, 2, *image, 6)
    kernel = normal(1, *size, 6 // groups, 6)
    compare(x, kernel, padding="same", groups=groups, **options)


@pytest.mark.parametrize("image", [(5, 4), (35, 33)])
@pytest.mark.parametrize(
    ("size", "options"),
    [(3, {}), (3, {"stride": 2}), (3, {"dilation": 2}), (5, {"padding": 0}), (7, {})],
)
@pytest.mark.parametrize(("channels", "groups"), [((12, 12), 12), ((4, 12), 4), ((12, 36), 3)])
def test_groups(image, size, options, channels, groups):
    """Depthwise with one and with three features per channel, and ordinary groups."""
    if min(image) < size and "padding" in options:
        pytest.skip("the kernel does not fit into this image")
    kernel = normal(1, size, size, channels[0] // groups, channels[1])
    compare(normal(0, 2, *image, channels[0]), kernel, groups=groups, **options)


@pytest.mark.parametrize("batch", [1, 17, 18])
@pytest.mark.parametrize(
    ("size", "options"), [(3, {}), (5, {"stride": 2}), (5, {"dilation": 2, "padding": 1})]
)
def test_depthwise_of_any_batch(batch, size, options):
    compare(normal(0, batch, 12, 9, 6), normal(1, size, size, 1, 12), groups=6, **options)


@pytest.mark.parametrize(("channels", "features", "groups"), [(6, 4, 4), (6, 5, 3), (8, 8, 2)])
def test_channels_that_do_not_fit_the_groups(channels, features, groups):
    x = jnp.zeros((1, 5, 5, channels))
    kernel = jnp.zeros((3, 3, channels // groups + (groups == 2), features))
    with pytest.raises(
        InputError, match=rf"^groups: {groups} do not divide {channels} channels and {features} "
    ):
        conv2d(x, kernel, groups=groups)


def single_rounding(x):
    """What bfloat16 may lose: half a unit of its last place."""
    return 2.0**-8 * float(jnp.abs(x).max())


@pytest.mark.parametrize("image", [(5, 6), (33, 49)])
@pytest.mark.parametrize(
    ("channels", "groups"), [((3, 64), 1), ((64, 2), 1), ((48, 64), 1), ((8, 8), 8), ((8, 8), 2)]
)
@pytest.mark.parametrize("options", [{}, {"stride": 2}])
def test_bfloat16_against_float32(image, channels, groups, options):
    """Values and gradients of bfloat16 operands differ from the exact ones by the rounding of the
    result alone.
    """
    options = {"groups": groups, **options}
    operands = (
        normal(0, 2, *image, channels[0]),
        normal(1, 3, 3, channels[0] // groups, channels[1]),
    )
    half = [x.astype(jnp.bfloat16) for x in operands]
    g = normal(2, *jax.eval_shape(partial(reference, **options), *operands).shape).astype(
        jnp.bfloat16
    )
    exact = value_and_gradients(
        partial(reference, **options), *(x.astype(jnp.float32) for x in (*half, g))
    )
    for got, want in zip(
        value_and_gradients(partial(conv2d, **options), *half, g), exact, strict=True
    ):
        assert got.dtype == jnp.bfloat16
        np.testing.assert_allclose(
            got.astype(jnp.float32), want, rtol=0, atol=single_rounding(want)
        )


@pytest.mark.parametrize("image", [(1, 1), (2, 9), (33, 3)])
@pytest.mark.parametrize("form", [shift_first, shift_both, patch_weight_gradient])
@pytest.mark.parametrize("geometry", [square(3, 1, 1), square(3, 2, 1), square(5, 1, 2)])
def test_weight_gradients_of_any_image(form, image, geometry):
    if min(image) + 2 * geometry.padding[0] <= geometry.reach[0]:
        pytest.skip("the kernel does not fit into this image")
    x = normal(0, 2, *image, 3)
    kernel = normal(1, *geometry.size, 3, 4)
    conv = partial(reference, dilation=geometry.dilation, padding=geometry.padding[0])
    g = normal(2, *jax.eval_shape(conv, x, kernel).shape)
    got = jax.jit(form, static_argnums=0)(geometry, x, g)
    assert_same([got], [value_and_gradients(conv, x, kernel, g)[2]])


@pytest.mark.parametrize("image", [(1, 1), (2, 9), (17, 5), (40, 33)])
@pytest.mark.parametrize("geometry", [square(3, 1, 1), square(3, 2, 2), square(5, 1, 1)])
def test_blocked_convolution_of_any_image(image, geometry):
    if min(image) + 2 * geometry.padding[0] <= geometry.reach[0]:
        pytest.skip("the kernel does not fit into this image")
    x = normal(0, 2, *image, 3)
    kernel = normal(1, *geometry.size, 3, 4)
    want = jax.jit(partial(reference, dilation=geometry.dilation, padding=geometry.padding[0]))(
        x, kernel
    )
    assert_same([jax.jit(blocked_conv, static_argnums=0)(geometry, x, kernel)], [want])


@pytest.mark.parametrize(
    ("image", "channels", "options"),
    [
        ((6, 5), (2, 3), {}),
        ((9, 7), (2, 3), {"stride": 2}),
        ((33, 32), (2, 17), {}),
        ((33, 32), (41, 41), {}),
        ((33, 32), (4, 4), {"groups": 4}),
        ((9, 7), (6, 4), {"groups": 2, "stride": 2}),
    ],
)
def test_second_derivatives(image, channels, options):
    kernel = 0.1 * normal(1, 3, 3, channels[0] // options.get("groups", 1), channels[1])
    x = normal(0, 1, *image, channels[0])

    def second(conv):
        def size_of_gradients(x, kernel):
            to_x, to_kernel = jax.grad(lambda x, k: jnp.sin(conv(x, k)).sum(), (0, 1))(x, kernel)
            return (to_x**2).sum() + (to_kernel**2).sum()

        return jax.jit(jax.grad(size_of_gradients, (0, 1)))(x, kernel)

    assert_same(second(partial(conv2d, **options)), second(partial(reference, **options)))


def test_forward_mode_is_refused_by_name():
    x = normal(0, 1, 6, 5, 2)
    kernel = normal(1, 3, 3, 2, 2)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(conv2d, (x, kernel), (x, kernel))


@pytest.mark.parametrize("image", [3, 64])
def test_accelerators_keep_the_convolutions_of_their_library(image):
    """On them an image of any size is three convolutions: forward, to the input, to the kernel."""
    x = jnp.zeros((2, image, image, 64))
    kernel = jnp.zeros((3, 3, 64, 64))
    train = jax.jit(jax.value_and_grad(lambda x, kernel: (conv2d(x, kernel) ** 2).sum(), (0, 1)))
    found = {}
    for platform in ("cpu", "cuda", "tpu"):
        text = train.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
        found[platform] = [
            text.count(f"stablehlo.{name}") for name in ("convolution", "dot_general", "while")
        ]
    assert found["cuda"] == found["tpu"] == [3, 0, 0]
    assert found["cpu"] == ([0, 3, 0] if image == 3 else [2, 1, 1])


@pytest.mark.parametrize(("image", "choices"), [(3, 3), (16, 0), (64, 1)])
def test_a_platform_is_asked_only_where_its_form_differs(image, choices):
    """Tracing two forms of every convolution would delay the first step."""
    x = jnp.zeros((2, image, image, 64))
    kernel = jnp.zeros((3, 3, 64, 64))
    gradients = jax.make_jaxpr(
        jax.value_and_grad(lambda x, kernel: (conv2d(x, kernel) ** 2).sum(), (0, 1))
    )
    assert str(gradients(x, kernel)).count("platform_index") == choices
