"""What the segmentation networks share: a convolution block, an encoder stage and a decoder stage
around pooling.

A network hands itself in and has the fields `dtype` and `remat`; one that calls
`encode` or `decode` also has the four pooling fields of `covjax.pooling` and `batch_norm`.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.errors import InputError
from covjax.nn.layers import BatchNorm, Conv, Dtype, he
from covjax.nn.pooling import Pool, Unpool
from covjax.ops.pool import Kept
from covjax.ops.unpool import check_pooling

Size = tuple[int, int]


class ConvBlock(nn.Module):
    """Convolution with bias, "conv", BatchNorm, "bn", unless told not, and ReLU."""

    features: int
    kernel_size: int = 3
    dilation: int = 1
    batch_norm: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        form = {"dilation": self.dilation, "kernel_init": he, "dtype": self.dtype}
        x = Conv(self.features, self.kernel_size, name="conv", **form)(x)
        if not self.batch_norm:
            return nn.relu(x)
        return BatchNorm("relu", name="bn")(x, train=train)


def check_fields(net: nn.Module, *counts: str) -> None:
    """Raises InputError if the four pooling fields of `net` do not fit together or a field of
    `counts` is below 1.
    """
    check_pooling(
        net.encoder_smoothing, net.encoder_pooling, net.decoder_unpooling, net.decoder_smoothing
    )
    for field in counts:
        if getattr(net, field) < 1:
            raise InputError(f"model option {field}: {getattr(net, field)} must be at least 1")


def block(
    net: nn.Module, x: jax.Array, features: int, name: str, train: bool, **options: int
) -> jax.Array:
    """Applies a ConvBlock of network `net`."""
    common = {"batch_norm": net.batch_norm, "dtype": net.dtype}
    return ConvBlock(features, **common, **options, name=name)(x, train=train)


def part(net: nn.Module, function: Callable) -> Callable:
    """Returns `function` (net, *arrays), computed again for the gradient if the network has `remat`
    set.
    """
    return nn.remat(function) if net.remat else function


def encode(
    net: nn.Module, x: jax.Array, *, stage: int, widths: Sequence[int], train: bool
) -> tuple[jax.Array, jax.Array, Kept]:
    """Applies the blocks of an encoder stage, smoothing, pooling; returns (what was pooled, pooled,
    kept).
    """
    for k, features in enumerate(widths, 1):
        x = block(net, x, features, f"encoder{stage}_conv{k}", train)
    smoothing = Pool(net.encoder_smoothing, stride=1, name=f"encoder{stage}_smoothing")
    x, _ = smoothing(x, train=train)
    pooling = Pool(net.encoder_pooling, name=f"encoder{stage}_pooling")
    return x, *pooling(x, train=train)


def unpool(
    net: nn.Module,
    x: jax.Array,
    kept: Kept,
    *,
    size: Size,
    stage: int,
    train: bool,
    features: int | None = None,
) -> jax.Array:
    """Applies unpooling to `size` and smoothing of a decoder stage; a transposed convolution gives
    `features`.
    """
    x = Unpool(net.decoder_unpooling, features=features, name=f"decoder{stage}_unpooling")(
        x, kept, size
    )
    smoothing = Pool(net.decoder_smoothing, stride=1, name=f"decoder{stage}_smoothing")
    return smoothing(x, train=train)[0]


def decode(
    net: nn.Module,
    x: jax.Array,
    kept: Kept,
    *,
    size: Size,
    stage: int,
    widths: Sequence[int],
    train: bool,
) -> jax.Array:
    """Applies unpooling, smoothing and blocks of the widths that stand in encoder order: the last
    comes first.
    """
    x = unpool(net, x, kept, size=size, stage=stage, train=train)
    for k, features in reversed(list(enumerate(widths, 1))):
        x = block(net, x, features, f"decoder{stage}_conv{k}", train)
    return x
