"""ShuffleNet V1.

Source: "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
arXiv:1707.01083, Table 1 and Figure 2.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.errors import InputError, unknown
from covjax.nn.layers import channel_shuffle
from covjax.nn.network import Classifier, NetworkPart
from covjax.ops.windows import average_pool, max_pool

STEM = 24  # channels, whatever the width
# of the first stage at width 1, by groups; every stage doubles
CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
UNITS = (4, 8, 4)


class Unit(NetworkPart):
    """Grouped conv1x1, shuffle, depthwise conv3x3, grouped conv1x1; plus x or joined to its mean.

    The average is taken at stride 2.
    """

    features: int
    bottleneck: int
    groups: int
    first_groups: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        features = self.features - x.shape[-1] if self.stride == 2 else self.features
        narrow = features if self.bottleneck == 1 else self.features // self.bottleneck
        y = self.conv_bn(x, narrow, 1, name="first", train=train, groups=self.first_groups)
        y = channel_shuffle(y, self.groups)
        y = self.conv_bn(
            y,
            narrow,
            3,
            self.stride,
            name="depthwise",
            train=train,
            groups=narrow,
            activation=None,
        )
        y = self.conv_bn(
            y, features, 1, name="second", train=train, groups=self.groups, activation=None
        )
        if self.stride == 1:
            return nn.relu(x + y)
        return jnp.concatenate([average_pool(x, 3, 2, 1), nn.relu(y)], -1)


class ShuffleNetV1(Classifier):
    """Classifies [N, H, W, C] into logits [N, num_classes].

    `groups` is g of the paper's Table 1 (1, 2, 3, 4 or 8), `width` its scale factor s, and a unit's
    inner layers have 1/`bottleneck` of its channels; `bottleneck=1` gives them those that the
    unit's last convolution makes.

    The defaults are the network that toolboxes ship pretrained (the ONNX Model Zoo's, 136 to 544
    channels, 5.3 MB): 1,395,312 parameters for three channels and 1000 classes. The paper's own
    units have `bottleneck=4`: 1,968,344 parameters at groups=4, width=1, 1,865,728 at groups=3. The
    last feature map [N, h, w, C] and the penultimate features [N, C] are exposed, 544 channels by
    default.

    The stem has 24 channels at every width; the first grouped convolution of all is not grouped,
    because it has so few channels; the average pool of the shortcut counts its padding. Raises
    InputError for other groups, a width or bottleneck that is not positive, or channels that the
    groups do not divide.
    """

    groups: int = 4
    width: float = 0.5
    bottleneck: int = 1
    stem: ClassVar[str] = "conv1"

    def __post_init__(self):
        if self.groups not in CHANNELS:
            raise unknown("model option groups", str(self.groups), map(str, CHANNELS))
        channels = round(CHANNELS[self.groups] * self.width, 6)
        groups = self.groups
        if self.bottleneck < 1 or channels <= STEM or channels % (groups * self.bottleneck):
            raise InputError(
                f"model options width and bottleneck: width={self.width} gives {channels:g} "
                f"channels, which must exceed {STEM} and be divisible by {groups} groups and "
                f"bottleneck={self.bottleneck}, use e.g. width=1"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = self.conv_bn(x, STEM, 3, 2, name="conv1", train=train)
        x = max_pool(x, 3, 2, 1)
        unit_class = self.unit(Unit)
        for stage, units in enumerate(UNITS):
            features = round(CHANNELS[self.groups] * self.width) * 2**stage
            for k in range(units):
                first_groups = 1 if (stage, k) == (0, 0) else self.groups
                form = (features, self.bottleneck, self.groups, first_groups, 2 if k == 0 else 1)
                x = unit_class(self.dtype, *form, name=f"stage{stage + 2}_{k}")(x, train)
        return self.classify(x)
