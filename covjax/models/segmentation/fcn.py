"""Fully convolutional networks: FCN-32s, -16s and -8s on VGG-16, torchvision's on ResNet-50.

Source: "Fully Convolutional Networks for Semantic Segmentation", arXiv:1605.06211. Instead of
padding the image by 100 pixels, sides of VGG are rounded up where they are halved, and what is
enlarged beyond is cut at the bottom and right.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from covjax.models.classification.resnet import feature_maps
from covjax.models.classification.vgg import vgg_stage
from covjax.nn.layers import Conv, Dropout, he
from covjax.nn.network import Network
from covjax.ops.windows import max_pool

SCORED = {32: (), 16: (4,), 8: (4, 3)}  # poolings whose scores join, by the stride of the finest


class FCN(Network):
    """Segments [N, H, W, C] of any size into logits [N, H, W, num_classes].

    These are enlarged by learned interpolation.

    VGG-16's convolutions (`batch_norm` as in VGG), 7x7 and 1x1 convolutions of `hidden` features,
    each with dropout, and 1x1 scores; these are doubled and added to the scores of pooling 4 and 3,
    as far as `stride` says, and enlarged to the image.
    """

    stride: int = 8
    hidden: int = 4096
    batch_norm: bool = False

    @property
    def encoder(self) -> str:
        return "vgg16_bn" if self.batch_norm else "vgg16"

    def encoder_path(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """As in the paper VGG-16's dense layers become the convolutions after it, if as wide."""
        dense = {"fc6": "classifier_0", "fc7": "classifier_3"}
        if path[0] in dense and self.hidden == 4096:
            return dense[path[0]], path[1]
        return path if path[0].startswith("features_") else None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        size = x.shape[1:3]
        pooled: dict[int, jax.Array] = {}
        for stage in range(1, 6):
            x = self.run(vgg_stage, x, stage=stage, batch_norm=self.batch_norm, train=train)
            x = max_pool(x, 2, 2, round_up=True)
            pooled[stage] = x
        x = self.run(FCN.dense, x, train=train)
        x = self.score(x, "score")
        for stage in SCORED[self.stride]:
            finer = self.score(pooled[stage], f"score_pool{stage}")
            x = finer + Enlarge(2, name=f"enlarge_pool{stage}")(x, finer.shape[1:3])
        return Enlarge(self.stride, name="enlarge")(x, size)

    def dense(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Applies what VGG's dense layers become: a 7x7 and a 1x1 convolution with dropout."""
        for name, side in (("fc6", 7), ("fc7", 1)):
            conv = Conv(self.hidden, side, dtype=self.dtype, kernel_init=he, name=name)
            x = Dropout(0.5)(nn.relu(conv(x)), train=train)
        return x

    def score(self, x: jax.Array, name: str) -> jax.Array:
        """Returns the scores of the classes, which start at zero, as in the reference."""
        zeros = nn.initializers.zeros
        layer = Conv(self.num_classes, 1, dtype=self.dtype, kernel_init=zeros, name=name)
        return layer(x).astype(jnp.float32)


class FCNResNet50(Network):
    """Segments [N, H, W, C] of any size into logits [N, H, W, num_classes], enlarged bilinearly.

    torchvision's fcn_resnet50 without its auxiliary head: a ResNet-50 dilated to an eighth of the
    side, a 3x3 convolution of 512 features, dropout, 1x1 scores. 32,947,266 parameters at 3
    channels and 2 classes.
    """

    encoder: ClassVar[str] = "resnet50"

    @staticmethod
    def encoder_path(path: tuple[str, ...]) -> tuple[str, ...] | None:
        return None if path[0] in ("last", "logits") else path

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        shape = (*x.shape[:3], self.num_classes)
        x = feature_maps(self, x, depth=50, train=train, output_stride=8)[-1]
        x = self.conv_bn(x, 512, 3, name="last", train=train)
        x = Dropout(0.1)(x, train=train)
        x = Conv(self.num_classes, 1, dtype=self.dtype, name="logits")(x)
        return jax.image.resize(x.astype(jnp.float32), shape, "bilinear")


class Enlarge(nn.Module):
    """Transposed convolution [N, h, w, K] -> [N, H, W, K] by a kernel that starts as bilinear.

    The kernel has twice the factor as its side. Cuts what exceeds [H, W] at the bottom and right.
    Computed as one matrix product and a sum of four shifted images, because XLA's own transposed
    convolution is slow on a CPU.
    """

    factor: int

    @nn.compact
    def __call__(self, x: jax.Array, size: tuple[int, ...]) -> jax.Array:
        n, h, w, k = x.shape
        f = self.factor
        kernel = self.param("kernel", _bilinear, (2 * f, 2 * f, k, k))
        taps = kernel.reshape(2, f, 2, f, k, k)  # an output pixel sees two inputs along each axis
        blocks = jnp.einsum(
            "nhwc,iajbco->ijnhawbo", x, taps.astype(x.dtype), precision=jax.lax.Precision.HIGHEST
        )
        total = jnp.zeros((), x.dtype)
        for i, j in np.ndindex(2, 2):
            around = ((0, 0), (i, 1 - i), (0, 0), (j, 1 - j), (0, 0), (0, 0))
            total = total + jnp.pad(blocks[i, j], around)
        y = total.reshape(n, (h + 1) * f, (w + 1) * f, k)
        first = f // 2
        return y[:, first : first + size[0], first : first + size[1]]


def _bilinear(_: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    side = 1 - np.abs((np.arange(shape[0]) + 0.5) / (shape[0] / 2) - 1)
    kernel = side[:, None, None, None] * side[None, :, None, None] * np.eye(shape[2])
    return jnp.asarray(kernel, jnp.float32)
