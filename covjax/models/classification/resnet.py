"""ResNet with 18 or 50 layers, as in torchvision.

Source: "Deep Residual Learning for Image Recognition", arXiv:1512.03385; the stride of a bottleneck
lies in its 3x3 convolution, as in torchvision ("ResNet v1.5").
"""

from typing import ClassVar

import jax
from flax import linen as nn

from covjax.models.reference import IMAGENET, PublishedClassifier, torch_key
from covjax.nn.network import Network, NetworkPart
from covjax.ops.windows import max_pool

DEPTHS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}  # units per stage


class ResidualUnit(NetworkPart):
    """conv3x3 twice, or 1x1-3x3-1x1 if a bottleneck, and a shortcut, projected for a new shape."""

    features: int  # of the 3x3 convolutions
    bottleneck: bool
    stride: int
    dilation: int  # of the 3x3 convolutions

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        width = self.features
        move = (3, self.stride, self.dilation)
        if self.bottleneck:
            y = self.conv_bn(x, width, 1, name="conv1", train=train)
            y = self.conv_bn(y, width, *move, name="conv2", train=train)
            y = self.conv_bn(y, 4 * width, 1, name="conv3", train=train, activation=None)
        else:
            y = self.conv_bn(x, width, *move, name="conv1", train=train)
            y = self.conv_bn(
                y, width, 3, 1, self.dilation, name="conv2", train=train, activation=None
            )
        if x.shape != y.shape:
            x = self.conv_bn(
                x, y.shape[-1], 1, self.stride, name="downsample", train=train, activation=None
            )
        return nn.relu(x + y)


class ResNet(PublishedClassifier):
    """Classifies [N, H, W, C] of any size into logits [N, num_classes].

    Parameters at 3 channels and 1000 classes: 11,689,512 with depth 18, 25,557,032 with depth 50.
    The last feature map and the penultimate features, its mean [N, 512 or 2048], are exposed.
    """

    depth: int = 50
    stem: ClassVar[str] = "conv1"
    pretrained_input = IMAGENET

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        return self.classify(feature_maps(self, x, depth=self.depth, train=train)[-1])

    @staticmethod
    def reference_key(path: tuple[str, ...]) -> str:
        """Name in torchvision's state dict of the variable at `path`."""
        *modules, leaf = path
        if modules[-1] in ("conv", "bn"):
            block, kind = modules[-2:]
            at_place = {"conv": "downsample_0", "bn": "downsample_1"}[kind]
            # conv2/bn is bn2
            modules[-2:] = [at_place if block == "downsample" else block.replace("conv", kind)]
        return torch_key((*modules, leaf))


def feature_maps(
    net: Network, x: jax.Array, *, depth: int, train: bool, output_stride: int = 32
) -> list[jax.Array]:
    """Returns maps at 1/2 of the side (the stem), 1/4, .., 1/32, not below 1/`output_stride`.

    Where a stage would be smaller, its units are dilated instead of strided, as in torchvision.
    The layers are named in the scope of `net`.
    """
    x = net.conv_bn(x, 64, 7, 2, name="conv1", train=train)
    maps = [x]
    x = max_pool(x, 3, 2, 1)
    unit = net.unit(ResidualUnit)
    reached = 4
    dilation = 1
    for stage, units in enumerate(DEPTHS[depth]):
        stride = 2 if stage > 0 and reached < output_stride else 1
        reached *= stride
        # The first unit still sees pixels as close as those of the stage before.
        later = dilation * 2 if stage > 0 and stride == 1 else dilation
        dilations = [dilation, *[later] * (units - 1)]
        for k, dilation in enumerate(dilations):
            form = (64 * 2**stage, depth >= 50, stride if k == 0 else 1, dilation)
            x = unit(net.dtype, *form, name=f"layer{stage + 1}_{k}")(x, train)
        maps.append(x)
    return maps
