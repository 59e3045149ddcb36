"""VGG with 16 or 19 layers, with or without BatchNorm, as in torchvision.

Source: "Very Deep Convolutional Networks for Large-Scale Image Recognition", arXiv:1409.1556.
"""

import re
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.models.reference import IMAGENET, torch_key
from covjax.nn.layers import BatchNorm, Conv, Dropout, Dtype, expose, glorot, he, require_side
from covjax.ops.pool import pool2d
from covjax.ops.windows import adaptive_average_pool

DEPTHS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # convolutions per stage
WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Classifies [N, H, W, C], sides of 32 and more, into logits [N, num_classes].

    Parameters at 3 channels and 1000 classes: 138,357,544 with depth 16, 143,667,240 with depth 19;
    with BatchNorm 138,365,992 and 143,678,248. What is left of the image is averaged into 7x7. The
    feature map before the last pooling [N, h, w, 512] and the penultimate features [N, 4096] are
    exposed. `dropout` follows both hidden layers.
    """

    num_classes: int = 2
    depth: int = 16
    batch_norm: bool = False
    dropout: float = 0.5
    dtype: Dtype = jnp.float32
    remat: bool = False
    smallest: ClassVar[int] = 32
    stem: ClassVar[str] = "features_0"
    head: ClassVar[tuple[str, ...]] = ("classifier_6",)
    pretrained_input: ClassVar = IMAGENET
    flattened: ClassVar = {"classifier_0": (512, 7, 7)}

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        require_side(self, x)
        remat = nn.remat if self.remat else lambda function: function
        place = 0  # in torchvision's list of layers, which counts the ReLU and the pooling too
        for stage, (count, width) in enumerate(zip(DEPTHS[self.depth], WIDTHS, strict=True)):
            if stage:
                x = pool2d(x, "max")[0]
                place = place + 1
            x = remat(partial(convolutions, place=place, count=count, width=width, train=train))(
                self, x
            )
            place += count * (3 if self.batch_norm else 2)
        x = pool2d(expose(self, "feature_map", x), "max")[0]
        x = adaptive_average_pool(x, (7, 7)).reshape(len(x), -1)
        for layer in (0, 3):
            x = nn.relu(
                nn.Dense(4096, dtype=self.dtype, kernel_init=he, name=f"classifier_{layer}")(x)
            )
            if layer == 3:
                x = expose(self, "features", x)
            x = Dropout(self.dropout)(x, train=train)
        return nn.Dense(self.num_classes, kernel_init=glorot, name="classifier_6")(
            x.astype(jnp.float32)
        )

    @staticmethod
    def reference_key(path: tuple[str, ...]) -> str:
        """Name in torchvision's state dict of the variable at `path`."""
        return torch_key(*path[:-1], leaf=path[-1])


def convolutions(
    net: nn.Module,
    x: jax.Array,
    *,
    place: int,
    count: int,
    width: int,
    train: bool,
    dilation: int = 1,
) -> jax.Array:
    """`count` 3x3 convolutions with their activations, the first of which is layer `place` of the
    list.

    `net` has the fields `batch_norm` and `dtype`; the layers are named in its scope.
    """
    for _ in range(count):
        x = Conv(
            width, dilation=dilation, kernel_init=he, dtype=net.dtype, name=f"features_{place}"
        )(x)
        if net.batch_norm:
            x = BatchNorm("relu", name=f"features_{place + 1}")(x, train=train)
            place = place + 3
        else:
            x = nn.relu(x)
            place = place + 2
    return x


def place_in_vgg(path: tuple[str, ...], depth: int) -> tuple[str, ...] | None:
    """Returns the path in VGG with BatchNorm of what lies at `path` in an encoder of
    `blocks.encode`, else None.
    """
    found = re.fullmatch(r"encoder(\d)_conv(\d)", path[0])
    if found is None:
        return None
    stage, k = map(int, found.groups())
    # a pooling stands between two stages
    place = 3 * (sum(DEPTHS[depth][: stage - 1]) + k - 1) + stage - 1
    return f"features_{place + (path[1] == 'bn')}", path[2]
