"""Pooling and unpooling in a network: one call each, with the parameters that a kind learns."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.nn.layers import sample_keys
from covjax.ops.checks import as_array, check_images
from covjax.ops.kept import Kept
from covjax.ops.pool import parameter_shapes, pool2d
from covjax.ops.poolings import POOLING_TABLE, ParameterShapes
from covjax.ops.unpool import unpool2d, unpool_parameter_shapes


class Pool(nn.Module):
    """`Pool(kind)(x [N, H, W, C], train=...)` -> (pooled, kept), as `pool2d`; "none" returns x.

    In training one that draws ("stochastic") does so by the random key named "pooling" and a
    sample's place in the global batch, not by how devices share that batch. Without that key, and
    in evaluation, it gives the expected value.
    """

    kind: str = "max"
    window: int = 2
    stride: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> tuple[jax.Array, Kept]:
        x = as_array("x", x)
        check_images("x", x)
        if self.kind == "none":
            return x, None
        parameters = _parameters(self, parameter_shapes(self.kind, self.window, x.shape[-1]))
        keys = None
        if train and POOLING_TABLE[self.kind].draws and self.has_rng("pooling"):
            keys = sample_keys(self.make_rng("pooling"), len(x))
        return pool2d(x, self.kind, self.window, self.stride, parameters, keys)


class Unpool(nn.Module):
    """`Unpool(kind)(x [N, h, w, C], kept, size)` -> [N, H, W, C], as `unpool2d`.

    `size` [H, W] is what was pooled.
    """

    kind: str = "indices"
    stride: int = 2
    features: int | None = None  # that "transposed_conv" gives; None: as many as it takes

    @nn.compact
    def __call__(self, x: jax.Array, kept: Kept, size: tuple[int, int]) -> jax.Array:
        x = as_array("x", x)
        check_images("x", x)
        shapes = unpool_parameter_shapes(self.kind, self.stride, x.shape[-1], self.features)
        return unpool2d(x, kept, self.kind, size, self.stride, _parameters(self, shapes))


def _parameters(module: nn.Module, shapes: ParameterShapes) -> dict[str, jax.Array]:
    return {
        name: module.param(name, init, shape, jnp.float32) for name, (init, shape) in shapes.items()
    }
