"""What a stage adds to its network: the loss of auxiliary heads, and the statistics of its training
split.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from covjax.nn.layers import expose
from covjax.preprocess.network_input import network_input
from tests.evaluation.linear import LinearClassifier, LinearSegmenter
from tests.evaluation.linear import stage as tiny_stage

SIZE = (4, 4)


class TwoHeads(nn.Module):
    """Logits of the mean pixel, and those of two auxiliary heads, each of a dense layer of its
    own.
    """

    auxiliary_weight = 0.3

    @nn.compact
    def __call__(self, x, *, train=False):
        mean = x.mean((1, 2)) / 100
        for name in ("first", "second"):
            head = nn.Dense(2, name=name)(mean)
            if train:
                expose(self, "auxiliary", head)
        return nn.Dense(2, name="main")(mean)


@pytest.fixture
def stage():
    return tiny_stage(TwoHeads(), SIZE, "classifier")


def batch():
    images = np.random.default_rng(0).integers(0, 256, (4, *SIZE)).astype(np.float32)
    return {
        "image": images,
        "label": np.array([0, 1, 1, 0]),
        "valid": np.array([True, True, True, False]),
    }


def cross_entropy(params, name):
    x = (batch()["image"] - 100).mean((1, 2))[:, None] / 100
    logits = x @ params[name]["kernel"] + params[name]["bias"]
    return (
        optax.softmax_cross_entropy_with_integer_labels(logits, batch()["label"]) * batch()["valid"]
    )


def test_auxiliary_heads_add_their_share_of_the_loss_in_training_only(stage):
    variables = jax.jit(stage.model.init)(jax.random.PRNGKey(0), jnp.zeros((1, *SIZE, 1)))
    main, first, second = (
        cross_entropy(variables["params"], name) for name in ("main", "first", "second")
    )
    sums, weights, _ = stage.training_loss(variables, batch(), jax.random.PRNGKey(0))
    np.testing.assert_allclose(sums, main + 0.3 * (first + second), rtol=1e-5)
    np.testing.assert_array_equal(weights, [1, 1, 1, 0])
    sums, _ = stage.loss(stage.outputs(variables, batch()["image"])["logits"], batch())
    np.testing.assert_allclose(sums, main, rtol=1e-5)


def test_auxiliary_heads_learn(stage):
    variables = jax.jit(stage.model.init)(jax.random.PRNGKey(0), jnp.zeros((1, *SIZE, 1)))
    gradients = jax.grad(lambda v: stage.training_loss(v, batch(), jax.random.PRNGKey(0))[0].sum())(
        variables
    )
    for name, weight in (("main", 1), ("first", 0.3), ("second", 0.3)):
        got = gradients["params"][name]["kernel"]
        want = jax.grad(lambda p, name=name: cross_entropy(p, name).sum())(variables["params"])[
            name
        ]["kernel"]
        np.testing.assert_allclose(got, weight * want, rtol=1e-4)
        assert np.abs(got).max() > 0


@pytest.mark.parametrize(
    ("model", "aligned"), [(LinearSegmenter(), True), (LinearClassifier(), False)]
)
def test_who_labels_pixels_sees_enhanced_slices_aligned_with_them(model, aligned):
    """In training and in use alike; a classifier sees them as published."""
    made = tiny_stage(model, (12, 10), enhance="db4_82", slice_size=(48, 40))
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 40)).astype(np.float32)
    for given in (True, False):
        x = network_input(images, made.config.input, made.statistics.normalization, given)
        same = np.allclose(made.logits({}, images), model.apply({}, x), atol=1e-3)
        assert same == np.allclose(
            made.outputs({}, images)["logits"], model.apply({}, x), atol=1e-3
        )
        assert same == (given == aligned)
