"""SegNet: the maxima's indices lead back up; with the encoder of VGG, or plain with one width.

Source: "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation",
arXiv:1511.00561. The plain form is what CoV-RASeg (arXiv:2009.08864) grew from.
"""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.models.classification.vgg import DEPTHS, WIDTHS, place_in_vgg
from covjax.nn.blocks import block, check_fields, decode, encode, part, unpool
from covjax.nn.layers import Conv, Dtype, require_side


class SegNet(nn.Module):
    """Segments [N, H, W, C] into logits [N, H, W, num_classes]; any size, odd ones too (H, W >=
    32).

    Encoder: the convolutions of VGG with 16 or 19 layers, each with BatchNorm and ReLU. The decoder
    mirrors it: after unpooling the convolution against each one of the encoder; the last gives the
    logits. SegNet is the form with 16; the paper lists it beside "VGG16 segmentation", which is the
    same network, and "VGG19 segmentation".
    """

    num_classes: int = 2
    depth: int = 16
    encoder_smoothing: str = "none"
    encoder_pooling: str = "max"
    decoder_unpooling: str = "indices"
    decoder_smoothing: str = "none"
    dtype: Dtype = jnp.float32
    remat: bool = False
    smallest: ClassVar[int] = 32
    batch_norm: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        check_fields(self)

    @property
    def encoder(self) -> str:
        return f"vgg{self.depth}_bn"

    def encoder_path(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        return place_in_vgg(path, self.depth)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        stages = [(width,) * k for width, k in zip(WIDTHS, DEPTHS[self.depth], strict=True)]
        return _segmented(self, x, stages, train)


class PlainSegNet(nn.Module):
    """Segments [N, H, W, C] into logits [N, H, W, num_classes]; any size, odd ones too (H, W >=
    2**depth).

    Encoder stage, `depth` times: conv-BN-ReLU twice, pooling; decoder stage: unpooling,
    conv-BN-ReLU twice; `width` filters everywhere. The last convolution gives the logits.
    """

    num_classes: int = 2
    depth: int = 4
    width: int = 64
    encoder_smoothing: str = "none"
    encoder_pooling: str = "max"
    decoder_unpooling: str = "indices"
    decoder_smoothing: str = "none"
    dtype: Dtype = jnp.float32
    remat: bool = False
    batch_norm: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        check_fields(self, "depth", "width")

    @property
    def smallest(self) -> int:
        return 2**self.depth

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        return _segmented(self, x, [(self.width, self.width)] * self.depth, train)


def _segmented(
    net: nn.Module, x: jax.Array, stages: Sequence[tuple[int, ...]], train: bool
) -> jax.Array:
    """Runs encoder and decoder; `stages` holds the features of every convolution of the encoder."""
    require_side(net, x)
    kept = []
    for stage, widths in enumerate(stages, 1):
        size = x.shape[1:3]
        _, x, switches = part(net, partial(encode, stage=stage, widths=widths, train=train))(net, x)
        kept.append((switches, size))
    for stage in range(len(stages), 0, -1):
        switches, size = kept.pop()
        below = stages[stage - 2][-1] if stage > 1 else net.num_classes
        run = partial(
            _decode, size=size, stage=stage, widths=(below, *stages[stage - 1][:-1]), train=train
        )
        x = part(net, run)(net, x, switches)
    return x.astype(jnp.float32)


def _decode(net, x, switches, *, size, stage, widths, train):
    if stage > 1:
        return decode(net, x, switches, size=size, stage=stage, widths=widths, train=train)
    x = unpool(net, x, switches, size=size, stage=1, train=train)
    for k in range(len(widths), 1, -1):
        x = block(net, x, widths[k - 1], f"decoder1_conv{k}", train)
    return Conv(net.num_classes, dtype=net.dtype, name="decoder1_conv1")(x)
