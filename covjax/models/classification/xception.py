"""Xception, as timm (legacy_xception) or Keras defines it.

Source: "Xception: Deep Learning with Depthwise Separable Convolutions", arXiv:1610.02357.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.errors import unknown
from covjax.models.reference import INCEPTION, torch_key
from covjax.nn.layers import BatchNorm, Conv, Dtype, expose, glorot, require_side
from covjax.ops.windows import max_pool

PADDINGS = {
    "torch": "3x3/2 max-pools pad one pixel on every side; BatchNorm epsilon 1e-5 (timm legacy_xception)",
    "keras": '3x3/2 max-pools pad as "same", an even side at its end only; BatchNorm epsilon 1e-3 (Keras Xception)',
}
EPSILONS = {"torch": 1e-5, "keras": 1e-3}
# Features of every separable convolution of a block; the first three and the last end in a max-pool
# of stride 2.
BLOCKS = [(128, 128), (256, 256), (728, 728), *[(728, 728, 728)] * 8, (728, 1024)]
STRIDED = (1, 2, 3, 12)


class SeparableConv(nn.Module):
    """Depthwise conv3x3, then conv1x1, without bias and with nothing between them."""

    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        common = {"use_bias": False, "dtype": self.dtype}
        x = Conv(x.shape[-1], 3, groups=x.shape[-1], name="conv1", **common)(x)
        return Conv(self.features, 1, name="pointwise", **common)(x)


class Block(nn.Module):
    """ReLU-separable convolution-BN, two or three times, plus shortcut; stride 2 adds a max-pool,
    conv1x1-BN there.
    """

    features: tuple[int, ...]
    stride: int
    starts_with_relu: bool
    padding: str
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def norm(x, name):
            return BatchNorm(None, EPSILONS[self.padding], name=name)(x, train=train)

        y = x
        position = 0  # position in the list of layers that timm numbers
        for k, features in enumerate(self.features):
            if k > 0 or self.starts_with_relu:
                y = nn.relu(y)
                position = position + 1
            y = SeparableConv(features, self.dtype, name=f"rep_{position}")(y)
            y = norm(y, f"rep_{position + 1}")
            position += 2
        if self.stride == 2:
            y = max_pool(y, 3, 2, 1 if self.padding == "torch" else "same")
            x = Conv(self.features[-1], 1, 2, use_bias=False, dtype=self.dtype, name="skip")(x)
            x = norm(x, "skipbn")
        return x + y


class Xception(nn.Module):
    """Classifies [N, H, W, C] into logits [N, num_classes]; 22,855,952 parameters for three
    channels and 1000 classes.

    `padding` chooses between the two definitions, which differ in the max-pools of even sides and
    in the epsilon of BatchNorm: "torch" or "keras". The last feature map [N, h, w, 2048] and the
    penultimate features [N, 2048] are exposed. Raises InputError for another padding.
    """

    num_classes: int = 2
    padding: str = "torch"
    dtype: Dtype = jnp.float32
    remat: bool = False

    smallest: ClassVar[int] = 7
    stem: ClassVar[str] = "conv1"
    head: ClassVar[tuple[str, ...]] = ("fc",)
    pretrained_input: ClassVar = INCEPTION

    def __post_init__(self):
        if self.padding not in PADDINGS:
            raise unknown("model option padding", self.padding, PADDINGS)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        require_side(self, x)

        def norm(x, k):
            return BatchNorm("relu", EPSILONS[self.padding], name=f"bn{k}")(x, train=train)

        for k, (features, stride) in enumerate(((32, 2), (64, 1)), 1):
            x = Conv(
                features, 3, stride, padding=0, use_bias=False, dtype=self.dtype, name=f"conv{k}"
            )(x)
            x = norm(x, k)
        block_class = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        for k, features in enumerate(BLOCKS, 1):
            stride = 2 if k in STRIDED else 1
            common = (self.padding, self.dtype)
            x = block_class(features, stride, k > 1, *common, name=f"block{k}")(x, train)
        for k, features in ((3, 1536), (4, 2048)):
            x = norm(SeparableConv(features, self.dtype, name=f"conv{k}")(x), k)
        x = expose(self, "features", expose(self, "feature_map", x).mean((1, 2), dtype=jnp.float32))
        return nn.Dense(self.num_classes, kernel_init=glorot, name="fc")(x)

    @staticmethod
    def reference_key(path: tuple[str, ...]) -> str:
        """Returns the name in the state dict of timm's legacy_xception of the variable at
        `path`.
        """
        *modules, leaf = path
        return torch_key(*modules, leaf=leaf)
