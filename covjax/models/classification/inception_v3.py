"""Inception-v3, as torchvision defines it.

Source: "Rethinking the Inception Architecture for Computer Vision", arXiv:1512.00567.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.models.reference import INCEPTION, LEAVES, PublishedClassifier
from covjax.nn.layers import expose, glorot
from covjax.nn.network import ConvOptions, NetworkPart
from covjax.ops.windows import adaptive_average_pool, average_pool, max_pool

EPSILON: ConvOptions = {"epsilon": 1e-3}  # of BatchNorm
UNPADDED: ConvOptions = {"epsilon": 1e-3, "padding": 0}
# A convolution as (name, features, kernel size, stride); stride 2 goes without padding. A branch is
# a chain of them; a tuple inside a chain is its last step, side by side. "pool" starts with a
# pooling: the average at stride 1, which counts the padding; the maximum without padding at stride
# 2, alone.
Step = tuple[str, int, int | tuple[int, int], int]


def _grid35(pool_features: int) -> dict[str, list]:
    return {
        "1x1": [("branch1x1", 64, 1, 1)],
        "5x5": [("branch5x5_1", 48, 1, 1), ("branch5x5_2", 64, 5, 1)],
        "3x3dbl": [
            ("branch3x3dbl_1", 64, 1, 1),
            ("branch3x3dbl_2", 96, 3, 1),
            ("branch3x3dbl_3", 96, 3, 1),
        ],
        "pool": [("branch_pool", pool_features, 1, 1)],
    }


def _grid17(narrow: int) -> dict[str, list]:
    row = (1, 7)
    column = (7, 1)
    long = [(narrow, 1), (narrow, column), (narrow, row), (narrow, column), (192, row)]
    return {
        "1x1": [("branch1x1", 192, 1, 1)],
        "7x7": [
            ("branch7x7_1", narrow, 1, 1),
            ("branch7x7_2", narrow, row, 1),
            ("branch7x7_3", 192, column, 1),
        ],
        "7x7dbl": [
            (f"branch7x7dbl_{k}", features, size, 1) for k, (features, size) in enumerate(long, 1)
        ],
        "pool": [("branch_pool", 192, 1, 1)],
    }


REDUCE_TO_17 = {
    "3x3": [("branch3x3", 384, 3, 2)],
    "3x3dbl": [
        ("branch3x3dbl_1", 64, 1, 1),
        ("branch3x3dbl_2", 96, 3, 1),
        ("branch3x3dbl_3", 96, 3, 2),
    ],
    "pool": [],
}
REDUCE_TO_8 = {
    "3x3": [("branch3x3_1", 192, 1, 1), ("branch3x3_2", 320, 3, 2)],
    "7x7x3": [
        ("branch7x7x3_1", 192, 1, 1),
        ("branch7x7x3_2", 192, (1, 7), 1),
        ("branch7x7x3_3", 192, (7, 1), 1),
        ("branch7x7x3_4", 192, 3, 2),
    ],
    "pool": [],
}
GRID_8 = {
    "1x1": [("branch1x1", 320, 1, 1)],
    "3x3": [
        ("branch3x3_1", 384, 1, 1),
        (("branch3x3_2a", 384, (1, 3), 1), ("branch3x3_2b", 384, (3, 1), 1)),
    ],
    "3x3dbl": [
        ("branch3x3dbl_1", 448, 1, 1),
        ("branch3x3dbl_2", 384, 3, 1),
        (("branch3x3dbl_3a", 384, (1, 3), 1), ("branch3x3dbl_3b", 384, (3, 1), 1)),
    ],
    "pool": [("branch_pool", 192, 1, 1)],
}
MODULES = {
    "Mixed_5b": _grid35(32),
    "Mixed_5c": _grid35(64),
    "Mixed_5d": _grid35(64),
    "Mixed_6a": REDUCE_TO_17,
    "Mixed_6b": _grid17(128),
    "Mixed_6c": _grid17(160),
    "Mixed_6d": _grid17(160),
    "Mixed_6e": _grid17(192),
    "Mixed_7a": REDUCE_TO_8,
    "Mixed_7b": GRID_8,
    "Mixed_7c": GRID_8,
}
AUXILIARY_AFTER = "Mixed_6e"


class Mixed(NetworkPart):
    """The branches of a module side by side; each convolution has BatchNorm and ReLU."""

    name_of_branches: str

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def run(x, step):
            if isinstance(step[0], tuple):
                return jnp.concatenate([run(x, part) for part in step], -1)
            name, features, size, stride = step
            options = UNPADDED if stride == 2 else EPSILON
            return self.conv_bn(x, features, size, stride, name=name, train=train, **options)

        results = []
        for kind, steps in MODULES[self.name_of_branches].items():
            y = x
            if kind == "pool":
                y = average_pool(x, 3, 1, 1) if steps else max_pool(x, 3, 2)
            for step in steps:
                y = run(y, step)
            results.append(y)
        return jnp.concatenate(results, -1)


class AuxiliaryHead(NetworkPart):
    """Average-pool 5x5/3, conv1x1, conv5x5 without padding, mean, dense -> logits [N, num_classes].

    A map below 17x17, on which torchvision's head fails, is averaged adaptively to the 5x5 that the
    convolution needs.
    """

    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = average_pool(x, 5, 3) if min(x.shape[1:3]) >= 17 else adaptive_average_pool(x, (5, 5))
        x = self.conv_bn(x, 128, 1, name="conv0", train=train, **EPSILON)
        x = self.conv_bn(x, 768, 5, name="conv1", train=train, **UNPADDED)
        x = x.mean((1, 2), dtype=jnp.float32)
        return nn.Dense(self.num_classes, kernel_init=glorot, name="fc")(x)


class InceptionV3(PublishedClassifier):
    """Classifies [N, H, W, C] into logits [N, num_classes].

    23,834,568 parameters for three channels and 1000 classes, 27,161,264 with the auxiliary head,
    whose logits are exposed in training as "auxiliary". The last feature map [N, h, w, 2048] and
    the penultimate features [N, 2048] are exposed. BatchNorm has epsilon 1e-3; average pools count
    the padding, as in torchvision.
    """

    aux: bool = True
    least_side: ClassVar[int] = 75
    stem: ClassVar[str] = "Conv2d_1a_3x3"
    head = ("AuxLogits", "fc")
    auxiliary_weight: ClassVar[float] = 0.4
    pretrained_input = INCEPTION

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        self.require_side(x)
        x = self.conv_bn(x, 32, 3, 2, name="Conv2d_1a_3x3", train=train, **UNPADDED)
        x = self.conv_bn(x, 32, 3, name="Conv2d_2a_3x3", train=train, **UNPADDED)
        x = self.conv_bn(x, 64, 3, name="Conv2d_2b_3x3", train=train, **EPSILON)
        x = max_pool(x, 3, 2)
        x = self.conv_bn(x, 80, 1, name="Conv2d_3b_1x1", train=train, **EPSILON)
        x = self.conv_bn(x, 192, 3, name="Conv2d_4a_3x3", train=train, **UNPADDED)
        x = max_pool(x, 3, 2)
        module_class = self.unit(Mixed)
        for name in MODULES:
            x = module_class(self.dtype, name, name=name)(x, train)
            if self.aux and name == AUXILIARY_AFTER and (train or self.is_initializing()):
                head = AuxiliaryHead(self.dtype, self.num_classes, name="AuxLogits")
                expose(self, "auxiliary", head(x, train=train))
        return self.classify(x, dropout=0.5, train=train)

    @staticmethod
    def reference_key(path: tuple[str, ...]) -> str:
        """Returns the name in torchvision's state dict of the variable at `path`."""
        return ".".join([*path[:-1], LEAVES[path[-1]]])
