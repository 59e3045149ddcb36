"""ResNet with 18 or 50 layers, as in torchvision.

Source: "Deep Residual Learning for Image Recognition", arXiv:1512.03385; the stride of a bottleneck
lies in its 3x3 convolution, as in torchvision ("ResNet v1.5").
"""

from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.models.reference import IMAGENET, torch_key
from covjax.nn.layers import ConvBN, Dtype, expose, glorot
from covjax.ops.windows import max_pool

DEPTHS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}  # units per stage


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions, or 1x1-3x3-1x1 if a bottleneck, and a shortcut, projected where the
    shape changes.
    """

    features: int  # of the 3x3 convolutions
    bottleneck: bool
    stride: int = 1
    dilation: int = 1  # of the 3x3 convolutions
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = partial(ConvBN, dtype=self.dtype)
        if self.bottleneck:
            y = conv(self.features, 1, name="conv1")(x, train=train)
            y = conv(self.features, 3, self.stride, self.dilation, name="conv2")(y, train=train)
            y = conv(4 * self.features, 1, activation=None, name="conv3")(y, train=train)
        else:
            y = conv(self.features, 3, self.stride, self.dilation, name="conv1")(x, train=train)
            y = conv(self.features, 3, 1, self.dilation, activation=None, name="conv2")(
                y, train=train
            )
        if x.shape != y.shape:
            x = conv(y.shape[-1], 1, self.stride, activation=None, name="downsample")(
                x, train=train
            )
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Classifies [N, H, W, C] of any size into logits [N, num_classes].

    Parameters at 3 channels and 1000 classes: 11,689,512 with depth 18, 25,557,032 with depth 50.
    The last feature map and the penultimate features, its mean [N, 512 or 2048], are exposed.
    """

    num_classes: int = 2
    depth: int = 50
    dtype: Dtype = jnp.float32
    remat: bool = False
    smallest: ClassVar[int] = 1
    stem: ClassVar[str] = "conv1"
    head: ClassVar[tuple[str, ...]] = ("fc",)
    pretrained_input: ClassVar = IMAGENET

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = expose(self, "feature_map", feature_maps(self, x, depth=self.depth, train=train)[-1])
        x = expose(self, "features", x.mean((1, 2), dtype=jnp.float32))
        return nn.Dense(self.num_classes, kernel_init=glorot, name="fc")(x)

    @staticmethod
    def reference_key(path: tuple[str, ...]) -> str:
        """Name in torchvision's state dict of the variable at `path`."""
        *modules, leaf = path
        if modules[-1] in ("conv", "bn"):
            block, kind = modules[-2:]
            at_place = {"conv": "downsample_0", "bn": "downsample_1"}[kind]
            # conv2/bn is bn2
            modules[-2:] = [at_place if block == "downsample" else block.replace("conv", kind)]
        return torch_key(*modules, leaf=leaf)


def feature_maps(
    net: nn.Module, x: jax.Array, *, depth: int, train: bool, output_stride: int = 32
) -> list[jax.Array]:
    """Returns maps at 1/2 of the side (the stem), 1/4, 1/8, 1/16 and 1/32 (the stages), not below
    1/`output_stride`.

    Where a stage would be smaller, its units are dilated instead of strided, as in torchvision.
    `net` has the fields `dtype` and `remat`; the layers are named in its scope.
    """
    common = {"dtype": net.dtype}
    x = ConvBN(64, 7, 2, name="conv1", **common)(x, train=train)
    maps = [x]
    x = max_pool(x, 3, 2, 1)
    unit = nn.remat(ResidualUnit, static_argnums=(2,)) if net.remat else ResidualUnit
    reached = 4
    dilation = 1
    for stage, units in enumerate(DEPTHS[depth]):
        stride = 2 if stage > 0 and reached < output_stride else 1
        reached *= stride
        # The first unit still sees pixels as close as those of the stage before.
        dilations = [
            dilation,
            *[dilation * 2 if stage > 0 and stride == 1 else dilation] * (units - 1),
        ]
        for k, dilation in enumerate(dilations):
            layer = unit(
                64 * 2**stage,
                depth >= 50,
                stride if k == 0 else 1,
                dilation,
                name=f"layer{stage + 1}_{k}",
                **common,
            )
            x = layer(x, train)
        maps.append(x)
    return maps
