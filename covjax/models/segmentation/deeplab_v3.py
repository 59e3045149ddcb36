"""DeepLab v3 and v3+: dilated convolutions side by side on top of a ResNet or EfficientNet-Lite0.

Sources: "Rethinking Atrous Convolution for Semantic Image Segmentation", arXiv:1706.05587;
"Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation",
arXiv:1802.02611. v3 has the head of torchvision, with one 3x3 convolution more than the paper; v3+
plain convolutions, as is usual on a ResNet.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.errors import InputError
from covjax.models.backbones import BACKBONES, check_backbone
from covjax.nn.layers import Conv, Dropout
from covjax.nn.network import Network, NetworkPart

# dilation of the parallel convolutions, by the backbone's output stride
RATES = {16: (6, 12, 18), 8: (12, 24, 36)}


class DeepLabV3(Network):
    """Segments [N, H, W, C] of any size into logits [N, H, W, num_classes].

    `backbone` resnet18, resnet50 or efficientnet_lite0, whose last stages are dilated so that sides
    shrink `output_stride` (8 or 16) times; a 1x1 convolution, three dilated ones and the mean of
    the image, 256 features each, side by side. With `decoder` (v3+) these are enlarged and join the
    first features of a quarter of the side; logits are enlarged bilinearly.
    """

    decoder: bool = False
    backbone: str = "resnet50"
    output_stride: int = 16

    def __post_init__(self):
        super().__post_init__()
        check_backbone(self.backbone)
        if self.output_stride not in RATES:
            raise InputError(f"model option output_stride: {self.output_stride} must be 8 or 16")

    @property
    def encoder(self) -> str:
        return self.backbone

    @staticmethod
    def encoder_path(path: tuple[str, ...]) -> tuple[str, ...] | None:
        return None if path[0] == "head" else path

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        size = x.shape[1:3]
        feature_maps = BACKBONES[self.backbone]
        _, first, *_, last = feature_maps(self, x, train=train, output_stride=self.output_stride)
        form = (self.num_classes, RATES[self.output_stride], self.decoder)
        x = self.unit(Head)(self.dtype, *form, name="head")((last, first), train)
        return resized(x.astype(jnp.float32), size)


class Head(NetworkPart):
    """From features of the last and the first stage to logits, of the size of the last.

    With a decoder they are of the size of the first.
    """

    num_classes: int
    rates: tuple[int, ...]
    decoder: bool

    @nn.compact
    def __call__(self, maps: tuple[jax.Array, jax.Array], train: bool) -> jax.Array:
        def conv(x: jax.Array, features: int, name: str, size: int = 3) -> jax.Array:
            return self.conv_bn(x, features, size, name=name, train=train)

        x, first = maps
        branches = [conv(x, 256, "branch0", 1)]
        for k, rate in enumerate(self.rates, 1):
            branches.append(self.conv_bn(x, 256, 3, 1, rate, name=f"branch{k}", train=train))
        mean = conv(x.mean((1, 2), keepdims=True, dtype=jnp.float32), 256, "pooling", 1)
        x = jnp.concatenate([*branches, jnp.broadcast_to(mean, branches[0].shape)], -1)
        x = Dropout(0.5)(conv(x, 256, "project", 1), train=train)
        if self.decoder:
            x = jnp.concatenate([resized(x, first.shape[1:3]), conv(first, 48, "low_level", 1)], -1)
            x = conv(x, 256, "fuse")
        x = conv(x, 256, "last")
        return Conv(self.num_classes, 1, dtype=self.dtype, name="logits")(x)


def resized(x: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Enlarges [N, h, w, C] to [N, *size, C], bilinearly."""
    return jax.image.resize(x, (x.shape[0], *size, x.shape[-1]), "bilinear")
