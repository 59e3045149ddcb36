"""Xception, as timm (legacy_xception) or Keras defines it.

Source: "Xception: Deep Learning with Depthwise Separable Convolutions", arXiv:1610.02357.
"""

from typing import ClassVar

import jax
from flax import linen as nn

from covjax.errors import unknown
from covjax.models.reference import INCEPTION, PublishedClassifier
from covjax.nn.layers import BatchNorm, Conv
from covjax.nn.network import NetworkPart
from covjax.ops.windows import max_pool

PADDINGS = {
    "torch": "3x3/2 max-pools pad one pixel on every side; BatchNorm epsilon 1e-5 (timm "
    "legacy_xception)",
    "keras": '3x3/2 max-pools pad as "same", an even side at its end only; BatchNorm epsilon '
    "1e-3 (Keras Xception)",
}
EPSILONS = {"torch": 1e-5, "keras": 1e-3}
# Features of every separable convolution of a block; the first three and the last end in a max-pool
# of stride 2.
BLOCKS = [(128, 128), (256, 256), (728, 728), *[(728, 728, 728)] * 8, (728, 1024)]
STRIDED = (1, 2, 3, 12)


class SeparableConv(NetworkPart):
    """Depthwise conv3x3, then conv1x1, without bias and with nothing between them."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        x = Conv(width, 3, groups=width, use_bias=False, dtype=self.dtype, name="conv1")(x)
        return Conv(self.features, 1, use_bias=False, dtype=self.dtype, name="pointwise")(x)


class Block(NetworkPart):
    """ReLU-separable convolution-BN, two or three times, plus shortcut.

    Stride 2 adds a max-pool, and conv1x1-BN to the shortcut.
    """

    features: tuple[int, ...]
    stride: int
    starts_with_relu: bool
    padding: str

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def norm(x: jax.Array, name: str) -> jax.Array:
            return BatchNorm(None, EPSILONS[self.padding], name=name)(x, train=train)

        y = x
        position = 0  # position in the list of layers that timm numbers
        for k, features in enumerate(self.features):
            if k > 0 or self.starts_with_relu:
                y = nn.relu(y)
                position = position + 1
            y = SeparableConv(self.dtype, features, name=f"rep_{position}")(y)
            y = norm(y, f"rep_{position + 1}")
            position += 2
        if self.stride == 2:
            y = max_pool(y, 3, 2, 1 if self.padding == "torch" else "same")
            x = Conv(self.features[-1], 1, 2, use_bias=False, dtype=self.dtype, name="skip")(x)
            x = norm(x, "skipbn")
        return x + y


class Xception(PublishedClassifier):
    """Classifies [N, H, W, C] into logits [N, num_classes].

    22,855,952 parameters for three channels and 1000 classes. `padding` chooses between the two
    definitions, which differ in the max-pools of even sides and in the epsilon of BatchNorm:
    "torch" or "keras". The last feature map [N, h, w, 2048] and the penultimate features [N, 2048]
    are exposed. Raises InputError for another padding.
    """

    padding: str = "torch"
    least_side: ClassVar[int] = 7
    stem: ClassVar[str] = "conv1"
    pretrained_input = INCEPTION

    def __post_init__(self):
        if self.padding not in PADDINGS:
            raise unknown("model option padding", self.padding, PADDINGS)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        self.require_side(x)

        def norm(x: jax.Array, k: int) -> jax.Array:
            return BatchNorm("relu", EPSILONS[self.padding], name=f"bn{k}")(x, train=train)

        for k, (features, stride) in enumerate(((32, 2), (64, 1)), 1):
            x = Conv(
                features, 3, stride, padding=0, use_bias=False, dtype=self.dtype, name=f"conv{k}"
            )(x)
            x = norm(x, k)
        block_class = self.unit(Block)
        for k, features in enumerate(BLOCKS, 1):
            stride = 2 if k in STRIDED else 1
            form = (features, stride, k > 1, self.padding)
            x = block_class(self.dtype, *form, name=f"block{k}")(x, train)
        for k, features in ((3, 1536), (4, 2048)):
            x = norm(SeparableConv(self.dtype, features, name=f"conv{k}")(x), k)
        return self.classify(x)
