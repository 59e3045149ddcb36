"""DenseNet-201, as in torchvision.

Source: "Densely Connected Convolutional Networks", arXiv:1608.06993.
"""

from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.models.reference import IMAGENET, torch_key
from covjax.nn.layers import BatchNorm, Conv, ConvBN, Dtype, expose, glorot, he, require_side
from covjax.ops.pool import pool2d
from covjax.ops.windows import max_pool

LAYERS = (6, 12, 48, 32)  # per block
GROWTH = 32  # channels that a layer adds


class DenseLayer(nn.Module):
    """BN-ReLU-conv1x1-BN-ReLU-conv3x3 of all maps of the block so far, a tuple, side by side."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, maps: tuple[jax.Array, ...], train: bool) -> jax.Array:
        conv = partial(Conv, use_bias=False, kernel_init=he, dtype=self.dtype)
        norm = partial(BatchNorm, "relu")
        x = norm(name="norm1")(jnp.concatenate(maps, -1), train=train)
        x = norm(name="norm2")(conv(4 * GROWTH, 1, name="conv1")(x), train=train)
        return conv(GROWTH, name="conv2")(x)


class DenseNet(nn.Module):
    """Classifies [N, H, W, C], sides of 29 and more, into logits [N, num_classes].

    20,013,928 parameters at 3 channels and 1000 classes. The last feature map [N, h, w, 1920] and
    the penultimate features, its mean [N, 1920], are exposed.
    """

    num_classes: int = 2
    dtype: Dtype = jnp.float32
    remat: bool = False
    smallest: ClassVar[int] = 29
    stem: ClassVar[str] = "conv0"
    head: ClassVar[tuple[str, ...]] = ("classifier",)
    pretrained_input: ClassVar = IMAGENET

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        require_side(self, x)
        common = {"dtype": self.dtype}
        layer_class = nn.remat(DenseLayer, static_argnums=(2,)) if self.remat else DenseLayer
        x = max_pool(ConvBN(64, 7, 2, name="conv0", **common)(x, train=train), 3, 2, 1)
        for block, layers in enumerate(LAYERS, 1):
            if block > 1:  # transition: half the channels, half the side
                x = BatchNorm("relu", name=f"transition{block - 1}_norm")(x, train=train)
                shrink = partial(
                    Conv, x.shape[-1] // 2, 1, use_bias=False, kernel_init=he, dtype=self.dtype
                )
                x = pool2d(shrink(name=f"transition{block - 1}_conv")(x), "avg")[0]
            maps = (x,)
            for layer in range(1, layers + 1):
                maps += (
                    layer_class(name=f"denseblock{block}_denselayer{layer}", **common)(maps, train),
                )
            x = jnp.concatenate(maps, -1)
        x = BatchNorm("relu", name="norm5")(x, train=train)
        x = expose(self, "feature_map", x)
        x = expose(self, "features", x.mean((1, 2), dtype=jnp.float32))
        return nn.Dense(self.num_classes, kernel_init=glorot, name="classifier")(x)

    @staticmethod
    def reference_key(path: tuple[str, ...]) -> str:
        """Name in torchvision's state dict of the variable at `path`."""
        *modules, leaf = path
        if modules[0] == "classifier":
            return torch_key(*modules, leaf=leaf)
        if modules[0] == "conv0":
            modules = ["conv0" if modules[1] == "conv" else "norm0"]
        return torch_key(
            "features", *(part for name in modules for part in name.split("_")), leaf=leaf
        )
