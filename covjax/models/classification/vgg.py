"""VGG with 16 or 19 layers, with or without BatchNorm, as in torchvision.

Source: "Very Deep Convolutional Networks for Large-Scale Image Recognition", arXiv:1409.1556.
"""

import re
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.models.reference import IMAGENET, PublishedClassifier
from covjax.nn.layers import BatchNorm, Conv, Dropout, expose, glorot, he
from covjax.nn.network import Network
from covjax.ops.pool import pool2d
from covjax.ops.windows import adaptive_average_pool

DEPTHS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # convolutions per stage
WIDTHS = (64, 128, 256, 512, 512)


class VGG(PublishedClassifier):
    """Classifies [N, H, W, C], sides of 32 and more, into logits [N, num_classes].

    Parameters at 3 channels and 1000 classes: 138,357,544 with depth 16, 143,667,240 with depth 19;
    with BatchNorm 138,365,992 and 143,678,248. What is left of the image is averaged into 7x7. The
    feature map before the last pooling [N, h, w, 512] and the penultimate features [N, 4096] are
    exposed. `dropout` follows both hidden layers.
    """

    depth: int = 16
    batch_norm: bool = False
    dropout: float = 0.5
    least_side: ClassVar[int] = 32
    stem: ClassVar[str] = "features_0"
    head = ("classifier_6",)
    pretrained_input = IMAGENET
    flattened = {"classifier_0": (512, 7, 7)}

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        self.require_side(x)
        for stage in range(1, 6):
            x = x if stage == 1 else pool2d(x, "max")[0]
            form = {"depth": self.depth, "batch_norm": self.batch_norm}
            x = self.run(vgg_stage, x, stage=stage, train=train, **form)
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


def vgg_stage(
    net: Network,
    x: jax.Array,
    *,
    stage: int,
    batch_norm: bool,
    train: bool,
    depth: int = 16,
    dilation: int = 1,
) -> jax.Array:
    """Applies the 3x3 convolutions of stage 1 to 5 with their activations.

    The layers are named in the scope of `net` by their places in torchvision's list, which counts
    BatchNorm, ReLU and pooling too.
    """
    step = 3 if batch_norm else 2
    place = sum(count * step + 1 for count in DEPTHS[depth][: stage - 1])
    form = (WIDTHS[stage - 1], 3, 1, dilation)
    for _ in range(DEPTHS[depth][stage - 1]):
        x = Conv(*form, kernel_init=he, dtype=net.dtype, name=f"features_{place}")(x)
        if batch_norm:
            x = BatchNorm("relu", name=f"features_{place + 1}")(x, train=train)
        else:
            x = nn.relu(x)
        place += step
    return x


def place_in_vgg(path: tuple[str, ...], depth: int) -> tuple[str, ...] | None:
    """Returns the path in VGG with BatchNorm of what a PoolingNetwork's encoder has at `path`."""
    found = re.fullmatch(r"encoder(\d)_conv(\d)", path[0])
    if found is None:
        return None
    stage, k = map(int, found.groups())
    # a pooling stands between two stages
    place = 3 * (sum(DEPTHS[depth][: stage - 1]) + k - 1) + stage - 1
    return f"features_{place + (path[1] == 'bn')}", path[2]
