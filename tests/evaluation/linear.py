"""Tiny networks whose outputs can be computed by hand, put into stages."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from covjax.nn.layers import expose
from covjax.preprocess.network_input import Normalization
from covjax.preprocess.settings import InputSettings
from covjax.stages import task_of
from covjax.stages.settings import ModelSettings
from covjax.stages.stage import Stage, Statistics

KERNEL = np.array([[0.3, -0.2, 0.5], [0.1, 0.9, -0.4], [-0.6, 0.2, 0.7]], np.float32) / 100


class LinearClassifier(nn.Module):
    """Infected logit = mean of the pixels, each weighted by its place, so that mirrored slices
    differ.
    """

    @nn.compact
    def __call__(self, x, *, train=False):
        _, h, w, _ = x.shape
        weight = jnp.linspace(-1, 2, h)[:, None] * jnp.linspace(0, 1, w) / 50
        z = (x[..., 0] * weight).mean((1, 2))
        expose(self, "features", jnp.stack([z, 2 * z, 3 * z], -1))
        return jnp.stack([jnp.zeros_like(z), z], -1)


class LinearSegmenter(nn.Module):
    """Infected logit = correlation with KERNEL, zeros beyond the border."""

    @nn.compact
    def __call__(self, x, *, train=False):
        h, w = x.shape[1:3]
        x = jnp.pad(x[..., 0], ((0, 0), (1, 1), (1, 1)))
        z = sum(KERNEL[i, j] * x[:, i : i + h, j : j + w] for i in range(3) for j in range(3))
        return jnp.stack([jnp.zeros_like(z), z], -1)


class ConvClassifier(nn.Module):
    """One strided convolution whose ReLU is the feature map, a maximum and a mean over it, and a
    dense layer.
    """

    @nn.compact
    def __call__(self, x, *, train=False):
        x = expose(
            self, "feature_map", nn.relu(nn.Conv(4, (3, 3), strides=2, name="conv")(x / 100))
        )
        x = jnp.concatenate([x.max((1, 2)), x.mean((1, 2))], -1)
        return nn.Dense(2, name="dense")(expose(self, "features", x))


def stage(model, size, name=None, **fields):
    """A stage around a network for slices of `size`, brightness centred at 100.

    `fields` replace some of its input's.
    """
    name = name or ("segmenter" if isinstance(model, LinearSegmenter) else "classifier")
    values = {"size": size, "slice_size": size, "gain": "unit", "normalize": "zero_center"}
    config = replace(
        task_of(name).settings(),
        model=ModelSettings("tiny"),
        input=InputSettings(**values | fields),
    )
    statistics = Statistics(
        Normalization(np.full(1, 100, np.float32), np.ones(1)), np.ones(2), np.ones(2)
    )
    return Stage(name, config, task_of(name), model, statistics)
