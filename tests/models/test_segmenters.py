"""Segmentation networks: parameters counted by hand, odd sizes, a step of training, options."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from covjax.errors import InputError
from covjax.models import create_model, list_models, model_options
from covjax.models.segmentation.fcn import Enlarge

VGG16 = (2, 2, 3, 3, 3)
VGG19 = (2, 2, 4, 4, 4)
SMALL = {"segnet_plain": {"width": 4, "depth": 2}, "unet": {"width": 4, "depth": 1}}


def shapes(name, size=(37, 45), **options):
    x = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    return jax.eval_shape(create_model(name, **options).init, jax.random.PRNGKey(0), x)


def parameters(name, **options):
    return sum(
        int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes(name, **options)["params"])
    )


def conv(fan_in, fan_out, size=3, norm=True):
    """Kernel and bias, and scale and bias of a BatchNorm."""
    return size * size * fan_in * fan_out + fan_out + (2 * fan_out if norm else 0)


def vgg_segnet(convolutions):
    widths = [
        w for w, k in zip((64, 128, 256, 512, 512), convolutions, strict=True) for _ in range(k)
    ]
    edges = list(zip([3, *widths], widths, strict=False))
    # The decoder has every convolution the other way round, but for the first, which gives two
    # logits instead.
    return (
        sum(conv(a, b) for a, b in edges)
        + sum(conv(b, a) for a, b in edges[1:])
        + conv(64, 2, norm=False)
    )


def plain_segnet(depth, width):
    return conv(3, width) + (2 * depth - 1) * conv(width, width) * 2 + conv(width, 2, norm=False)


def u_segnet():
    encoder = (
        conv(3, 64)
        + conv(64, 64)
        + conv(64, 128)
        + conv(128, 128)
        + conv(128, 256)
        + 2 * conv(256, 256)
    )
    decoder = 2 * conv(256, 256) + conv(256, 128) + conv(128, 128) + conv(128, 64)
    return encoder + decoder + conv(128, 64, 1) + conv(64, 64) + conv(64, 2, 1, norm=False)


def u_net(depth, width, norm):
    total = 0
    features = 3
    for _ in range(depth + 1):  # encoder and bridge
        before = features
        features = width if features == 3 else 2 * features
        total += conv(before, features, norm=norm) + conv(features, features, norm=norm)
    for _ in range(depth):
        total += conv(features, features // 2, 2, norm=False)  # transposed
        features //= 2
        total += conv(2 * features, features, norm=norm) + conv(features, features, norm=norm)
    return total + conv(width, 2, 1, norm=False)


def bare(fan_in, fan_out, size=3):
    """Kernel without bias, and scale and bias of a BatchNorm."""
    return size * size * fan_in * fan_out + 2 * fan_out


def deeplab_v3(encoder, width, decoder, first=None):
    aspp = 2 * bare(width, 256, 1) + 3 * bare(width, 256) + bare(5 * 256, 256, 1)
    extra = bare(first or width // 8, 48, 1) + bare(256 + 48, 256) if decoder else 0
    return encoder + aspp + extra + bare(256, 256) + 256 * 2 + 2


# Of the classifiers, less their last layer.
RESNET18 = 11_689_512 - 513 * 1000
RESNET50 = 25_557_032 - 2049 * 1000
LITE0 = 4_652_008 - 1281 * 1000 - bare(320, 1280, 1)  # and less the convolution before


def unet_backbone(encoder, *maps):
    total = encoder
    before = maps[0]
    for finer, width in zip((*maps[1:], 0), (256, 128, 64, 32, 16), strict=True):
        total = total + bare(before + finer, width) + bare(width, width)
        before = width
    return total + conv(16, 2, norm=False)


VGG16_CONVOLUTIONS = 14_714_688  # of vgg16 (138,357,544) less its three dense layers


def fcn(*pools):
    hidden = conv(512, 4096, 7, norm=False) + conv(4096, 4096, 1, norm=False)
    scores = conv(4096, 2, 1, norm=False) + sum(
        conv({4: 512, 3: 256}[p], 2, 1, norm=False) for p in pools
    )
    stride = {0: 32, 1: 16, 2: 8}[len(pools)]
    return (
        VGG16_CONVOLUTIONS
        + hidden
        + scores
        + len(pools) * 4 * 4 * 2 * 2
        + (2 * stride) ** 2 * 2 * 2
    )


DEEPLAB_V1 = (
    VGG16_CONVOLUTIONS
    + conv(512, 1024, norm=False)
    + conv(1024, 1024, 1, norm=False)
    + conv(1024, 2, 1, norm=False)
)


@pytest.mark.parametrize(
    ("name", "options", "by_hand", "number"),
    [
        ("deeplab_v1", {}, DEEPLAB_V1, 20_485_954),
        ("fcn8s", {}, fcn(4, 3), 134_271_430),
        ("fcn16s", {}, fcn(4), 134_273_924),
        ("fcn32s", {}, fcn(), 134_285_122),
        ("fcn_resnet50", {}, RESNET50 + bare(2048, 512) + conv(512, 2, 1, norm=False), 32_947_266),
        ("segnet", {}, vgg_segnet(VGG16), 29_444_162),
        ("vgg16_seg", {}, vgg_segnet(VGG16), 29_444_162),
        ("vgg19_seg", {}, vgg_segnet(VGG19), 40_068_674),
        ("segnet_plain", {}, plain_segnet(4, 64), 521_858),
        ("segnet_plain", {"depth": 2, "width": 32}, plain_segnet(2, 32), 57_410),
        ("u_segnet", {}, u_segnet(), 3_481_602),
        ("unet", {}, u_net(4, 64, False), 31_031_810),
        ("unet", {"batch_norm": True}, u_net(4, 64, True), 31_043_586),
        ("unet", {"depth": 3, "width": 16}, u_net(3, 16, False), 482_050),
        ("unet_backbone", {}, unet_backbone(LITE0, 320, 112, 40, 24, 16), 5_198_306),
        (
            "unet_backbone",
            {"backbone": "resnet18"},
            unet_backbone(RESNET18, 512, 256, 128, 64, 64),
            14_328_354,
        ),
        (
            "unet_backbone",
            {"backbone": "resnet50"},
            unet_backbone(RESNET50, 2048, 1024, 512, 256, 64),
            32_521_250,
        ),
        # as torchvision's deeplabv3_resnet50
        ("deeplab_v3", {}, deeplab_v3(RESNET50, 2048, False), 39_633_986),
        ("deeplab_v3", {"backbone": "resnet18"}, deeplab_v3(RESNET18, 512, False), 15_899_202),
        (
            "deeplab_v3",
            {"backbone": "efficientnet_lite0"},
            deeplab_v3(LITE0, 320, False),
            6_256_130,
        ),
        ("deeplab_v3plus", {}, deeplab_v3(RESNET50, 2048, True), 40_347_298),
        (
            "deeplab_v3plus",
            {"backbone": "efficientnet_lite0"},
            deeplab_v3(LITE0, 320, True, 24),
            6_958_306,
        ),
        ("deeplab_v3plus", {"backbone": "resnet18"}, deeplab_v3(RESNET18, 512, True), 16_603_298),
    ],
)
def test_parameters_counted_by_hand(name, options, by_hand, number):
    assert parameters(name, **options) == by_hand == number


EVERY = [(name, {}) for name in list_models("segmentation")]
EVERY += [
    ("deeplab_v3", {"backbone": "resnet18"}),
    ("deeplab_v3plus", {"backbone": "efficientnet_lite0"}),
]
EVERY += [("unet_backbone", {"backbone": "resnet18"})]


@pytest.mark.parametrize(
    ("name", "options"), EVERY, ids=[" ".join([name, *o.values()]) for name, o in EVERY]
)
def test_any_size(name, options):
    model = create_model(name, num_classes=3, **options)
    keys = {"params": jax.random.PRNGKey(0), "dropout": jax.random.PRNGKey(1)}
    for size in (
        (9, 2) if name.startswith(("deeplab", "fcn", "unet_backbone")) else (304, 304),
        (37, 45),
    ):
        make = partial(model.init_with_output, train=size == (37, 45))
        logits, _ = jax.eval_shape(make, keys, jax.ShapeDtypeStruct((2, *size, 1), jnp.float32))
        assert logits.shape == (2, *size, 3) and logits.dtype == jnp.float32


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_step_of_training_is_the_same_with_remat_and_lowers_the_loss(name, seeded):
    options = SMALL[name]
    variables = seeded[0](create_model(name, **options), 3)
    x = seeded[1](2, 21, 26, 3) / 50
    truth = jax.nn.one_hot(np.random.default_rng(0).integers(0, 2, x.shape[:3]), 2)

    def step(params, model):
        def loss(params):
            both = {**variables, "params": params}
            rngs = {"dropout": jax.random.PRNGKey(1)}
            logits, updated = model.apply(both, x, train=True, mutable=["batch_stats"], rngs=rngs)
            return -(jax.nn.log_softmax(logits) * truth).sum(-1).mean(), updated

        (value, updated), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        moved = jax.tree.map(lambda p, g: p - 1e-3 * g, params, gradient)
        return value, gradient, updated, loss(moved)[0]

    outcome = [
        jax.jit(step, static_argnums=1)(
            variables["params"], create_model(name, remat=remat, **options)
        )
        for remat in (False, True)
    ]
    chex.assert_trees_all_close(*outcome, rtol=1e-3, atol=1e-4)
    before, gradient, _, after = outcome[0]
    assert np.isfinite(before) and after < before
    assert all(
        np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient)
    )


@pytest.mark.parametrize("name", sorted(SMALL))
def test_bfloat16_computes_low_and_returns_float32(name, seeded):
    x = seeded[1](2, 37, 45, 3) / 50
    low, high = (
        create_model(name, dtype=dtype, **SMALL[name]) for dtype in ("bfloat16", "float32")
    )
    variables = seeded[0](low, 3)
    got = jax.jit(low.apply)(variables, x)
    want = jax.jit(high.apply)(variables, x)
    assert got.dtype == jnp.float32
    assert 0 < jnp.abs(got - want).mean() / jnp.abs(want).mean() < 0.1


@pytest.mark.parametrize("unpooling", ["indices", "bilinear", "haar"])
def test_other_unpoolings_of_u_net_follow_a_convolution_that_halves(unpooling):
    pooling = {"indices": "max", "bilinear": "avg", "haar": "haar"}[unpooling]
    options = {"depth": 2, "width": 4, "encoder_pooling": pooling, "decoder_unpooling": unpooling}
    by_hand = u_net(2, 4, False) - conv(16, 8, 2, norm=False) - conv(8, 4, 2, norm=False)
    assert parameters("unet", **options) == by_hand + conv(16, 8, 1, norm=False) + conv(
        8, 4, 1, norm=False
    )


def test_options_are_those_of_the_network():
    assert "depth" not in model_options("segnet") and model_options("segnet_plain")["depth"] == 4
    with pytest.raises(
        InputError,
        match="option of model unet: 'features' is unknown, use one of batch_norm, .*width",
    ):
        create_model("unet", features=8)
    with pytest.raises(InputError, match="option of model vgg16_seg: 'depth' is unknown"):
        create_model("vgg16_seg", depth=19)
    with pytest.raises(InputError, match="segnet_plain: width=0, give a whole number, 1 or more"):
        create_model("segnet_plain", width=0)
    with pytest.raises(InputError, match="does not fit encoder_pooling 'avg'"):
        create_model("u_segnet", encoder_pooling="avg")
    with pytest.raises(InputError, match="model: 'unett' is unknown, .*did you mean 'unet'"):
        model_options("unett")


@pytest.mark.parametrize(
    ("name", "smallest"), [("segnet", 32), ("segnet_plain", 16), ("u_segnet", 8), ("unet", 16)]
)
def test_an_image_smaller_than_the_poolings_take_is_refused(name, smallest):
    shapes(name, (smallest, smallest))
    with pytest.raises(
        InputError,
        match=f"model {name}: an input of {smallest - 1}x40 is too small, use {smallest}",
    ):
        shapes(name, (smallest - 1, 40))


@pytest.mark.slow
def test_a_step_of_training_lowers_the_loss_of_fcn(seeded):
    model = create_model("fcn8s", hidden=16)
    variables = seeded[0](model, 3)
    x = seeded[1](2, 37, 45, 3) / 50
    truth = jax.nn.one_hot(np.random.default_rng(0).integers(0, 2, x.shape[:3]), 2)

    def loss(params):
        rngs = {"dropout": jax.random.PRNGKey(1)}
        logits, _ = model.apply(
            {**variables, "params": params}, x, train=True, mutable=["batch_stats"], rngs=rngs
        )
        return -(jax.nn.log_softmax(logits) * truth).sum(-1).mean()

    step = jax.jit(jax.value_and_grad(loss))
    before, gradient = step(variables["params"])
    after, _ = step(jax.tree.map(lambda p, g: p - 1e-3 * g, variables["params"], gradient))
    assert np.isfinite(before) and after < before
    assert all(
        np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient)
    )


def test_options_of_deeplab_v3():
    with pytest.raises(InputError, match="backbone: 'resnet34' is unknown, .*did you mean 'resnet"):
        create_model("deeplab_v3", backbone="resnet34")
    with pytest.raises(InputError, match="output_stride: 4 must be 8 or 16"):
        create_model("deeplab_v3plus", output_stride=4)
    with pytest.raises(InputError, match="option of model deeplab_v3: 'decoder' is unknown"):
        create_model("deeplab_v3", decoder=True)


@pytest.mark.parametrize(("factor", "size"), [(2, (5, 8)), (32, (37, 90))])
def test_enlargement_of_fcn_is_a_transposed_convolution_that_begins_bilinear(factor, size):
    rng = np.random.default_rng(0)
    layer = Enlarge(factor)
    whole = (3 * factor, 4 * factor)
    x = rng.standard_normal((2, 3, 4, 2)).astype(np.float32)
    got, variables = jax.jit(lambda x: layer.init_with_output(jax.random.PRNGKey(0), x, whole))(x)
    inside = np.s_[:, factor:-factor, factor:-factor]  # interpolates where no border is near
    want = jax.image.resize(x, (2, *whole, 2), "bilinear")
    np.testing.assert_allclose(got[inside], want[inside], atol=1e-5)
    kernel = rng.standard_normal(variables["params"]["kernel"].shape).astype(np.float32)
    around = ((2 * factor - 1 - factor // 2,) * 2,) * 2
    want = jax.lax.conv_transpose(
        x, kernel[::-1, ::-1], (factor, factor), around, precision="highest"
    )
    got = jax.jit(lambda kernel: layer.apply({"params": {"kernel": kernel}}, x, size))(kernel)
    np.testing.assert_allclose(got, want[:, : size[0], : size[1]], atol=1e-4)
