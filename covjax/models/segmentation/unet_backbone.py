"""U-Net whose encoder is a classifier with published weights.

Source: "U-Net: Convolutional Networks for Biomedical Image Segmentation", arXiv:1505.04597, in the
form that is usual with such encoders: five decoder stages, nearest neighbours doubled in place of
the transposed convolution, BatchNorm.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.models.backbones import BACKBONES, check_backbone
from covjax.nn.layers import Conv
from covjax.nn.network import Network
from covjax.ops.sides import Pair
from covjax.ops.unpool import unpool2d

WIDTHS = (256, 128, 64, 32, 16)  # of the decoder's stages, from the smallest map on


class BackboneUNet(Network):
    """Segments [N, H, W, C] of any size into logits [N, H, W, num_classes].

    Parameters at 3 channels and 2 classes: 5,198,306 on EfficientNet-Lite0, 14,328,354 on
    ResNet-18, 32,521,250 on ResNet-50. The last decoder stage, of the size of the image, has no
    features of the encoder to join.
    """

    backbone: str = "efficientnet_lite0"

    def __post_init__(self):
        super().__post_init__()
        check_backbone(self.backbone)

    @property
    def encoder(self) -> str:
        return self.backbone

    @staticmethod
    def encoder_path(path: tuple[str, ...]) -> tuple[str, ...] | None:
        return None if path[0].startswith(("decoder", "logits")) else path

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        image = x
        *skips, x = BACKBONES[self.backbone](self, x, train=train)
        for stage, width in zip(range(5, 0, -1), WIDTHS, strict=True):
            finer = skips.pop() if skips else None
            rows, columns = (image if finer is None else finer).shape[1:3]
            form = {"size": (rows, columns), "width": width, "name": f"decoder{stage}"}
            x = self.run(BackboneUNet.join, x, finer, train=train, **form)
        return Conv(self.num_classes, 3, dtype=self.dtype, name="logits")(x).astype(jnp.float32)

    def join(
        self,
        x: jax.Array,
        finer: jax.Array | None,
        *,
        size: Pair,
        width: int,
        name: str,
        train: bool,
    ) -> jax.Array:
        """Applies a decoder stage, which enlarges to `size` and joins finer features, if any."""
        x = unpool2d(x, kind="nearest", size=size)
        x = x if finer is None else jnp.concatenate([x, finer], -1)
        for k in (1, 2):
            x = self.conv_bn(x, width, 3, name=f"{name}_conv{k}", train=train)
        return x
