"""The few layers that every network shares.

There is one convolution layer, so that a faster kernel serves all.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.ops.batch_norm import batch_norm, normalize
from covjax.ops.checks import check_images
from covjax.ops.convolution import Padding, conv2d
from covjax.ops.sides import Pair
from covjax.ops.synchronise import global_positions

Dtype = jnp.dtype | type
Initializer = Callable[..., jax.Array]

BATCH_NORM_MOMENTUM = 0.9
BATCH_NORMS = {
    "running": "moving average over the last batches of training",
    "training_set": "mean and variance over the training split in whole batches, "
    "as the released network was finalised",
}

glorot: Initializer = nn.initializers.glorot_uniform()
he: Initializer = nn.initializers.he_normal()  # for what a ReLU follows


class Conv(nn.Module):
    """Convolution [N, H, W, C] -> [N, H', W', features]; sizes are a number or (rows, columns).

    By default padded by k//2 * dilation pixels on every side, because "SAME" pads a strided
    convolution of an even side on one side only, unlike most networks reimplemented here;
    padding="same" is for those that were trained with it.
    """

    features: int
    kernel_size: int | Pair = 3
    stride: int = 1
    dilation: int = 1
    padding: Padding = None
    groups: int = 1
    use_bias: bool = True
    dtype: Dtype = jnp.float32
    kernel_init: Initializer = glorot

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        check_images("image", x)
        size = self.kernel_size
        rows, columns = (size, size) if isinstance(size, int) else size
        shape = (rows, columns, x.shape[-1] // self.groups, self.features)
        y = conv2d(
            x.astype(self.dtype),
            self.param("kernel", self.kernel_init, shape).astype(self.dtype),
            stride=self.stride,
            dilation=self.dilation,
            padding=self.padding,
            groups=self.groups,
        )
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return y


class BatchNorm(nn.Module):
    """BatchNorm of [N, H, W, C] (momentum 0.9, see `synchronised`) and its activation.

    `activation` is None, "relu" or "relu6". Parameters and statistics are named as in
    flax.linen.BatchNorm.
    """

    activation: str | None = None
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        variance = self.variable("batch_stats", "var", jnp.ones, channels)
        if not train:
            return normalize(
                x,
                mean.value,
                variance.value,
                scale,
                bias,
                epsilon=self.epsilon,
                activation=self.activation,
            )
        y, *moments = batch_norm(x, scale, bias, epsilon=self.epsilon, activation=self.activation)
        if not self.is_initializing():
            for average, new in zip((mean, variance), moments, strict=True):
                kept = BATCH_NORM_MOMENTUM * average.value
                average.value = kept + (1 - BATCH_NORM_MOMENTUM) * new
        return y


class ConvBN(nn.Module):
    """Convolution, "conv", without a bias by default, and BatchNorm, "bn", with its activation."""

    features: int
    kernel_size: int | Pair = 3
    stride: int = 1
    dilation: int = 1
    padding: Padding = None
    groups: int = 1
    use_bias: bool = False
    activation: str | None = "relu"
    epsilon: float = 1e-5
    kernel_init: Initializer = he
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = Conv(
            self.features,
            self.kernel_size,
            self.stride,
            dilation=self.dilation,
            padding=self.padding,
            groups=self.groups,
            use_bias=self.use_bias,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="conv",
        )(x)
        return BatchNorm(self.activation, self.epsilon, name="bn")(x, train=train)


class Dropout(nn.Module):
    """Dropout whose mask depends on a sample's place in the global batch.

    How devices share that batch makes no difference.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        if not train or self.rate == 0.0:
            return x

        def kept(key: jax.Array) -> jax.Array:
            return jax.random.bernoulli(key, 1.0 - self.rate, x.shape[1:])

        keep = jax.vmap(kept)(sample_keys(self.make_rng("dropout"), len(x)))
        return jnp.where(keep, x / (1.0 - self.rate), 0).astype(x.dtype)


def sample_keys(key: jax.Array, local_size: int) -> jax.Array:
    """Returns a random key for each local sample, by its place in the global batch."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, global_positions(local_size))


def expose(module: nn.Module, name: str, x: jax.Array) -> jax.Array:
    """Lets callers read `x` as ("intermediates", name) and differentiate by it.

    For that, add ("perturbations", name) to the variables: it is added to the x that is returned.
    Unlike `module.perturb` this leaves nothing in the variables that `init` returns, which would
    tie them to the size of one batch.
    """
    module.sow("intermediates", name, x)
    if module.has_variable("perturbations", name):
        perturbation = module.get_variable("perturbations", name)
        chex.assert_equal_shape((x, perturbation))
        x = x + perturbation.astype(x.dtype)
    return x


def channel_shuffle(x: jax.Array, groups: int) -> jax.Array:
    """Deals the channels of x [N, H, W, C] out so that each of `groups` parts has some of all.

    Channel j of part i becomes channel j * groups + i. Source: arXiv:1707.01083.
    """
    return x.reshape(*x.shape[:-1], groups, -1).swapaxes(-1, -2).reshape(x.shape)
