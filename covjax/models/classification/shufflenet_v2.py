"""ShuffleNet V2, as torchvision defines it.

Source: "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
arXiv:1807.11164.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.models.reference import IMAGENET, PublishedClassifier, torch_key
from covjax.nn.layers import channel_shuffle
from covjax.nn.network import NetworkPart
from covjax.ops.windows import max_pool

STAGES = ((116, 4), (232, 8), (464, 4))  # channels and units


class Unit(NetworkPart):
    """Convolves half of the channels, at stride 2 all on both paths; concatenates; shuffles."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def pointwise(x: jax.Array, name: str) -> jax.Array:
            return self.conv_bn(x, self.features // 2, 1, name=name, train=train)

        def depthwise(x: jax.Array, name: str) -> jax.Array:
            channels = x.shape[-1]
            form = (channels, 3, self.stride)
            return self.conv_bn(x, *form, name=name, train=train, groups=channels, activation=None)

        if self.stride == 1:
            kept, x = jnp.split(x, 2, -1)
        else:
            kept = pointwise(depthwise(x, "branch1_0"), "branch1_2")
        x = depthwise(pointwise(x, "branch2_0"), "branch2_3")
        return channel_shuffle(jnp.concatenate([kept, pointwise(x, "branch2_5")], -1), 2)


class ShuffleNetV2(PublishedClassifier):
    """Classifies [N, H, W, C] into logits [N, num_classes]; the 1.0x network of the paper.

    2,278,604 parameters for three channels and 1000 classes. The last feature map [N, h, w, 1024]
    and the penultimate features [N, 1024] are exposed.
    """

    stem: ClassVar[str] = "conv1"
    pretrained_input = IMAGENET

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = max_pool(self.conv_bn(x, 24, 3, 2, name="conv1", train=train), 3, 2, 1)
        unit_class = self.unit(Unit)
        for stage, (features, units) in enumerate(STAGES, 2):
            for k in range(units):
                stride = 2 if k == 0 else 1
                unit = unit_class(self.dtype, features, stride, name=f"stage{stage}_{k}")
                x = unit(x, train)
        return self.classify(self.conv_bn(x, 1024, 1, name="conv5", train=train))

    @staticmethod
    def reference_key(path: tuple[str, ...]) -> str:
        """Returns the name in torchvision's state dict of the variable at `path`.

        There convolution and BatchNorm are neighbours in a list, whose position ends our name, and
        is else 0.
        """
        *modules, leaf = path
        if modules[-1] in ("conv", "bn"):
            *outer, layer, kind = modules
            name, _, first = layer.partition("_")
            modules = [*outer, f"{name}_{int(first or 0) + (kind == 'bn')}"]
        return torch_key((*modules, leaf))
