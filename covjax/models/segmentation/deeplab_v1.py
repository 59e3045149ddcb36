"""DeepLab v1 with a large field of view: VGG-16 to an eighth of the side, dilated at its end.

Source: "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs",
arXiv:1412.7062, model DeepLab-LargeFOV, without the CRF. Poolings round down as in PyTorch, where
Caffe's round up.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.models.classification.vgg import vgg_stage
from covjax.nn.layers import Conv, Dropout, he
from covjax.nn.network import Network
from covjax.ops.windows import max_pool


class DeepLabV1(Network):
    """Segments [N, H, W, C] of any size into logits [N, H, W, num_classes].

    VGG-16's convolutions (`batch_norm` as in VGG), 3x3 poolings of which the last two keep the
    size, stage 5 with dilation 2; a 3x3 convolution of dilation 12 and a 1x1, `hidden` features
    each, with dropout; logits of an eighth of the side, enlarged bilinearly.
    """

    hidden: int = 1024
    batch_norm: bool = False

    @property
    def encoder(self) -> str:
        return "vgg16_bn" if self.batch_norm else "vgg16"

    @staticmethod
    def encoder_path(path: tuple[str, ...]) -> tuple[str, ...] | None:
        return path if path[0].startswith("features_") else None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        shape = (*x.shape[:3], self.num_classes)
        for stage in range(1, 6):
            form = {"batch_norm": self.batch_norm, "dilation": 2 if stage == 5 else 1}
            x = self.run(vgg_stage, x, stage=stage, train=train, **form)
            x = max_pool(x, 3, 2 if stage < 4 else 1, 1)
        for name, side, dilation in (("fc6", 3, 12), ("fc7", 1, 1)):
            layer = Conv(
                self.hidden, side, dilation=dilation, dtype=self.dtype, kernel_init=he, name=name
            )
            x = Dropout(0.5)(nn.relu(layer(x)), train=train)
        x = Conv(self.num_classes, 1, dtype=self.dtype, name="fc8")(x)
        return jax.image.resize(x.astype(jnp.float32), shape, "bilinear")
