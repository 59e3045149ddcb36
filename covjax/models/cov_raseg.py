"""CoV-RASeg, the segmenter of the paper: average pooling smooths regions, max pooling keeps boundaries.

Source: "Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep Convolutional Neural
Networks", arXiv:2009.08864, and the layer list of the network its authors released (43 layers, 373,126 parameters).
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.errors import InputError, unknown
from covjax.layers import Conv, ConvBN, Dtype, glorot
from covjax.pooling import HighBands, Switches, pool2d, unpool2d

FINALS = {
    "relu": "conv3x3-BN-ReLU before the softmax, as released",
    "linear": "conv3x3-BN, no ReLU: learns where lesions are rare",
    "sigmoid2x2": "one 2x2 convolution and a sigmoid, as the paper's text says (two classes only)",
}
UNPOOLING_OF = {"max": "indices", "haar": "haar", "haar_bands": "haar"}  # poolings that can be undone


class CovRASeg(nn.Module):
    """Segments [N, H, W, C] into logits [N, H, W, num_classes]; any size, odd ones too (H, W >= 4).

    Encoder e: conv1-BN-ReLU, conv2-BN-ReLU, average-pool stride 1, conv3-ReLU, max-pool keeping its indices.
    Decoder d: unpool, conv3-ReLU, average-pool stride 1, conv2-BN-ReLU, conv1-BN-ReLU. No skips but the indices.
    `pooling` may put a Haar transform in place of the max-pool, its inverse in place of the unpooling.
    """

    num_classes: int = 2
    features: int = 64
    final: str = "relu"
    pooling: str = "max"
    dtype: Dtype = jnp.float32
    axis_name: str | None = None
    remat: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.final not in FINALS:
            raise unknown("model option final", self.final, FINALS)
        if self.pooling not in UNPOOLING_OF:
            raise unknown("model option pooling", self.pooling, UNPOOLING_OF)
        if self.final == "sigmoid2x2" and self.num_classes != 2:
            raise InputError(f"model option final: 'sigmoid2x2' is for 2 classes, not {self.num_classes}, use 'linear'")
        if self.features < 1:
            raise InputError(f"model option features: {self.features} must be at least 1")

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        remat = nn.remat if self.remat else lambda function: function
        stack = []
        for stage in ("encoder1", "encoder2"):
            x, kept = remat(partial(_encode, stage=stage, train=train))(self, x)
            stack.append(kept)
        for stage in ("decoder2", "decoder1"):
            x = remat(partial(_decode, stage=stage, train=train))(self, x, stack.pop())
        return self._sigmoid_logits(x) if self.final == "sigmoid2x2" else x.astype(jnp.float32)

    def block(self, x: jax.Array, name: str, train: bool, features: int | None = None, relu: bool = True) -> jax.Array:
        layer = ConvBN(
            features or self.features,
            use_bias=True,
            activation="relu" if relu else None,
            kernel_init=glorot,
            dtype=self.dtype,
            axis_name=self.axis_name,
            name=name,
        )
        return layer(x, train=train)

    def third(self, x: jax.Array, name: str) -> jax.Array:
        return nn.relu(Conv(self.features, dtype=self.dtype, name=name)(x))

    def _sigmoid_logits(self, x: jax.Array) -> jax.Array:
        """A sigmoid of z is the softmax of (0, z), so the one-filter head fits the same loss and metrics."""
        x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
        kernel = self.param("final_kernel", nn.initializers.glorot_uniform(), (2, 2, x.shape[-1], 1))
        bias = self.param("final_bias", nn.initializers.zeros, (1,))
        z = (
            jax.lax.conv_general_dilated(
                x, kernel.astype(x.dtype), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
            ).astype(jnp.float32)
            + bias
        )
        return jnp.concatenate([jnp.zeros_like(z), z], -1)


def _smooth(x: jax.Array) -> jax.Array:
    return pool2d(x, "avg", window=2, stride=1)[0]


def _encode(net: CovRASeg, x: jax.Array, *, stage: str, train: bool) -> tuple[jax.Array, Switches | HighBands]:
    x = net.block(x, f"{stage}_conv1", train)
    x = net.block(x, f"{stage}_conv2", train)
    x = net.third(_smooth(x), f"{stage}_conv3")
    return pool2d(x, net.pooling)


def _decode(net: CovRASeg, x: jax.Array, kept: Switches | HighBands, *, stage: str, train: bool) -> jax.Array:
    x = net.third(unpool2d(x, kept, UNPOOLING_OF[net.pooling]), f"{stage}_conv3")
    x = net.block(_smooth(x), f"{stage}_conv2", train)
    if stage == "decoder2":
        return net.block(x, f"{stage}_conv1", train)
    if net.final == "sigmoid2x2":
        return x
    return net.block(x, f"{stage}_conv1", train, net.num_classes, relu=net.final == "relu")
