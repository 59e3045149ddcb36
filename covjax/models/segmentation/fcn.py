"""Fully convolutional networks: FCN-32s, FCN-16s and FCN-8s on VGG-16, and torchvision's on a
dilated ResNet-50.

Source: "Fully Convolutional Networks for Semantic Segmentation", arXiv:1605.06211. Instead of
padding the image by 100 pixels, sides of VGG are rounded up where they are halved, and what is
enlarged beyond is cut at the bottom and right.
"""

from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from covjax.models.classification.resnet import feature_maps
from covjax.models.classification.vgg import DEPTHS, WIDTHS, convolutions
from covjax.nn.blocks import Size, part
from covjax.nn.layers import Conv, ConvBN, Dropout, Dtype, he
from covjax.ops.windows import max_pool

SCORED = {32: (), 16: (4,), 8: (4, 3)}  # poolings whose scores join, by the stride of the finest


class FCN(nn.Module):
    """Segments [N, H, W, C] of any size into logits [N, H, W, num_classes], enlarged by learned
    interpolation.

    VGG-16's convolutions (`batch_norm` as in VGG), 7x7 and 1x1 convolutions of `hidden` features,
    each with dropout, and 1x1 scores; these are doubled and added to the scores of pooling 4 and 3,
    as far as `stride` says, and enlarged to the image.
    """

    num_classes: int = 2
    stride: int = 8
    hidden: int = 4096
    batch_norm: bool = False
    dtype: Dtype = jnp.float32
    remat: bool = False

    @property
    def encoder(self) -> str:
        return "vgg16_bn" if self.batch_norm else "vgg16"

    def encoder_path(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """As the paper does, VGG-16's dense layers become the first convolutions after it, if they
        are as wide.
        """
        dense = {"fc6": "classifier_0", "fc7": "classifier_3"}
        if path[0] in dense and self.hidden == 4096:
            return dense[path[0]], path[1]
        return path if path[0].startswith("features_") else None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        size = x.shape[1:3]
        place = 0
        pooled = {}
        for stage, (count, width) in enumerate(zip(DEPTHS[16], WIDTHS, strict=True), 1):
            run = partial(convolutions, place=place, count=count, width=width, train=train)
            x = max_pool(part(self, run)(self, x), 2, 2, round_up=True)
            place += count * (3 if self.batch_norm else 2) + 1
            pooled[stage] = x
        x = part(self, partial(_hidden, train=train))(self, x)
        x = _score(self, x, "score")
        for stage in SCORED[self.stride]:
            finer = _score(self, pooled[stage], f"score_pool{stage}")
            x = finer + Enlarge(2, name=f"enlarge_pool{stage}")(x, finer.shape[1:3])
        return Enlarge(self.stride, name="enlarge")(x, size)


def _hidden(net: FCN, x: jax.Array, *, train: bool) -> jax.Array:
    for name, side in (("fc6", 7), ("fc7", 1)):
        x = nn.relu(Conv(net.hidden, side, dtype=net.dtype, kernel_init=he, name=name)(x))
        x = Dropout(0.5)(x, train=train)
    return x


def _score(net: FCN, x: jax.Array, name: str) -> jax.Array:
    """Scores start at zero, as in the reference."""
    layer = Conv(net.num_classes, 1, dtype=net.dtype, kernel_init=nn.initializers.zeros, name=name)
    return layer(x).astype(jnp.float32)


class FCNResNet50(nn.Module):
    """Segments [N, H, W, C] of any size into logits [N, H, W, num_classes], enlarged bilinearly.

    torchvision's fcn_resnet50 without its auxiliary head: a ResNet-50 dilated to an eighth of the
    side, a 3x3 convolution of 512 features, dropout, 1x1 scores. 32,947,266 parameters at 3
    channels and 2 classes.
    """

    num_classes: int = 2
    dtype: Dtype = jnp.float32
    remat: bool = False
    encoder: ClassVar[str] = "resnet50"

    @staticmethod
    def encoder_path(path: tuple[str, ...]) -> tuple[str, ...] | None:
        return None if path[0] in ("last", "logits") else path

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        shape = (*x.shape[:3], self.num_classes)
        x = feature_maps(self, x, depth=50, train=train, output_stride=8)[-1]
        x = ConvBN(512, 3, dtype=self.dtype, name="last")(x, train=train)
        x = Conv(self.num_classes, 1, dtype=self.dtype, name="logits")(Dropout(0.1)(x, train=train))
        return jax.image.resize(x.astype(jnp.float32), shape, "bilinear")


class Enlarge(nn.Module):
    """Transposed convolution [N, h, w, K] -> [N, H, W, K] by a kernel of twice the factor that
    starts as bilinear.

    Cuts what exceeds [H, W] at the bottom and right. Computed as one matrix product and a sum of
    four shifted images, because XLA's own transposed convolution is slow on a CPU.
    """

    factor: int

    @nn.compact
    def __call__(self, x: jax.Array, size: Size) -> jax.Array:
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


def _bilinear(key: jax.Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> jax.Array:
    side = 1 - np.abs((np.arange(shape[0]) + 0.5) / (shape[0] / 2) - 1)
    return jnp.asarray(
        side[:, None, None, None] * side[None, :, None, None] * np.eye(shape[2]), dtype
    )
