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
from covjax.nn.layers import Conv, ConvBN, Dropout, Dtype

# dilation of the parallel convolutions, by the backbone's output stride
RATES = {16: (6, 12, 18), 8: (12, 24, 36)}


class DeepLabV3(nn.Module):
    """Segments [N, H, W, C] of any size into logits [N, H, W, num_classes].

    `backbone` resnet18, resnet50 or efficientnet_lite0, whose last stages are dilated so that sides
    shrink `output_stride` (8 or 16) times; a 1x1 convolution, three dilated ones and the mean of
    the image, 256 features each, side by side. With `decoder` (v3+) these are enlarged and join the
    first features of a quarter of the side; logits are enlarged bilinearly.
    """

    num_classes: int = 2
    decoder: bool = False
    backbone: str = "resnet50"
    output_stride: int = 16
    dtype: Dtype = jnp.float32
    remat: bool = False

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
        head = nn.remat(Head, static_argnums=(3,)) if self.remat else Head
        rates = RATES[self.output_stride]
        common = {"dtype": self.dtype}
        x = head(self.num_classes, rates, self.decoder, **common, name="head")(last, first, train)
        return resized(x.astype(jnp.float32), size)


class Head(nn.Module):
    """From the last and first stage's features to logits of the size of the last, or with a decoder
    of the first.
    """

    num_classes: int
    rates: tuple[int, ...]
    decoder: bool
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array, first: jax.Array, train: bool) -> jax.Array:
        def conv(x, features, name, size=3, dilation=1):
            common = {"dtype": self.dtype, "name": name}
            return ConvBN(features, size, dilation=dilation, **common)(x, train=train)

        branches = [conv(x, 256, "branch0", 1)]
        branches += [
            conv(x, 256, f"branch{k}", dilation=rate) for k, rate in enumerate(self.rates, 1)
        ]
        mean = conv(x.mean((1, 2), keepdims=True, dtype=jnp.float32), 256, "pooling", 1)
        x = jnp.concatenate([*branches, jnp.broadcast_to(mean, branches[0].shape)], -1)
        x = Dropout(0.5)(conv(x, 256, "project", 1), train=train)
        if self.decoder:
            x = jnp.concatenate([resized(x, first.shape[1:3]), conv(first, 48, "low_level", 1)], -1)
            x = conv(x, 256, "fuse")
        x = conv(x, 256, "last")
        return Conv(self.num_classes, 1, dtype=self.dtype, name="logits")(x)


def resized(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Enlarges [N, h, w, C] to [N, *size, C], bilinearly."""
    return jax.image.resize(x, (x.shape[0], *size, x.shape[-1]), "bilinear")
