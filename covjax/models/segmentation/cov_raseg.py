"""CoV-RASeg, the segmenter of the paper: average pooling smooths regions, max pooling keeps
boundaries.

Source: "Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep
Convolutional Neural Networks", arXiv:2009.08864, and the layer list of the network its authors
released (43 layers, 373,126 parameters).
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.errors import InputError, unknown
from covjax.nn.blocks import check_fields
from covjax.nn.layers import Conv, ConvBN, Dtype, glorot
from covjax.nn.pooling import Pool, Unpool
from covjax.ops.pool import Kept

FINALS = {
    "relu": "conv3x3-BN-ReLU before the softmax, as released",
    "linear": "conv3x3-BN, no ReLU: learns where lesions are rare",
    "sigmoid2x2": "one 2x2 convolution and a sigmoid, as the paper's text says (two classes only)",
}


class CovRASeg(nn.Module):
    """Segments [N, H, W, C] into logits [N, H, W, num_classes]; any size, odd ones too (H, W >= 4).

    Encoder e: conv1-BN-ReLU, conv2-BN-ReLU, smoothing, conv3-ReLU, pooling. Decoder d: unpooling,
    conv3-ReLU, smoothing, conv2-BN-ReLU, conv1-BN-ReLU. No skips but what the pooling keeps. The
    paper smooths by an average-pool of stride 1 and pools by a maximum whose indices unpool; others
    by name.
    """

    num_classes: int = 2
    features: int = 64
    final: str = "relu"
    encoder_smoothing: str = "avg"
    encoder_pooling: str = "max"
    decoder_unpooling: str = "indices"
    decoder_smoothing: str = "avg"
    dtype: Dtype = jnp.float32
    remat: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.final not in FINALS:
            raise unknown("model option final", self.final, FINALS)
        check_fields(self, "features")
        if self.final == "sigmoid2x2" and self.num_classes != 2:
            raise InputError(
                f"model option final: 'sigmoid2x2' is for 2 classes, not {self.num_classes}, use 'linear'"
            )

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        remat = nn.remat if self.remat else lambda function: function
        stack = []
        for stage in ("encoder1", "encoder2"):
            size = x.shape[1:3]
            x, kept = remat(partial(_encode, stage=stage, train=train))(self, x)
            stack.append((kept, size))
        for stage in ("decoder2", "decoder1"):
            kept, size = stack.pop()
            x = remat(partial(_decode, size=size, stage=stage, train=train))(self, x, kept)
        return self._sigmoid_logits(x) if self.final == "sigmoid2x2" else x.astype(jnp.float32)

    def block(
        self, x: jax.Array, name: str, train: bool, features: int | None = None, relu: bool = True
    ) -> jax.Array:
        layer = ConvBN(
            features or self.features,
            use_bias=True,
            activation="relu" if relu else None,
            kernel_init=glorot,
            dtype=self.dtype,
            name=name,
        )
        return layer(x, train=train)

    def third(self, x: jax.Array, name: str) -> jax.Array:
        return nn.relu(Conv(self.features, dtype=self.dtype, name=name)(x))

    def smooth(self, x: jax.Array, kind: str, name: str, train: bool) -> jax.Array:
        return Pool(kind, stride=1, name=name)(x, train=train)[0]

    def pool(self, x: jax.Array, name: str, train: bool) -> tuple[jax.Array, Kept]:
        return Pool(self.encoder_pooling, name=name)(x, train=train)

    def unpool(self, x: jax.Array, kept: Kept, size: tuple[int, int], name: str) -> jax.Array:
        return Unpool(self.decoder_unpooling, name=name)(x, kept, size)

    def _sigmoid_logits(self, x: jax.Array) -> jax.Array:
        """A sigmoid of z is the softmax of (0, z), so the one-filter head fits the same loss and
        metrics.
        """
        x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
        kernel = self.param(
            "final_kernel", nn.initializers.glorot_uniform(), (2, 2, x.shape[-1], 1)
        )
        bias = self.param("final_bias", nn.initializers.zeros, (1,))
        z = (
            jax.lax.conv_general_dilated(
                x,
                kernel.astype(x.dtype),
                (1, 1),
                "VALID",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            ).astype(jnp.float32)
            + bias
        )
        return jnp.concatenate([jnp.zeros_like(z), z], -1)


def _encode(net: CovRASeg, x: jax.Array, *, stage: str, train: bool) -> tuple[jax.Array, Kept]:
    x = net.block(x, f"{stage}_conv1", train)
    x = net.block(x, f"{stage}_conv2", train)
    x = net.smooth(x, net.encoder_smoothing, f"{stage}_smoothing", train)
    return net.pool(net.third(x, f"{stage}_conv3"), f"{stage}_pooling", train)


def _decode(
    net: CovRASeg, x: jax.Array, kept: Kept, *, size: tuple[int, int], stage: str, train: bool
) -> jax.Array:
    x = net.third(net.unpool(x, kept, size, f"{stage}_unpooling"), f"{stage}_conv3")
    x = net.block(
        net.smooth(x, net.decoder_smoothing, f"{stage}_smoothing", train), f"{stage}_conv2", train
    )
    if stage == "decoder2":
        return net.block(x, f"{stage}_conv1", train)
    if net.final == "sigmoid2x2":
        return x
    return net.block(x, f"{stage}_conv1", train, net.num_classes, relu=net.final == "relu")
