"""DenseNet-201, as in torchvision.

Source: "Densely Connected Convolutional Networks", arXiv:1608.06993.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.models.reference import IMAGENET, PublishedClassifier, torch_key
from covjax.nn.layers import BatchNorm, Conv, Dtype, he
from covjax.nn.network import NetworkPart
from covjax.ops.pool import pool2d
from covjax.ops.windows import max_pool

LAYERS = (6, 12, 48, 32)  # per block
GROWTH = 32  # channels that a layer adds


class DenseLayer(NetworkPart):
    """BN-ReLU-conv1x1-BN-ReLU-conv3x3 of all maps of the block so far, a tuple, side by side."""

    @nn.compact
    def __call__(self, maps: tuple[jax.Array, ...], train: bool) -> jax.Array:
        x = BatchNorm("relu", name="norm1")(jnp.concatenate(maps, -1), train=train)
        x = convolution(x, 4 * GROWTH, 1, name="conv1", dtype=self.dtype)
        x = BatchNorm("relu", name="norm2")(x, train=train)
        return convolution(x, GROWTH, 3, name="conv2", dtype=self.dtype)


class DenseNet(PublishedClassifier):
    """Classifies [N, H, W, C], sides of 29 and more, into logits [N, num_classes].

    20,013,928 parameters at 3 channels and 1000 classes. The last feature map [N, h, w, 1920] and
    the penultimate features, its mean [N, 1920], are exposed.
    """

    least_side: ClassVar[int] = 29
    stem: ClassVar[str] = "conv0"
    head = ("classifier",)
    pretrained_input = IMAGENET

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        self.require_side(x)
        layer_class = self.unit(DenseLayer)
        x = max_pool(self.conv_bn(x, 64, 7, 2, name="conv0", train=train), 3, 2, 1)
        for block, layers in enumerate(LAYERS, 1):
            if block > 1:  # transition: half the channels, half the side
                before = f"transition{block - 1}"
                x = BatchNorm("relu", name=f"{before}_norm")(x, train=train)
                half = x.shape[-1] // 2
                x = convolution(x, half, 1, name=f"{before}_conv", dtype=self.dtype)
                x = pool2d(x, "avg")[0]
            maps = (x,)
            for layer in range(1, layers + 1):
                name = f"denseblock{block}_denselayer{layer}"
                maps += (layer_class(self.dtype, name=name)(maps, train),)
            x = jnp.concatenate(maps, -1)
        x = BatchNorm("relu", name="norm5")(x, train=train)
        return self.classify(x, name="classifier")

    @staticmethod
    def reference_key(path: tuple[str, ...]) -> str:
        """Name in torchvision's state dict of the variable at `path`."""
        *modules, leaf = path
        if modules[0] == "classifier":
            return torch_key(path)
        if modules[0] == "conv0":
            modules = ["conv0" if modules[1] == "conv" else "norm0"]
        return torch_key(
            ("features", *(part for name in modules for part in name.split("_")), leaf)
        )


def convolution(
    x: jax.Array, features: int, kernel_size: int, *, name: str, dtype: Dtype
) -> jax.Array:
    """Applies a convolution without bias."""
    layer = Conv(features, kernel_size, use_bias=False, kernel_init=he, dtype=dtype, name=name)
    return layer(x)
