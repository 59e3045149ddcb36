"""What segmentation networks share whose pooling and unpooling are chosen by name."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.nn.layers import BatchNorm, Conv, Dtype, he
from covjax.nn.network import Network
from covjax.nn.pooling import Pool, Unpool
from covjax.ops.fitting import check_pooling
from covjax.ops.kept import Kept
from covjax.ops.sides import Pair


class ConvBlock(nn.Module):
    """Convolution with bias, "conv", BatchNorm, "bn", if it has one, and ReLU."""

    features: int
    kernel_size: int = 3
    batch_norm: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        conv = Conv(self.features, self.kernel_size, kernel_init=he, dtype=self.dtype, name="conv")
        if not self.batch_norm:
            return nn.relu(conv(x))
        return BatchNorm("relu", name="bn")(conv(x), train=train)


class PoolingNetwork(Network):
    """A segmentation network that poolings and unpoolings of `covjax.pooling` can be tried in.

    Raises InputError for a name that is unknown or an unpooling that does not fit the pooling.
    """

    encoder_smoothing: str = "none"
    encoder_pooling: str = "max"
    decoder_unpooling: str = "indices"
    decoder_smoothing: str = "none"

    def __post_init__(self):
        super().__post_init__()
        check_pooling(
            self.encoder_smoothing,
            self.encoder_pooling,
            self.decoder_unpooling,
            self.decoder_smoothing,
        )

    @property
    def normalises(self) -> bool:
        """Whether a BatchNorm follows every 3x3 convolution."""
        return True

    def block(
        self, x: jax.Array, features: int, name: str, *, kernel_size: int = 3, train: bool
    ) -> jax.Array:
        """Applies a ConvBlock."""
        layer = ConvBlock(features, kernel_size, self.normalises, self.dtype, name=name)
        return layer(x, train=train)

    def smooth(self, x: jax.Array, kind: str, name: str, *, train: bool) -> jax.Array:
        """Applies a pooling at stride 1, which keeps the size."""
        return Pool(kind, stride=1, name=name)(x, train=train)[0]

    def encode(
        self, x: jax.Array, *, stage: int, widths: Sequence[int], train: bool
    ) -> tuple[jax.Array, jax.Array, Kept]:
        """Applies blocks, smoothing and pooling; returns (what was pooled, pooled, kept)."""
        for k, features in enumerate(widths, 1):
            x = self.block(x, features, f"encoder{stage}_conv{k}", train=train)
        x = self.smooth(x, self.encoder_smoothing, f"encoder{stage}_smoothing", train=train)
        pooled, kept = Pool(self.encoder_pooling, name=f"encoder{stage}_pooling")(x, train=train)
        return x, pooled, kept

    def unpool(
        self,
        x: jax.Array,
        kept: Kept,
        *,
        size: Pair,
        stage: int,
        train: bool,
        features: int | None = None,
    ) -> jax.Array:
        """Applies unpooling to `size` and smoothing; a transposed convolution gives `features`."""
        unpooling = Unpool(
            self.decoder_unpooling, features=features, name=f"decoder{stage}_unpooling"
        )
        x = unpooling(x, kept, size)
        return self.smooth(x, self.decoder_smoothing, f"decoder{stage}_smoothing", train=train)

    def decode(
        self,
        x: jax.Array,
        kept: Kept,
        *,
        size: Pair,
        stage: int,
        widths: Sequence[int],
        train: bool,
    ) -> jax.Array:
        """Applies unpooling, smoothing and blocks of `widths`, the encoder's last one first."""
        x = self.unpool(x, kept, size=size, stage=stage, train=train)
        for k, features in reversed(list(enumerate(widths, 1))):
            x = self.block(x, features, f"decoder{stage}_conv{k}", train=train)
        return x
