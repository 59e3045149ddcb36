"""What every network and every part of one has: its fields, its convolution, its recomputing."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Concatenate, ParamSpec, TypedDict, TypeVar, Unpack

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.errors import InputError
from covjax.nn.layers import ConvBN, Dropout, Dtype, Initializer, expose, glorot
from covjax.ops.checks import check_images
from covjax.ops.convolution import Padding
from covjax.ops.sides import Pair

M = TypeVar("M", bound=nn.Module)
N = TypeVar("N", bound="Network")
P = ParamSpec("P")
T = TypeVar("T")


class ConvOptions(TypedDict, total=False):
    """Fields of ConvBN that a call may set."""

    padding: Padding
    groups: int
    use_bias: bool
    activation: str | None
    epsilon: float
    kernel_init: Initializer


class NetworkPart(nn.Module):
    """A module whose layers compute in `dtype`; parameters are float32 in any."""

    dtype: Dtype

    def conv_bn(
        self,
        x: jax.Array,
        features: int,
        kernel_size: int | Pair = 3,
        stride: int = 1,
        dilation: int = 1,
        *,
        name: str,
        train: bool,
        **options: Unpack[ConvOptions],
    ) -> jax.Array:
        """Applies a ConvBN that is named in this module's scope."""
        size = (kernel_size, stride, dilation)
        layer = ConvBN(features, *size, dtype=self.dtype, name=name, **options)
        return layer(x, train=train)


class Network(NetworkPart):
    """A network: (image [N, H, W, C], train) -> float32 logits; sides of `smallest` and more.

    With `remat` a training keeps only what lies between the parts of the network and computes the
    rest again for the gradient.
    """

    dtype: Dtype = jnp.float32
    num_classes: int = 2
    remat: bool = False
    least_side: ClassVar[int] = 1

    @property
    def smallest(self) -> int:
        """Side in pixels of the smallest input."""
        return self.least_side

    def require_side(self, x: jax.Array) -> None:
        """Raises InputError if x [N, H, W, C] is smaller than the network's strides can take."""
        name = self.name or type(self).__name__
        check_images(f"model {name}: image", x)
        height, width = x.shape[1:3]
        if min(height, width) < self.smallest:
            raise InputError(
                f"model {name}: an input of {height}x{width} is too small, "
                f"use {self.smallest} or more"
            )

    def unit(self, module: type[M]) -> type[M]:
        """Returns the class of a part (x, train), as one that is computed again under `remat`."""
        return nn.remat(module, static_argnums=(2,)) if self.remat else module

    def run(
        self: N,
        part: Callable[Concatenate[N, P], T],
        *arrays: P.args,
        **settings: P.kwargs,
    ) -> T:
        """Calls part(self, *arrays, **settings), which is computed again under `remat`."""
        function = partial(part, **settings)
        return (nn.remat(function) if self.remat else function)(self, *arrays)


class Classifier(Network):
    """A network that gives logits [N, num_classes]; `stem` and `head` name layers by their module.

    `stem` is the first convolution; `head` are the layers whose shape depends on num_classes.
    """

    stem: ClassVar[str]
    head: ClassVar[tuple[str, ...]] = ("fc",)

    def classify(
        self, x: jax.Array, *, dropout: float = 0.0, name: str = "fc", train: bool = False
    ) -> jax.Array:
        """Averages the last feature map, drops and applies the dense layer `name`.

        Exposes the map as "feature_map" [N, h, w, C] and its mean as "features" [N, C].
        """
        x = expose(self, "feature_map", x)
        x = expose(self, "features", x.mean((1, 2), dtype=jnp.float32))
        x = Dropout(dropout)(x, train=train)
        return nn.Dense(self.num_classes, kernel_init=glorot, name=name)(x)
