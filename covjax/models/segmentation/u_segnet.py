"""U-SegNet: SegNet's indices and one skip of U-Net at full resolution.

Source: "U-SegNet: Fully Convolutional Neural Network based Automated Brain tissue segmentation
Tool", arXiv:1806.04429.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.models.classification.vgg import place_in_vgg
from covjax.nn.encoder_decoder import PoolingNetwork
from covjax.nn.layers import Conv
from covjax.ops.kept import Kept
from covjax.ops.sides import Pair

STAGES = ((64, 64), (128, 128), (256, 256, 256))


class USegNet(PoolingNetwork):
    """Segments [N, H, W, C] into logits [N, H, W, num_classes]; any size, odd ones too (H, W >= 8).

    Three encoder stages of conv-BN-ReLU, the decoder mirrors the deeper two; at full resolution
    what was unpooled joins the encoder's last features: 1x1 and 3x3 convolution of 64, 1x1
    convolution to the logits.
    """

    least_side: ClassVar[int] = 8
    encoder: ClassVar[str] = "vgg16_bn"  # its first three stages

    @staticmethod
    def encoder_path(path: tuple[str, ...]) -> tuple[str, ...] | None:
        return place_in_vgg(path, 16)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        self.require_side(x)
        kept: list[tuple[jax.Array, Kept, Pair]] = []
        for stage, widths in enumerate(STAGES, 1):
            rows, columns = x.shape[1:3]
            full, x, switches = self.run(USegNet.encode, x, stage=stage, widths=widths, train=train)
            kept.append((full, switches, (rows, columns)))
        for stage, widths in ((3, (128, 256, 256)), (2, (64, 128))):
            _, switches, size = kept.pop()
            form = {"size": size, "stage": stage, "widths": widths}
            x = self.run(USegNet.decode, x, switches, train=train, **form)
        full, switches, size = kept.pop()
        x = self.run(USegNet.last, x, full, switches, size=size, train=train)
        return x.astype(jnp.float32)

    def last(
        self, x: jax.Array, full: jax.Array, kept: Kept, *, size: Pair, train: bool
    ) -> jax.Array:
        """Joins what is unpooled with the first stage's features, and gives the logits."""
        x = self.unpool(x, kept, size=size, stage=1, train=train)
        x = jnp.concatenate([full, x], -1)
        x = self.block(x, 64, "decoder1_conv2", kernel_size=1, train=train)
        x = self.block(x, 64, "decoder1_conv1", train=train)
        return Conv(self.num_classes, 1, dtype=self.dtype, name="logits")(x)
