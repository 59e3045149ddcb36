"""ShuffleNet V2, as torchvision defines it.

Source: "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
arXiv:1807.11164.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.models.reference import IMAGENET, torch_key
from covjax.nn.layers import ConvBN, Dtype, channel_shuffle, expose, glorot
from covjax.ops.windows import max_pool

STAGES = ((116, 4), (232, 8), (464, 4))  # channels and units


class Unit(nn.Module):
    """Convolves half of the channels, or in a unit of stride 2 all of them on both paths;
    concatenates; shuffles.
    """

    features: int
    stride: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        common = {"dtype": self.dtype}

        def pointwise(x, name):
            return ConvBN(self.features // 2, 1, name=name, **common)(x, train=train)

        def depthwise(x, name):
            channels = x.shape[-1]
            layer = ConvBN(
                channels, 3, self.stride, groups=channels, activation=None, name=name, **common
            )
            return layer(x, train=train)

        if self.stride == 1:
            kept, x = jnp.split(x, 2, -1)
        else:
            kept = pointwise(depthwise(x, "branch1_0"), "branch1_2")
        x = depthwise(pointwise(x, "branch2_0"), "branch2_3")
        return channel_shuffle(jnp.concatenate([kept, pointwise(x, "branch2_5")], -1), 2)


class ShuffleNetV2(nn.Module):
    """Classifies [N, H, W, C] into logits [N, num_classes]; the 1.0x network of the paper.

    2,278,604 parameters for three channels and 1000 classes. The last feature map [N, h, w, 1024]
    and the penultimate features [N, 1024] are exposed.
    """

    num_classes: int = 2
    dtype: Dtype = jnp.float32
    remat: bool = False

    smallest: ClassVar[int] = 1
    stem: ClassVar[str] = "conv1"
    head: ClassVar[tuple[str, ...]] = ("fc",)
    pretrained_input: ClassVar = IMAGENET

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        common = {"dtype": self.dtype}
        x = max_pool(ConvBN(24, 3, 2, name="conv1", **common)(x, train=train), 3, 2, 1)
        unit_class = nn.remat(Unit, static_argnums=(2,)) if self.remat else Unit
        for stage, (features, units) in enumerate(STAGES, 2):
            for k in range(units):
                x = unit_class(features, 2 if k == 0 else 1, name=f"stage{stage}_{k}", **common)(
                    x, train
                )
        x = expose(self, "feature_map", ConvBN(1024, 1, name="conv5", **common)(x, train=train))
        x = expose(self, "features", x.mean((1, 2), dtype=jnp.float32))
        return nn.Dense(self.num_classes, kernel_init=glorot, name="fc")(x)

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
        return torch_key(*modules, leaf=leaf)
