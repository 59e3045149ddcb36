"""CoV-RASeg, the paper's segmenter: average pooling smooths regions, max pooling keeps borders.

Source: "Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep
Convolutional Neural Networks", arXiv:2009.08864, and the layer list of the network its authors
released (43 layers, 373,126 parameters).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from covjax.errors import InputError, unknown
from covjax.nn.encoder_decoder import PoolingNetwork
from covjax.nn.layers import Conv, glorot
from covjax.nn.network import ConvOptions
from covjax.nn.pooling import Pool, Unpool
from covjax.ops.kept import Kept
from covjax.ops.sides import Pair

FINALS = {
    "relu": "conv3x3-BN-ReLU before the softmax, as released",
    "linear": "conv3x3-BN, no ReLU: learns where lesions are rare",
    "sigmoid2x2": "one 2x2 convolution and a sigmoid, as the paper's text says (two classes only)",
}


class CovRASeg(PoolingNetwork):
    """Segments [N, H, W, C] into logits [N, H, W, num_classes]; any size, odd ones too (H, W >= 4).

    Encoder e: conv1-BN-ReLU, conv2-BN-ReLU, smoothing, conv3-ReLU, pooling. Decoder d: unpooling,
    conv3-ReLU, smoothing, conv2-BN-ReLU, conv1-BN-ReLU. No skips but what the pooling keeps. The
    paper smooths by an average-pool of stride 1 and pools by a maximum whose indices unpool; others
    by name.
    """

    features: int = 64
    final: str = "relu"
    encoder_smoothing: str = "avg"
    decoder_smoothing: str = "avg"

    def __post_init__(self):
        super().__post_init__()
        if self.final not in FINALS:
            raise unknown("model option final", self.final, FINALS)
        if self.final == "sigmoid2x2" and self.num_classes != 2:
            raise InputError(
                f"model option final: 'sigmoid2x2' is for 2 classes, not {self.num_classes}, "
                "use 'linear'"
            )

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        stack: list[tuple[Kept, Pair]] = []
        for stage in ("encoder1", "encoder2"):
            rows, columns = x.shape[1:3]
            x, kept = self.run(CovRASeg.encoded, x, stage=stage, train=train)
            stack.append((kept, (rows, columns)))
        for stage in ("decoder2", "decoder1"):
            kept, size = stack.pop()
            x = self.run(CovRASeg.decoded, x, kept, size=size, stage=stage, train=train)
        return self._sigmoid_logits(x) if self.final == "sigmoid2x2" else x.astype(jnp.float32)

    def encoded(self, x: jax.Array, *, stage: str, train: bool) -> tuple[jax.Array, Kept]:
        """Applies an encoder stage; returns (pooled, kept)."""
        x = self._normalised(x, self.features, f"{stage}_conv1", train=train)
        x = self._normalised(x, self.features, f"{stage}_conv2", train=train)
        x = self.smooth(x, self.encoder_smoothing, f"{stage}_smoothing", train=train)
        x = self._third(x, stage)
        return Pool(self.encoder_pooling, name=f"{stage}_pooling")(x, train=train)

    def decoded(
        self, x: jax.Array, kept: Kept, *, size: Pair, stage: str, train: bool
    ) -> jax.Array:
        """Applies a decoder stage, which enlarges to `size`."""
        x = Unpool(self.decoder_unpooling, name=f"{stage}_unpooling")(x, kept, size)
        x = self._third(x, stage)
        x = self.smooth(x, self.decoder_smoothing, f"{stage}_smoothing", train=train)
        x = self._normalised(x, self.features, f"{stage}_conv2", train=train)
        if stage == "decoder2":
            return self._normalised(x, self.features, f"{stage}_conv1", train=train)
        if self.final == "sigmoid2x2":
            return x
        activation = "relu" if self.final == "relu" else None
        return self._normalised(x, self.num_classes, f"{stage}_conv1", activation, train=train)

    def _normalised(
        self,
        x: jax.Array,
        features: int,
        name: str,
        activation: str | None = "relu",
        *,
        train: bool,
    ) -> jax.Array:
        options: ConvOptions = {"use_bias": True, "activation": activation, "kernel_init": glorot}
        return self.conv_bn(x, features, name=name, train=train, **options)

    def _third(self, x: jax.Array, stage: str) -> jax.Array:
        return nn.relu(Conv(self.features, dtype=self.dtype, name=f"{stage}_conv3")(x))

    def _sigmoid_logits(self, x: jax.Array) -> jax.Array:
        """Returns (0, z), of which the softmax is the sigmoid of z: so loss and scores fit."""
        x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
        kernel = self.param("final_kernel", glorot, (2, 2, x.shape[-1], 1))
        bias = self.param("final_bias", nn.initializers.zeros, (1,))
        z = lax.conv_general_dilated(
            x,
            kernel.astype(x.dtype),
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        z = z.astype(jnp.float32) + bias
        return jnp.concatenate([jnp.zeros_like(z), z], -1)
