"""The few layers that every network shares. One convolution layer, so that a faster kernel serves all."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from covjax.convolution import conv2d

Dtype = jnp.dtype | type

BATCH_NORM_MOMENTUM = 0.9
BATCH_NORMS = {
    "running": "moving average over the last batches of training",
    "training_set": "mean and variance over the training part in whole batches, as the released network was finalised",
}

glorot = nn.initializers.glorot_uniform()


class Conv(nn.Module):
    """Convolution [N, H, W, C] -> [N, H', W', features], symmetrically zero-padded by k//2 * dilation pixels.

    Padded explicitly because "SAME" pads a strided convolution of an even side on one side only, unlike the networks
    reimplemented here.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    use_bias: bool = True
    dtype: Dtype = jnp.float32
    kernel_init: Callable = glorot

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        y = conv2d(x.astype(self.dtype), kernel, stride=self.stride, dilation=self.dilation, groups=self.groups)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return y


class ConvBN(nn.Module):
    """Convolution, BatchNorm (epsilon 1e-5, momentum 0.9, synchronised over `axis_name`) and, if asked, ReLU."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    use_bias: bool = True
    relu: bool = True
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = Conv(self.features, self.kernel_size, self.stride, use_bias=self.use_bias, dtype=self.dtype, name="conv")(x)
        x = nn.BatchNorm(
            use_running_average=not train,
            momentum=BATCH_NORM_MOMENTUM,
            epsilon=1e-5,
            dtype=self.dtype,
            axis_name=self.axis_name,
            name="bn",
        )(x)
        return nn.relu(x) if self.relu else x


class Dropout(nn.Module):
    """Dropout whose mask depends on a sample's place in the global batch, not on how devices share that batch."""

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        if not train or self.rate == 0.0:
            return x
        key = self.make_rng("dropout")
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, global_positions(x.shape[0], self.axis_name))
        keep = jax.vmap(lambda k: jax.random.bernoulli(k, 1.0 - self.rate, x.shape[1:]))(keys)
        return jnp.where(keep, x / (1.0 - self.rate), 0).astype(x.dtype)


def global_positions(local_size: int, axis_name: str | None) -> jax.Array:
    """Returns each local sample's position [local_size] int32 in the global batch."""
    first = 0 if axis_name is None else lax.axis_index(axis_name) * local_size
    return first + jnp.arange(local_size)
