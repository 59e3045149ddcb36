"""The few layers that every network shares. One convolution layer, so that a faster kernel serves
all.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.errors import InputError
from covjax.ops.batch_norm import batch_norm, normalize
from covjax.ops.checks import check_images
from covjax.ops.convolution import Pair, conv2d
from covjax.ops.synchronise import global_positions

Dtype = jnp.dtype | type

BATCH_NORM_MOMENTUM = 0.9
BATCH_NORMS = {
    "running": "moving average over the last batches of training",
    "training_set": "mean and variance over the training part in whole batches, as the released network was finalised",
}

glorot = nn.initializers.glorot_uniform()
he = nn.initializers.he_normal()  # for what a ReLU follows


class Conv(nn.Module):
    """Convolution [N, H, W, C] -> [N, H', W', features]; kernel and padding are one number or
    (rows, columns).

    Padded explicitly, by k//2 * dilation pixels if not told, because "SAME" pads a strided
    convolution of an even side on one side only, unlike most networks reimplemented here;
    padding="same" is for those that were trained with it.
    """

    features: int
    kernel_size: int | Pair = 3
    stride: int = 1
    dilation: int = 1
    padding: int | Pair | str | None = None
    groups: int = 1
    use_bias: bool = True
    dtype: Dtype = jnp.float32
    kernel_init: Callable = glorot

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        check_images("image", x)
        size = (self.kernel_size,) * 2 if isinstance(self.kernel_size, int) else self.kernel_size
        shape = (*size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        moves = {
            "stride": self.stride,
            "dilation": self.dilation,
            "padding": self.padding,
            "groups": self.groups,
        }
        y = conv2d(x.astype(self.dtype), kernel, **moves)
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
        form = {"epsilon": self.epsilon, "activation": self.activation}
        if not train:
            return normalize(x, mean.value, variance.value, scale, bias, **form)
        y, *moments = batch_norm(x, scale, bias, **form)
        if not self.is_initializing():
            for average, new in zip((mean, variance), moments, strict=True):
                average.value = (
                    BATCH_NORM_MOMENTUM * average.value + (1 - BATCH_NORM_MOMENTUM) * new
                )
        return y


class ConvBN(nn.Module):
    """Convolution, "conv", without a bias if not told, and BatchNorm, "bn", with its activation."""

    features: int
    kernel_size: int | Pair = 3
    stride: int = 1
    dilation: int = 1
    padding: int | Pair | str | None = None
    groups: int = 1
    use_bias: bool = False
    activation: str | None = "relu"
    epsilon: float = 1e-5
    kernel_init: Callable = he
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
    """Dropout whose mask depends on a sample's place in the global batch, not on how devices share
    that batch.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        if not train or self.rate == 0.0:
            return x
        key = self.make_rng("dropout")
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, global_positions(x.shape[0]))
        keep = jax.vmap(lambda k: jax.random.bernoulli(k, 1.0 - self.rate, x.shape[1:]))(keys)
        return jnp.where(keep, x / (1.0 - self.rate), 0).astype(x.dtype)


def expose(module: nn.Module, name: str, x: jax.Array) -> jax.Array:
    """Lets callers read `x` as ("intermediates", name) and differentiate by it: add
    ("perturbations", name) to it.

    Returns x, plus the perturbation if the caller passes one. Unlike `module.perturb` it leaves
    nothing in the variables that `init` returns, which would tie them to the size of one batch.
    """
    module.sow("intermediates", name, x)
    if module.has_variable("perturbations", name):
        x = x + module.get_variable("perturbations", name).astype(x.dtype)
    return x


def channel_shuffle(x: jax.Array, groups: int) -> jax.Array:
    """Deals the channels of x [N, H, W, C] out so that each of `groups` parts has some of all.

    Channel j of part i becomes channel j * groups + i. Source: arXiv:1707.01083.
    """
    return x.reshape(*x.shape[:-1], groups, -1).swapaxes(-1, -2).reshape(x.shape)


def require_side(module: nn.Module, x: jax.Array) -> None:
    """Raises InputError if the image x [N, H, W, C] is smaller than the network's strides can
    take.
    """
    name = module.name or type(module).__name__
    check_images(f"model {name}: image", x)
    side = min(x.shape[1:3])
    smallest = module.smallest
    if side < smallest:
        raise InputError(
            f"model {name}: an input of {x.shape[1]}x{x.shape[2]} is too small, use {smallest} or more"
        )
