"""Grad-CAM against a hand-written computation and finite differences; the most confident calls are
chosen.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from covjax.errors import InputError
from covjax.evaluation.explain import grad_cam, most_confident
from covjax.models import create_model
from covjax.nn.layers import expose
from covjax.preprocess.enhance import PRESETS
from tests.evaluation.linear import ConvClassifier, LinearClassifier, stage

SIZE = (13, 18)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, *SIZE)).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    model = ConvClassifier()
    variables = model.init(jax.random.PRNGKey(1), jnp.zeros((1, *SIZE, 1)))
    assert variables.keys() == {"params"}
    return stage(model, SIZE), variables


def maps_of(variables):
    """The feature maps [N, h, w, 4], by numpy: a 3x3 convolution of stride 2, padded as "SAME"
    pads.
    """
    kernel, bias = (
        np.asarray(variables["params"]["conv"][k], np.float64) for k in ("kernel", "bias")
    )
    x = (IMAGES.astype(np.float64) - 100) / 100
    h, w = (-(-side // 2) for side in SIZE)
    pad = [(0, 0)]
    for side, out in zip(SIZE, (h, w), strict=True):
        total = max((out - 1) * 2 + 3 - side, 0)
        pad.append((total // 2, total - total // 2))
    x = np.pad(x, pad)
    maps = bias + sum(x[:, i : i + 2 * h - 1 : 2, j : j + 2 * w - 1 : 2, None] * kernel[i, j]
                      for i in range(3) for j in range(3))  # fmt: skip
    return np.maximum(maps, 0)


def head(variables, maps, cls):
    dense = variables["params"]["dense"]
    x = np.concatenate([maps.max((1, 2)), maps.mean((1, 2))], -1)
    return x @ np.asarray(dense["kernel"], np.float64)[:, cls] + float(dense["bias"][cls])


def finite_differences(variables, maps, cls, epsilon=1e-6):
    gradient = np.zeros_like(maps)
    for place in np.ndindex(maps.shape[1:]):
        for sign in (1, -1):
            moved = maps.copy()
            moved[(slice(None), *place)] += sign * epsilon
            gradient[(slice(None), *place)] += sign * head(variables, moved, cls) / (2 * epsilon)
    return gradient


@pytest.mark.parametrize("cls", [0, 1])
def test_equals_the_computation_by_hand_with_finite_differences(network, cls):
    tiny, variables = network
    maps = maps_of(variables)
    logits = tiny.logits(variables, IMAGES, train=False)
    # the maps by hand are right
    np.testing.assert_allclose(logits[:, cls], head(variables, maps, cls), atol=1e-5)
    gradient = finite_differences(variables, maps, cls)
    heat = np.maximum((gradient.mean((1, 2), keepdims=True) * maps).sum(-1), 0)
    heat = np.asarray(jax.image.resize(jnp.asarray(heat, jnp.float32), IMAGES.shape, "bilinear"))
    want = heat / heat.max((1, 2), keepdims=True)
    got = jax.jit(lambda v, x: grad_cam(tiny, v, x, cls))(variables, IMAGES)
    assert got.shape == IMAGES.shape and got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, atol=1e-4)
    np.testing.assert_allclose(got.max((1, 2)), 1, atol=1e-6)
    assert got.min() >= 0 and len(np.unique(got)) > 50
    alone = [grad_cam(tiny, variables, IMAGES[k : k + 1], cls)[0] for k in range(3)]
    np.testing.assert_allclose(alone, got, atol=1e-5)


class Brightness(nn.Module):
    """What is bright speaks for infection, wherever it is; the feature map is as large as the
    input.
    """

    @nn.compact
    def __call__(self, x, *, train=False):
        seen = expose(self, "feature_map", nn.relu(x / 100)).mean((1, 2, 3))
        return jnp.stack([jnp.zeros_like(seen), seen], -1)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("shape", "size"), [((96, 96), (40, 40)), ((129, 87), (48, 40))], ids=str)
def test_heat_lies_where_the_network_looked(preset, shape, size):
    """Over the slice, whatever part of the band beyond its border the enhancement shows the
    network.
    """
    tiny = stage(Brightness(), size, "classifier", enhance=preset, slice_size=shape)
    centres = np.array([[0.3, 0.4], [0.6, 0.3], [0.5, 0.7]]) * shape
    down, right = np.indices(shape)
    images = np.stack(
        [200.0 * (np.hypot(down - y, right - x) < 0.12 * min(shape)) for y, x in centres]
    )
    heat = np.asarray(grad_cam(tiny, {}, images.astype(np.float32)), np.float64)
    middles = [(heat * place).sum((1, 2)) / heat.sum((1, 2)) for place in (down, right)]
    assert np.abs(np.stack(middles, 1) - centres).max() < 1


def test_nothing_that_speaks_for_the_class_is_no_heat(network):
    tiny, variables = network
    blind = jax.tree.map(jnp.zeros_like, variables)
    np.testing.assert_array_equal(grad_cam(tiny, blind, IMAGES), 0)


def test_every_classifier_of_the_library_can_be_explained():
    tiny = stage(create_model("cov_ctnet"), (48, 40))
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 40)).astype(np.float32)
    variables = jax.jit(tiny.model.init)(jax.random.PRNGKey(0), jnp.zeros((1, 48, 40, 1)))
    assert variables.keys() == {"params", "batch_stats"}
    heat = jax.jit(lambda v, x: grad_cam(tiny, v, x))(variables, images)
    assert heat.shape == images.shape and ((heat >= 0) & (heat <= 1)).all() and heat.max() == 1


def test_a_network_without_feature_map():
    with pytest.raises(InputError, match="model tiny: exposes no feature_map"):
        grad_cam(stage(LinearClassifier(), SIZE), {}, IMAGES)


def test_most_confident():
    label = np.array([1, 1, 1, 0, 0, 0, 1, 1, 0, 1])
    probability = np.array([0.9, 0.7, 0.8, 0.6, 0.95, 0.2, 0.4, 0.1, 0.3, 0.99])
    chosen = most_confident(label, probability, probability >= 0.5, each=2)
    assert chosen.tolist() == [9, 0, 4, 3, 7, 6, 5, 8]  # tp, fp, fn, tn
    assert most_confident(label, probability, probability >= 0.5, each=3).tolist() == [
        9,
        0,
        2,
        4,
        3,
        7,
        6,
        5,
        8,
    ]
    assert most_confident(np.ones(2), np.array([0.1, 0.2]), np.zeros(2, bool)).tolist() == [0, 1]
