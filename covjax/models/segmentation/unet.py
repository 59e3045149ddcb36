"""U-Net: every stage of the encoder hands its features to the decoder stage of the same size.

Source: "U-Net: Convolutional Networks for Biomedical Image Segmentation", arXiv:1505.04597.
Convolutions here are padded, so that logits are of the input's size; dropout follows the bridge.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.nn.blocks import block, check_fields, encode, part, unpool
from covjax.nn.layers import Conv, Dropout, Dtype, require_side
from covjax.ops.pool import Kept


class UNet(nn.Module):
    """Segments [N, H, W, C] into logits [N, H, W, num_classes]; any size, odd ones too (H, W >=
    2**depth).

    `width` filters in the first of `depth` encoder stages, doubled in each next one and in the
    bridge. The published network has no BatchNorm; `batch_norm` puts one after every 3x3
    convolution. Other unpoolings than the transposed convolution follow a 1x1 convolution that
    halves the features as it does.
    """

    num_classes: int = 2
    depth: int = 4
    width: int = 64
    batch_norm: bool = False
    encoder_smoothing: str = "none"
    encoder_pooling: str = "max"
    decoder_unpooling: str = "transposed_conv"
    decoder_smoothing: str = "none"
    dtype: Dtype = jnp.float32
    remat: bool = False

    def __post_init__(self):
        super().__post_init__()
        check_fields(self, "depth", "width")

    @property
    def smallest(self) -> int:
        return 2**self.depth

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        require_side(self, x)
        skips = []
        for stage in range(1, self.depth + 1):
            widths = (self.width * 2 ** (stage - 1),) * 2
            full, x, kept = part(self, partial(encode, stage=stage, widths=widths, train=train))(
                self, x
            )
            skips.append((full, kept))
        x = part(self, partial(_bridge, train=train))(self, x)
        for stage in range(self.depth, 0, -1):
            x = part(self, partial(_decode, stage=stage, train=train))(self, x, *skips.pop())
        return Conv(self.num_classes, 1, dtype=self.dtype, name="logits")(x).astype(jnp.float32)


def _bridge(net: UNet, x: jax.Array, *, train: bool) -> jax.Array:
    for k in (1, 2):
        x = block(net, x, net.width * 2**net.depth, f"bridge_conv{k}", train)
    return Dropout(0.5)(x, train=train)


def _decode(
    net: UNet, x: jax.Array, full: jax.Array, kept: Kept, *, stage: int, train: bool
) -> jax.Array:
    features = net.width * 2 ** (stage - 1)
    if net.decoder_unpooling != "transposed_conv":
        x = Conv(features, 1, dtype=net.dtype, name=f"decoder{stage}_halving")(x)
    x = unpool(net, x, kept, size=full.shape[1:3], stage=stage, train=train, features=features)
    x = jnp.concatenate([full, x], -1)
    for k in (2, 1):
        x = block(net, x, features, f"decoder{stage}_conv{k}", train)
    return x
