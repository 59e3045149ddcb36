"""GoogLeNet (Inception-v1) with BatchNorm, as torchvision defines it.

Source: "Going Deeper with Convolutions", arXiv:1409.4842; BatchNorm in place of local response
normalisation as in arXiv:1502.03167.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.models.reference import INCEPTION, PublishedClassifier
from covjax.nn.layers import Dropout, expose, glorot
from covjax.nn.network import ConvOptions, NetworkPart
from covjax.ops.windows import adaptive_average_pool, max_pool

EPSILON: ConvOptions = {"epsilon": 1e-3}  # of BatchNorm
# Channels of a module: 1x1; 1x1 and 3x3; 1x1 and the second 3x3; 1x1 after the max-pool.
MODULES = {
    "inception3a": (64, (96, 128), (16, 32), 32),
    "inception3b": (128, (128, 192), (32, 96), 64),
    "inception4a": (192, (96, 208), (16, 48), 64),
    "inception4b": (160, (112, 224), (24, 64), 64),
    "inception4c": (128, (128, 256), (24, 64), 64),
    "inception4d": (112, (144, 288), (32, 64), 64),
    "inception4e": (256, (160, 320), (32, 128), 128),
    "inception5a": (256, (160, 320), (32, 128), 128),
    "inception5b": (384, (192, 384), (48, 128), 128),
}
POOLED_AFTER = {"inception3b": 3, "inception4e": 2}  # the window; every stride is 2
AUXILIARY_AFTER = {"inception4a": "aux1", "inception4d": "aux2"}


class Inception(NetworkPart):
    """Four branches side by side: 1x1, 1x1-3x3, 1x1-3x3, max-pool-1x1; each with BN and ReLU."""

    name_of_channels: str

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def conv(x: jax.Array, features: int, kernel_size: int, name: str) -> jax.Array:
            return self.conv_bn(x, features, kernel_size, name=name, train=train, **EPSILON)

        direct, wide, wider, pooled = MODULES[self.name_of_channels]
        branches = [conv(x, direct, 1, "branch1")]
        for k, (reduced, features) in ((2, wide), (3, wider)):
            branches.append(conv(conv(x, reduced, 1, f"branch{k}_0"), features, 3, f"branch{k}_1"))
        branches.append(conv(max_pool(x, 3, 1, 1), pooled, 1, "branch4_1"))
        return jnp.concatenate(branches, -1)


class AuxiliaryHead(NetworkPart):
    """Average to 4x4, conv1x1-BN-ReLU, two dense layers with dropout .7 -> logits [N, K]."""

    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = adaptive_average_pool(x, (4, 4))
        x = self.conv_bn(x, 128, 1, name="conv", train=train, **EPSILON)
        # channel by channel, the order of published weights
        x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(1024, dtype=self.dtype, kernel_init=glorot, name="fc1")(x))
        x = Dropout(0.7)(x, train=train)
        return nn.Dense(self.num_classes, dtype=jnp.float32, kernel_init=glorot, name="fc2")(
            x.astype(jnp.float32)
        )


class GoogLeNet(PublishedClassifier):
    """Classifies [N, H, W, C] into logits [N, num_classes].

    6,624,904 parameters for three channels and 1000 classes, 13,004,888 with the auxiliary heads,
    whose logits are exposed in training as "auxiliary" (the head after inception4a first). The last
    feature map [N, h, w, 1024] and the penultimate features [N, 1024] are exposed.

    As in torchvision, and unlike in the paper, the wider branch of a module ends in a 3x3
    convolution, not 5x5, and every convolution has BatchNorm (epsilon 1e-3). Max-pools round their
    output size up.
    """

    aux: bool = True
    least_side: ClassVar[int] = 15
    stem: ClassVar[str] = "conv1"
    head = ("aux1", "aux2", "fc")
    auxiliary_weight: ClassVar[float] = 0.3
    pretrained_input = INCEPTION._replace(size=224)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        self.require_side(x)
        x = self.conv_bn(x, 64, 7, 2, name="conv1", train=train, **EPSILON)
        x = max_pool(x, 3, 2, round_up=True)
        x = self.conv_bn(x, 64, 1, name="conv2", train=train, **EPSILON)
        x = self.conv_bn(x, 192, 3, name="conv3", train=train, **EPSILON)
        x = max_pool(x, 3, 2, round_up=True)
        module_class = self.unit(Inception)
        for name in MODULES:
            x = module_class(self.dtype, name, name=name)(x, train)
            if self.aux and name in AUXILIARY_AFTER and (train or self.is_initializing()):
                head = AuxiliaryHead(self.dtype, self.num_classes, name=AUXILIARY_AFTER[name])
                expose(self, "auxiliary", head(x, train=train))
            if name in POOLED_AFTER:
                x = max_pool(x, POOLED_AFTER[name], 2, round_up=True)
        return self.classify(x, dropout=0.2, train=train)
