"""Segmentation networks: parameters counted by hand, odd sizes, a step of training, options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from covjax.errors import InputError
from covjax.models import create_model


def shapes(name, size=(37, 45), **options):
    x = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    return jax.eval_shape(create_model(name, **options).init, jax.random.PRNGKey(0), x)


def parameters(name, **options):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes(name, **options)["params"]))


def bare(fan_in, fan_out, size=3):
    """Kernel without bias, and scale and bias of a BatchNorm."""
    return size * size * fan_in * fan_out + 2 * fan_out


def deeplab_v3(encoder, width, decoder):
    aspp = 2 * bare(width, 256, 1) + 3 * bare(width, 256) + bare(5 * 256, 256, 1)
    extra = bare(width // 8, 48, 1) + bare(256 + 48, 256) if decoder else 0
    return encoder + aspp + extra + bare(256, 256) + 256 * 2 + 2


# Of the classifiers, less their last layer.
RESNET18, RESNET50 = 11_689_512 - 513 * 1000, 25_557_032 - 2049 * 1000


@pytest.mark.parametrize(
    ("name", "options", "by_hand", "number"),
    [
        ("deeplab_v3", {}, deeplab_v3(RESNET50, 2048, False), 39_633_986),  # as torchvision's deeplabv3_resnet50
        ("deeplab_v3", {"backbone": "resnet18"}, deeplab_v3(RESNET18, 512, False), 15_899_202),
        ("deeplab_v3plus", {}, deeplab_v3(RESNET50, 2048, True), 40_347_298),
        ("deeplab_v3plus", {"backbone": "resnet18"}, deeplab_v3(RESNET18, 512, True), 16_603_298),
    ],
)
def test_parameters_counted_by_hand(name, options, by_hand, number):
    assert parameters(name, **options) == by_hand == number


@pytest.mark.parametrize("size", [(304, 304), (37, 45), (9, 2)])
@pytest.mark.parametrize("name", ["deeplab_v3", "deeplab_v3plus"])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_any_size_of_deeplab_v3(name, backbone, size):
    model, x = create_model(name, num_classes=3, backbone=backbone), jax.ShapeDtypeStruct((2, *size, 1), jnp.float32)
    logits, _ = jax.eval_shape(lambda key, x: model.init_with_output(key, x), jax.random.PRNGKey(0), x)
    assert logits.shape == (2, *size, 3) and logits.dtype == jnp.float32


@pytest.mark.slow
def test_a_step_of_training_lowers_the_loss_of_deeplab_v3plus(seeded):
    model = create_model("deeplab_v3plus", backbone="resnet18", remat=True)
    variables, x = seeded[0](model, 3), seeded[1](2, 37, 45, 3) / 50
    truth = jax.nn.one_hot(np.random.default_rng(0).integers(0, 2, x.shape[:3]), 2)

    def loss(params):
        rngs = {"dropout": jax.random.PRNGKey(1)}
        logits, _ = model.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"], rngs=rngs)
        return -(jax.nn.log_softmax(logits) * truth).sum(-1).mean()

    step = jax.jit(jax.value_and_grad(loss))
    before, gradient = step(variables["params"])
    after, _ = step(jax.tree.map(lambda p, g: p - 1e-3 * g, variables["params"], gradient))
    assert np.isfinite(before) and after < before
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))


def test_options_of_deeplab_v3():
    with pytest.raises(InputError, match="backbone: 'resnet34' is unknown, .*did you mean 'resnet"):
        create_model("deeplab_v3", backbone="resnet34")
    with pytest.raises(InputError, match="output_stride: 4 must be 8 or 16"):
        create_model("deeplab_v3plus", output_stride=4)
    with pytest.raises(InputError, match="option of model deeplab_v3: 'decoder' is unknown"):
        create_model("deeplab_v3", decoder=True)
