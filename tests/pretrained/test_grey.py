"""One grey channel in place of three equal colours, each normalised by ImageNet's own mean and
deviation.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from covjax.errors import InputError
from covjax.models import create_model, published
from covjax.models.reference import IMAGENET
from covjax.preprocess.network_input import (
    network_channels,
    network_input,
    pretrained_normalization,
)
from covjax.preprocess.settings import InputSettings
from covjax.pretrained import load_pretrained
from covjax.pretrained.convert import match_state, name_of, reference_shapes
from covjax.pretrained.misfit import outline
from tests.pretrained.test_load import SHAPES, SIDE, Small, state_of

# stems of 3 and 7 pixels, padded alike, with and without BatchNorm, in a classifier and in an
# encoder
NETWORKS = {
    "resnet18": {},
    "shufflenet_v2_x1_0": {},
    "xception": {},
    "unet_backbone": {"backbone": "resnet18"},
}


def settings(channels, size):
    return InputSettings(
        size=size,
        slice_size=size,
        channels=channels,
        enhance="none",
        gain="unit",
        normalize="pretrained",
    )


def seen(model, slices, channels):
    """What the network sees of slices [N, H, W] in 0..255."""
    mean, std, _ = published(model).pretrained_input
    config = settings(channels, slices.shape[1:])
    found = network_input(
        jnp.asarray(slices), config, pretrained_normalization(mean, std, channels)
    )
    assert found.shape[-1] == network_channels(config) == (2 if channels == 1 else 3)
    return found


def after_the_first_layer(model, slices, channels, state):
    """The output of the first convolution, all its borders included."""
    x = seen(model, slices, channels)
    reference = published(model)
    place = getattr(model, "encoder_path", lambda path: path)
    shapes = jax.eval_shape(model.init, jax.random.PRNGKey(0), x)
    fresh = {
        kind: jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes[kind]) for kind in shapes
    }
    names = reference_shapes(*outline(name_of(reference)))
    variables, match = match_state(model, state, fresh, constant=channels == 1, known=names)
    assert match.fits and len(match.summed) == (channels == 1)

    def first(module, _):
        return (
            bool(module.path)
            and "kernel" in module.variables.get("params", {})
            and is_stem(module.path)
        )

    def is_stem(path):
        there = place((*path, "kernel"))
        return there is not None and there[0] == reference.stem

    @jax.jit
    def run(variables):
        _, kept = model.apply(
            variables, x, train=False, capture_intermediates=first, mutable=["intermediates"]
        )
        return jax.tree.leaves(kept["intermediates"])

    return np.concatenate([np.ravel(leaf) for leaf in run(variables)])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_grey_slice_gives_what_three_equal_channels_give(name):
    model = create_model(name, **NETWORKS[name])
    slices = np.random.default_rng(0).integers(0, 256, (1, 80, 84)).astype(np.uint8)
    shapes = reference_shapes(*outline(name_of(published(model))))
    rng = np.random.default_rng(1)  # of the first convolution alone, what follows is not looked at
    state = {
        key: rng.standard_normal(shape).astype(np.float32) / 10
        if shape[1:2] == (3,)
        else np.zeros(shape, np.float32)
        for key, shape in shapes.items()
    }
    three, one = (after_the_first_layer(model, slices, channels, state) for channels in (3, 1))
    assert three.size and np.abs(three).max() > 1e-3
    np.testing.assert_allclose(one, three, atol=1e-5 * max(1, np.abs(three).max()))


def test_logits_of_a_whole_network_from_a_file(tmp_path):
    safetensors.numpy.save_file(state_of(SHAPES), tmp_path / "w.safetensors")
    slices = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE)).astype(np.uint8)
    slices[0] = 0  # what padding of a slice holds
    found = {}
    for channels in (3, 1):
        x = seen(Small(), slices, channels)
        shapes = jax.eval_shape(Small().init, jax.random.PRNGKey(0), x)
        fresh = jax.tree.map(lambda s: np.ones(s.shape, s.dtype), shapes)
        variables, record = load_pretrained(
            Small(), fresh, tmp_path / "w.safetensors", constant=channels == 1
        )
        assert record["summed"] == (["conv1.weight"] if channels == 1 else [])
        found[channels] = Small().apply(variables, x)
    scale = np.abs(found[3]).max()
    np.testing.assert_allclose(found[1] / scale, found[3] / scale, atol=1e-5)


def test_without_the_constant_no_grey_kernels_can_do_that():
    """Why there is one: inside, one number per feature is missing, at the border another."""
    mean, std = (255 * np.array(values) for values in IMAGENET[:2])
    grey = np.full((6, 6), 100.0)
    kernels = np.random.default_rng(2).normal(size=(3, 3, 3))  # of colour, rows, columns

    def convolved(image, kernel):
        padded = np.pad(image, 1)
        return sum(kernel[i, j] * padded[i : i + 6, j : j + 6] for i in range(3) for j in range(3))

    want = sum(
        convolved((grey - m) / s, kernel) for m, s, kernel in zip(mean, std, kernels, strict=True)
    )
    folded = np.einsum("chw,c->hw", kernels, std.mean() / std)
    missing = want - convolved((grey - mean.mean()) / std.mean(), folded)
    assert np.ptp(missing[1:-1, 1:-1]) < 1e-9 and np.ptp(missing) > 1e-3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("resnet18", {}, "w.pth"), "^model: 'resnet18', give a network"),
        ((Small(), None, "w.pth"), "^variables: "),
        ((Small(), {"batch_stats": {}}, "w.pth"), "^variables: "),
        ((Small(), {"params": {}}, None), "^source: None, give the path"),
        ((Small(), {"params": {}}, "absent.pth"), "^absent.pth: "),
    ],
)
def test_what_are_no_arguments(arguments, says):
    with pytest.raises(InputError, match=says):
        load_pretrained(*arguments)


@pytest.mark.parametrize(
    "options", [{"skip": "fc.*"}, {"skip": [1]}, {"first": "sums"}, {"first": None}]
)
def test_what_are_no_options(options):
    with pytest.raises(InputError, match=f"^{next(iter(options))}: "):
        load_pretrained(Small(), {"params": {}}, "w.pth", **options)
