"""The few layers that every network shares. One convolution layer, so that a faster kernel serves all."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from covjax.convolution import conv2d
from covjax.normalization import batch_norm, normalize

Dtype = jnp.dtype | type

BATCH_NORM_MOMENTUM, BATCH_NORM_EPSILON = 0.9, 1e-5
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


class BatchNorm(nn.Module):
    """BatchNorm of [N, H, W, C] (epsilon 1e-5, momentum 0.9, synchronised over `axis_name`) and, if asked, ReLU.

    Parameters and statistics are named as in flax.linen.BatchNorm.
    """

    relu: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        variance = self.variable("batch_stats", "var", jnp.ones, channels)
        if not train:
            return normalize(x, mean.value, variance.value, scale, bias, epsilon=BATCH_NORM_EPSILON, relu=self.relu)
        y, *moments = batch_norm(x, scale, bias, epsilon=BATCH_NORM_EPSILON, relu=self.relu, axis_name=self.axis_name)
        if not self.is_initializing():
            for average, new in zip((mean, variance), moments, strict=True):
                average.value = BATCH_NORM_MOMENTUM * average.value + (1 - BATCH_NORM_MOMENTUM) * new
        return y


class ConvBN(nn.Module):
    """Convolution, BatchNorm and, if asked, ReLU."""

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
        return BatchNorm(self.relu, self.axis_name, name="bn")(x, train=train)


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


def expose(module: nn.Module, name: str, x: jax.Array) -> jax.Array:
    """Lets callers read `x` as ("intermediates", name) and differentiate by it: add ("perturbations", name) to it.

    Returns x, plus the perturbation if the caller passes one. Unlike `module.perturb` it leaves nothing in the
    variables that `init` returns, which would tie them to the size of one batch.
    """
    module.sow("intermediates", name, x)
    if module.has_variable("perturbations", name):
        x = x + module.get_variable("perturbations", name).astype(x.dtype)
    return x


def global_positions(local_size: int, axis_name: str | None) -> jax.Array:
    """Returns each local sample's position [local_size] int32 in the global batch."""
    first = 0 if axis_name is None else lax.axis_index(axis_name) * local_size
    return first + jnp.arange(local_size)
