"""DeepLab v1 with a large field of view: VGG-16 at an eighth of the side, its last convolutions
dilated.

Source: "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs",
arXiv:1412.7062, model DeepLab-LargeFOV, without the CRF. Poolings round down as in PyTorch, where
Caffe's round up.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.models.classification.vgg import DEPTHS, WIDTHS, convolutions
from covjax.nn.blocks import part
from covjax.nn.layers import Conv, Dropout, Dtype, he
from covjax.ops.windows import max_pool


class DeepLabV1(nn.Module):
    """Segments [N, H, W, C] of any size into logits [N, H, W, num_classes].

    VGG-16's convolutions (`batch_norm` as in VGG), 3x3 poolings of which the last two keep the
    size, stage 5 with dilation 2; a 3x3 convolution of dilation 12 and a 1x1, `hidden` features
    each, with dropout; logits of an eighth of the side, enlarged bilinearly.
    """

    num_classes: int = 2
    hidden: int = 1024
    batch_norm: bool = False
    dtype: Dtype = jnp.float32
    remat: bool = False

    @property
    def encoder(self) -> str:
        return "vgg16_bn" if self.batch_norm else "vgg16"

    @staticmethod
    def encoder_path(path: tuple[str, ...]) -> tuple[str, ...] | None:
        return path if path[0].startswith("features_") else None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        shape = (*x.shape[:3], self.num_classes)
        place = 0
        for stage, (count, width) in enumerate(zip(DEPTHS[16], WIDTHS, strict=True), 1):
            dilation = 2 if stage == 5 else 1
            stride = 2 if stage < 4 else 1
            run = partial(
                convolutions, place=place, count=count, width=width, dilation=dilation, train=train
            )
            x = max_pool(part(self, run)(self, x), 3, stride, 1)
            place += count * (3 if self.batch_norm else 2) + 1
        for name, side, dilation in (("fc6", 3, 12), ("fc7", 1, 1)):
            layer = Conv(
                self.hidden, side, dilation=dilation, dtype=self.dtype, kernel_init=he, name=name
            )
            x = Dropout(0.5)(nn.relu(layer(x)), train=train)
        x = Conv(self.num_classes, 1, dtype=self.dtype, name="fc8")(x)
        return jax.image.resize(x.astype(jnp.float32), shape, "bilinear")
