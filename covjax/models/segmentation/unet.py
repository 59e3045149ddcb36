"""U-Net: every stage of the encoder hands its features to the decoder stage of the same size.

Source: "U-Net: Convolutional Networks for Biomedical Image Segmentation", arXiv:1505.04597.
Convolutions here are padded, so that logits are of the input's size; dropout follows the bridge.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.nn.encoder_decoder import PoolingNetwork
from covjax.nn.layers import Conv, Dropout
from covjax.ops.kept import Kept


class UNet(PoolingNetwork):
    """Segments [N, H, W, C] into logits [N, H, W, num_classes]; odd sizes too, from 2**depth on.

    `width` filters in the first of `depth` encoder stages, doubled in each next one and in the
    bridge. The published network has no BatchNorm; `batch_norm` puts one after every 3x3
    convolution. Other unpoolings than the transposed convolution follow a 1x1 convolution that
    halves the features as it does.
    """

    depth: int = 4
    width: int = 64
    batch_norm: bool = False
    decoder_unpooling: str = "transposed_conv"

    @property
    def smallest(self) -> int:
        return 2**self.depth

    @property
    def normalises(self) -> bool:
        return self.batch_norm

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        self.require_side(x)
        skips: list[tuple[jax.Array, Kept]] = []
        for stage in range(1, self.depth + 1):
            widths = (self.width * 2 ** (stage - 1),) * 2
            full, x, kept = self.run(UNet.encode, x, stage=stage, widths=widths, train=train)
            skips.append((full, kept))
        x = self.run(UNet.bridge, x, train=train)
        for stage in range(self.depth, 0, -1):
            x = self.run(UNet.join, x, *skips.pop(), stage=stage, train=train)
        return Conv(self.num_classes, 1, dtype=self.dtype, name="logits")(x).astype(jnp.float32)

    def bridge(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Applies what lies below the last pooling."""
        for k in (1, 2):
            x = self.block(x, self.width * 2**self.depth, f"bridge_conv{k}", train=train)
        return Dropout(0.5)(x, train=train)

    def join(
        self, x: jax.Array, full: jax.Array, kept: Kept, *, stage: int, train: bool
    ) -> jax.Array:
        """Applies a decoder stage, which joins the encoder's features `full`."""
        features = self.width * 2 ** (stage - 1)
        if self.decoder_unpooling != "transposed_conv":
            x = Conv(features, 1, dtype=self.dtype, name=f"decoder{stage}_halving")(x)
        rows, columns = full.shape[1:3]
        form = {"size": (rows, columns), "stage": stage, "features": features}
        x = self.unpool(x, kept, train=train, **form)
        x = jnp.concatenate([full, x], -1)
        for k in (2, 1):
            x = self.block(x, features, f"decoder{stage}_conv{k}", train=train)
        return x
