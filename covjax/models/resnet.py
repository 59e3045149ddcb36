"""ResNet with 18 or 50 layers, as in torchvision.

Source: "Deep Residual Learning for Image Recognition", arXiv:1512.03385; the stride of a bottleneck lies in its 3x3
convolution, as in torchvision ("ResNet v1.5").
"""

from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.layers import ConvBN, Dtype, expose, glorot
from covjax.models.reference import IMAGENET, torch_key
from covjax.windows import max_pool

DEPTHS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}  # units per stage


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions, or 1x1-3x3-1x1 if a bottleneck, and a shortcut, projected where the shape changes."""

    features: int  # of the 3x3 convolutions
    bottleneck: bool
    stride: int = 1
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = partial(ConvBN, dtype=self.dtype, axis_name=self.axis_name)
        if self.bottleneck:
            y = conv(self.features, 1, name="conv1")(x, train=train)
            y = conv(self.features, 3, self.stride, name="conv2")(y, train=train)
            y = conv(4 * self.features, 1, activation=None, name="conv3")(y, train=train)
        else:
            y = conv(self.features, 3, self.stride, name="conv1")(x, train=train)
            y = conv(self.features, 3, activation=None, name="conv2")(y, train=train)
        if x.shape != y.shape:
            x = conv(y.shape[-1], 1, self.stride, activation=None, name="downsample")(x, train=train)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Classifies [N, H, W, C] of any size into logits [N, num_classes].

    Parameters at 3 channels and 1000 classes: 11,689,512 with depth 18, 25,557,032 with depth 50. The last feature map
    and the penultimate features, its mean [N, 512 or 2048], are exposed.
    """

    num_classes: int = 2
    depth: int = 50
    dtype: Dtype = jnp.float32
    axis_name: str | None = None
    remat: bool = False
    smallest: ClassVar[int] = 1
    stem: ClassVar[str] = "conv1"
    head: ClassVar[tuple[str, ...]] = ("fc",)
    pretrained_input: ClassVar = IMAGENET

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        common = {"dtype": self.dtype, "axis_name": self.axis_name}
        x = ConvBN(64, 7, 2, name="conv1", **common)(x, train=train)
        x = max_pool(x, 3, 2, 1)
        unit = nn.remat(ResidualUnit, static_argnums=(2,)) if self.remat else ResidualUnit
        for stage, units in enumerate(DEPTHS[self.depth]):
            for k in range(units):
                stride = 2 if stage > 0 and k == 0 else 1
                layer = unit(64 * 2**stage, self.depth >= 50, stride, name=f"layer{stage + 1}_{k}", **common)
                x = layer(x, train)
        x = expose(self, "feature_map", x)
        x = expose(self, "features", x.mean((1, 2), dtype=jnp.float32))
        return nn.Dense(self.num_classes, kernel_init=glorot, name="fc")(x)

    @staticmethod
    def reference_key(path: tuple[str, ...]) -> str:
        """Name in torchvision's state dict of the variable at `path`."""
        *modules, leaf = path
        if modules[-1] in ("conv", "bn"):
            block, kind = modules[-2:]
            at_place = {"conv": "downsample_0", "bn": "downsample_1"}[kind]
            modules[-2:] = [at_place if block == "downsample" else block.replace("conv", kind)]  # conv2/bn is bn2
        return torch_key(*modules, leaf=leaf)
