"""CoV-CTNet, the classifier of the paper.

Source: "Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep
Convolutional Neural Networks", arXiv:2009.08864, Figure of CoV-CTNet; strides inferred from the
sizes drawn there.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.nn.layers import Dropout, expose, glorot
from covjax.nn.network import Classifier, ConvOptions, NetworkPart
from covjax.ops.windows import global_max_pool, max_pool

GLOROT: ConvOptions = {"kernel_init": glorot}
LINEAR: ConvOptions = {"kernel_init": glorot, "activation": None}


class ResidualUnit(NetworkPart):
    """conv3x3-BN-ReLU-conv3x3-BN plus shortcut, ReLU; a change of size puts conv1x1-BN there."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        width = self.features
        y = self.conv_bn(x, width, 3, self.stride, name="first", train=train, **GLOROT)
        y = self.conv_bn(y, width, 3, name="second", train=train, **LINEAR)
        if self.stride != 1 or x.shape[-1] != width:
            x = self.conv_bn(x, width, 1, self.stride, name="shortcut", train=train, **LINEAR)
        return nn.relu(x + y)


class CovCTNet(Classifier):
    """Classifies [N, H, W, C] into logits [N, num_classes].

    11,322,762 parameters for one channel and two classes. `head_relu` puts a ReLU between the
    fully connected layers; the paper's figure draws none. The last pooling is the maximum over
    whatever is left, which at the paper's 82x82 is its 3x3 max-pool, so that any size works. The
    last feature map [N, h, w, 512] and the penultimate features [N, 64] are exposed.
    """

    head_relu: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = self.conv_bn(x, 64, 7, 2, name="stem", train=train, **GLOROT)
        x = max_pool(x, 3, 2, 1)
        unit_class = self.unit(ResidualUnit)
        for stage, features in enumerate((64, 128, 256, 512)):
            for unit in range(2):
                stride = 2 if stage > 0 and unit == 0 else 1
                name = f"stage{stage + 1}_unit{unit + 1}"
                x = unit_class(self.dtype, features, stride, name=name)(x, train)
        x = global_max_pool(expose(self, "feature_map", x))
        for k, (features, rate) in enumerate(((264, 0.5), (64, 0.2)), 1):
            x = nn.Dense(features, dtype=self.dtype, kernel_init=glorot, name=f"fc{k}")(x)
            x = nn.relu(x) if self.head_relu else x
            if k == 2:
                x = expose(self, "features", x)
            x = Dropout(rate)(x, train=train)
        return nn.Dense(self.num_classes, dtype=jnp.float32, kernel_init=glorot, name="fc3")(
            x.astype(jnp.float32)
        )
