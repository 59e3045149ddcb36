"""GoogLeNet (Inception-v1) with BatchNorm, as torchvision defines it.

Source: "Going Deeper with Convolutions", arXiv:1409.4842; BatchNorm in place of local response
normalisation as in arXiv:1502.03167.
"""

from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.models.reference import INCEPTION, torch_key
from covjax.nn.layers import ConvBN, Dropout, Dtype, expose, glorot, require_side
from covjax.ops.windows import adaptive_average_pool, max_pool

EPSILON = 1e-3  # of BatchNorm
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


class Inception(nn.Module):
    """Four branches side by side: 1x1, 1x1-3x3, 1x1-3x3, max-pool-1x1; each convolution with
    BatchNorm and ReLU.
    """

    name_of_channels: str
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def conv(x, features, kernel_size, name):
            common = {"epsilon": EPSILON, "dtype": self.dtype}
            return ConvBN(features, kernel_size, name=name, **common)(x, train=train)

        direct, wide, wider, pooled = MODULES[self.name_of_channels]
        branches = [conv(x, direct, 1, "branch1")]
        for k, (reduced, features) in ((2, wide), (3, wider)):
            branches.append(conv(conv(x, reduced, 1, f"branch{k}_0"), features, 3, f"branch{k}_1"))
        branches.append(conv(max_pool(x, 3, 1, 1), pooled, 1, "branch4_1"))
        return jnp.concatenate(branches, -1)


class AuxiliaryHead(nn.Module):
    """Average to 4x4, conv1x1-BN-ReLU, two dense layers with dropout .7 between them -> logits [N,
    num_classes].
    """

    num_classes: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        conv = ConvBN(128, 1, epsilon=EPSILON, dtype=self.dtype, name="conv")
        x = conv(adaptive_average_pool(x, (4, 4)), train=train)
        # channel by channel, the order of published weights
        x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(1024, dtype=self.dtype, kernel_init=glorot, name="fc1")(x))
        x = Dropout(0.7)(x, train=train)
        return nn.Dense(self.num_classes, dtype=jnp.float32, kernel_init=glorot, name="fc2")(
            x.astype(jnp.float32)
        )


class GoogLeNet(nn.Module):
    """Classifies [N, H, W, C] into logits [N, num_classes].

    6,624,904 parameters for three channels and 1000 classes, 13,004,888 with the auxiliary heads,
    whose logits are exposed in training as "auxiliary" (the head after inception4a first). The last
    feature map [N, h, w, 1024] and the penultimate features [N, 1024] are exposed.

    As in torchvision, and unlike in the paper, the wider branch of a module ends in a 3x3
    convolution, not 5x5, and every convolution has BatchNorm (epsilon 1e-3). Max-pools round their
    output size up.
    """

    num_classes: int = 2
    aux: bool = True
    dtype: Dtype = jnp.float32
    remat: bool = False

    smallest: ClassVar[int] = 15
    stem: ClassVar[str] = "conv1"
    head: ClassVar[tuple[str, ...]] = ("aux1", "aux2", "fc")
    auxiliary_weight: ClassVar[float] = 0.3
    pretrained_input: ClassVar = INCEPTION._replace(size=224)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        require_side(self, x)
        conv = partial(ConvBN, epsilon=EPSILON, dtype=self.dtype)
        x = max_pool(conv(64, 7, 2, name="conv1")(x, train=train), 3, 2, round_up=True)
        x = conv(64, 1, name="conv2")(x, train=train)
        x = max_pool(conv(192, 3, name="conv3")(x, train=train), 3, 2, round_up=True)
        module_class = nn.remat(Inception, static_argnums=(2,)) if self.remat else Inception
        for name in MODULES:
            x = module_class(name, self.dtype, name=name)(x, train)
            if self.aux and name in AUXILIARY_AFTER and (train or self.is_initializing()):
                head = AuxiliaryHead(self.num_classes, self.dtype, name=AUXILIARY_AFTER[name])
                expose(self, "auxiliary", head(x, train=train))
            if name in POOLED_AFTER:
                x = max_pool(x, POOLED_AFTER[name], 2, round_up=True)
        x = expose(self, "feature_map", x).mean((1, 2), dtype=jnp.float32)
        x = Dropout(0.2)(expose(self, "features", x), train=train)
        return nn.Dense(self.num_classes, kernel_init=glorot, name="fc")(x)

    @staticmethod
    def reference_key(path: tuple[str, ...]) -> str:
        """Returns the name in torchvision's state dict of the variable at `path`."""
        *modules, leaf = path
        return torch_key(*modules, leaf=leaf)
