"""U-SegNet: SegNet's indices and one skip of U-Net at full resolution.

Source: "U-SegNet: Fully Convolutional Neural Network based Automated Brain tissue segmentation
Tool", arXiv:1806.04429.
"""

from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.models.classification.vgg import place_in_vgg
from covjax.nn.blocks import block, check_fields, decode, encode, part, unpool
from covjax.nn.layers import Conv, Dtype, require_side

STAGES = ((64, 64), (128, 128), (256, 256, 256))


class USegNet(nn.Module):
    """Segments [N, H, W, C] into logits [N, H, W, num_classes]; any size, odd ones too (H, W >= 8).

    Three encoder stages of conv-BN-ReLU, the decoder mirrors the deeper two; at full resolution
    what was unpooled joins the encoder's last features: 1x1 and 3x3 convolution of 64, 1x1
    convolution to the logits.
    """

    num_classes: int = 2
    encoder_smoothing: str = "none"
    encoder_pooling: str = "max"
    decoder_unpooling: str = "indices"
    decoder_smoothing: str = "none"
    dtype: Dtype = jnp.float32
    remat: bool = False
    smallest: ClassVar[int] = 8
    batch_norm: ClassVar[bool] = True
    encoder: ClassVar[str] = "vgg16_bn"  # its first three stages

    def __post_init__(self):
        super().__post_init__()
        check_fields(self)

    @staticmethod
    def encoder_path(path: tuple[str, ...]) -> tuple[str, ...] | None:
        return place_in_vgg(path, 16)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        require_side(self, x)
        kept = []
        for stage, widths in enumerate(STAGES, 1):
            size = x.shape[1:3]
            full, x, switches = part(
                self, partial(encode, stage=stage, widths=widths, train=train)
            )(self, x)
            kept.append((switches, size, full))
        for stage, widths in ((3, (128, 256, 256)), (2, (64, 128))):
            switches, size, _ = kept.pop()
            run = partial(decode, size=size, stage=stage, widths=widths, train=train)
            x = part(self, run)(self, x, switches)
        switches, size, full = kept.pop()
        return part(self, partial(_last, size=size, train=train))(self, x, switches, full).astype(
            jnp.float32
        )


def _last(net, x, switches, full, *, size, train):
    x = jnp.concatenate([full, unpool(net, x, switches, size=size, stage=1, train=train)], -1)
    x = block(net, x, 64, "decoder1_conv2", train, kernel_size=1)
    x = block(net, x, 64, "decoder1_conv1", train)
    return Conv(net.num_classes, 1, dtype=net.dtype, name="logits")(x)
