"""CoV-CTNet, the classifier of the paper.

Source: "Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep
Convolutional Neural Networks", arXiv:2009.08864, Figure of CoV-CTNet; strides inferred from the
sizes drawn there.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.nn.layers import ConvBN, Dropout, Dtype, expose, glorot
from covjax.ops.windows import global_max_pool, max_pool


class ResidualUnit(nn.Module):
    """conv3x3-BN-ReLU-conv3x3-BN plus shortcut, ReLU; stride 2 puts a conv1x1-BN into the
    shortcut.
    """

    features: int
    stride: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = partial(ConvBN, self.features, kernel_init=glorot, dtype=self.dtype)
        y = conv(3, self.stride, name="first")(x, train=train)
        y = conv(3, activation=None, name="second")(y, train=train)
        if self.stride != 1 or x.shape[-1] != self.features:
            x = conv(1, self.stride, activation=None, name="shortcut")(x, train=train)
        return nn.relu(x + y)


class CovCTNet(nn.Module):
    """Classifies [N, H, W, C] into logits [N, num_classes]; 11,322,762 parameters for one channel
    and two classes.

    `head_relu` puts a ReLU between the fully connected layers; the paper's figure draws none. The
    last pooling is the maximum over whatever is left, which at the paper's 82x82 is its 3x3
    max-pool, so that any size works. The last feature map [N, h, w, 512] and the penultimate
    features [N, 64] are exposed.
    """

    num_classes: int = 2
    head_relu: bool = False
    dtype: Dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        common = {"kernel_init": glorot, "dtype": self.dtype}
        x = ConvBN(64, 7, 2, name="stem", **common)(x, train=train)
        x = max_pool(x, 3, 2, 1)
        unit_class = nn.remat(ResidualUnit, static_argnums=(2,)) if self.remat else ResidualUnit
        for stage, features in enumerate((64, 128, 256, 512)):
            for unit in range(2):
                stride = 2 if stage > 0 and unit == 0 else 1
                name = f"stage{stage + 1}_unit{unit + 1}"
                x = unit_class(features, stride, self.dtype, name=name)(x, train)
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
