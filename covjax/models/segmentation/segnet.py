"""SegNet: the maxima's indices lead back up; with the encoder of VGG, or plain with one width.

Source: "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation",
arXiv:1511.00561. The plain form is what CoV-RASeg (arXiv:2009.08864) grew from.
"""

from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.models.classification.vgg import DEPTHS, WIDTHS, place_in_vgg
from covjax.nn.encoder_decoder import PoolingNetwork
from covjax.nn.layers import Conv
from covjax.ops.kept import Kept
from covjax.ops.sides import Pair


class MirroredNetwork(PoolingNetwork):
    """An encoder and the decoder that mirrors it, whose last convolution gives the logits."""

    def segment(self, x: jax.Array, stages: Sequence[tuple[int, ...]], train: bool) -> jax.Array:
        """Runs both; `stages` holds the features of every convolution of the encoder."""
        self.require_side(x)
        kept: list[tuple[Kept, Pair]] = []
        for stage, widths in enumerate(stages, 1):
            rows, columns = x.shape[1:3]
            _, x, switches = self.run(type(self).encode, x, stage=stage, widths=widths, train=train)
            kept.append((switches, (rows, columns)))
        for stage in range(len(stages), 1, -1):
            switches, size = kept.pop()
            widths = (stages[stage - 2][-1], *stages[stage - 1][:-1])
            form = {"size": size, "stage": stage, "widths": widths}
            x = self.run(type(self).decode, x, switches, train=train, **form)
        switches, size = kept.pop()
        x = self.run(type(self).last, x, switches, size=size, widths=stages[0], train=train)
        return x.astype(jnp.float32)

    def last(
        self, x: jax.Array, kept: Kept, *, size: Pair, widths: tuple[int, ...], train: bool
    ) -> jax.Array:
        """Applies the last stage of the decoder."""
        x = self.unpool(x, kept, size=size, stage=1, train=train)
        for k in range(len(widths), 1, -1):
            x = self.block(x, widths[k - 2], f"decoder1_conv{k}", train=train)
        return Conv(self.num_classes, dtype=self.dtype, name="decoder1_conv1")(x)


class SegNet(MirroredNetwork):
    """Segments [N, H, W, C] of any size from 32 on, odd too, into logits [N, H, W, num_classes].

    Encoder: the convolutions of VGG with 16 or 19 layers, each with BatchNorm and ReLU. The decoder
    mirrors it: after unpooling the convolution against each one of the encoder; the last gives the
    logits. SegNet is the form with 16; the paper lists it with "VGG16 segmentation", which is the
    same network, and "VGG19 segmentation".
    """

    depth: int = 16
    least_side: ClassVar[int] = 32

    @property
    def encoder(self) -> str:
        return f"vgg{self.depth}_bn"

    def encoder_path(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        return place_in_vgg(path, self.depth)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        stages = [(width,) * k for width, k in zip(WIDTHS, DEPTHS[self.depth], strict=True)]
        return self.segment(x, stages, train)


class PlainSegNet(MirroredNetwork):
    """Segments [N, H, W, C] into logits [N, H, W, num_classes]; odd sizes too, from 2**depth on.

    Encoder stage, `depth` times: conv-BN-ReLU twice, pooling; decoder stage: unpooling,
    conv-BN-ReLU twice; `width` filters everywhere. The last convolution gives the logits.
    """

    depth: int = 4
    width: int = 64

    @property
    def smallest(self) -> int:
        return 2**self.depth

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        return self.segment(x, [(self.width, self.width)] * self.depth, train)
