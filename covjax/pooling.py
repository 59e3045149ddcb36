"""Pooling and unpooling by name: the research subject of the paper, kept apart from the networks that use it.

Source: "Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep Convolutional Neural
Networks", arXiv:2009.08864: average pooling for the homogeneity of regions, max pooling for their boundary.

The Haar poolings stand on `covjax.wavelets`. Everything else is built from strided views and selects: no gather,
scatter or transpose over the image. Gradients are written by hand, because reverse-mode differentiation of the same
code would scatter.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

from covjax.errors import InputError, unknown
from covjax.wavelets import Bands, Details, dwt2, idwt2
from covjax.windows import first_maximum

POOLINGS = {
    "max": "maximum of each window; keeps which pixel won, for unpooling (SegNet, arXiv:1511.00561)",
    "avg": "mean of each window; stride 1 keeps the size, padding bottom and right with zeros (arXiv:2009.08864)",
    "haar": "low-pass band of the Haar transform; keeps the high bands, for unpooling (WaveSNet, arXiv:2005.14461)",
    "haar_bands": "all four bands of the Haar transform side by side as channels (MWCNN, arXiv:1805.07071)",
}
MAX_WINDOW = 11  # positions in a window are kept as int8
UNPOOLINGS = {
    "indices": "each value returns to the pixel that won the max-pool, zeros elsewhere (arXiv:1511.00561)",
    "haar": "inverse Haar transform, with the high bands that the pooling kept or that stand among the channels",
}


@struct.dataclass
class Switches:
    """Which pixel of each window won a max-pool, and the size [H, W] of what was pooled; may cross jit."""

    winner: jax.Array  # [N, H // window, W // window, C] int8, row-major position in the window
    window: int = struct.field(pytree_node=False)
    size: tuple[int, int] = struct.field(pytree_node=False)


@struct.dataclass
class HighBands:
    """What a Haar pooling leaves out, each [N, ceil(H / 2), ceil(W / 2), C], and the size [H, W] of what was pooled."""

    bands: Details
    size: tuple[int, int] = struct.field(pytree_node=False)


def pool2d(
    x: jax.Array, kind: str = "max", window: int = 2, stride: int | None = None
) -> tuple[jax.Array, Switches | HighBands | None]:
    """Pools x [N, H, W, C] and returns (pooled, what unpooling needs): Switches of "max", HighBands of Haar, or None.

    With stride == window (the default) the result is [N, H // window, W // window, C]: rows and columns that fill no
    window are dropped, as in PyTorch. "avg" with stride 1 keeps the size: it pads window - 1 zeros at the bottom and
    right and always divides by window squared. In a tie the first maximum in row-major order wins.
    The Haar poolings halve every side, rounding up (an odd one repeats its last pixel), and are orthonormal:
    unpooling what they return gives x back. "haar" has C channels, "haar_bands" 4 C in the order ll, lh, hl, hh.

    Raises InputError for an unknown kind, a window or stride the kind does not offer, or an input smaller than
    the window.
    """
    stride = window if stride is None else stride
    if kind not in POOLINGS:
        raise unknown("pooling", kind, POOLINGS)
    if not 1 <= window <= MAX_WINDOW:
        raise InputError(f"pooling '{kind}': window {window} must be 1 to {MAX_WINDOW} pixels")
    if kind.startswith("haar"):
        return _haar_pool(x, kind, window, stride)
    if stride != window and not (kind == "avg" and stride == 1):
        raise InputError(f"pooling '{kind}': stride {stride} with window {window} is not offered, use stride={window}")
    if min(x.shape[1:3]) < stride:
        raise InputError(
            f"pooling '{kind}': a {x.shape[1]}x{x.shape[2]} input is smaller than the {window}x{window} window"
        )
    if kind == "avg":
        return (_smooth(window, x) if stride == 1 else _mean(x, window)), None
    size = x.shape[1:3]
    pooled, winner = _max_pool(window, size, x)
    return pooled, Switches(winner, window, size)


def unpool2d(x: jax.Array, kept: Switches | HighBands | None, kind: str = "indices") -> jax.Array:
    """Unpools x [N, h, w, C] to the size [N, H, W, C] that was pooled.

    "indices" puts zeros where no value returns. "haar" takes x as the low-pass band and the high bands from the
    pooling or, where x has 4 C channels, all four bands from x.

    Raises InputError for an unknown kind, when the pooling kept nothing for it, or for an x of another shape than that.
    """
    if kind not in UNPOOLINGS:
        raise unknown("unpooling", kind, UNPOOLINGS)
    if kind == "haar":
        return _haar_unpool(x, kept)
    if not isinstance(kept, Switches):
        raise InputError(f"unpooling '{kind}': the pooling kept no indices, use pooling 'max'")
    if x.shape != kept.winner.shape:
        raise InputError(f"unpooling '{kind}': values {x.shape} do not match the indices {kept.winner.shape}")
    return _unpool(kept.window, kept.size, x, kept.winner)


def _haar_pool(x: jax.Array, kind: str, window: int, stride: int) -> tuple[jax.Array, HighBands]:
    if (window, stride) != (2, 2):
        raise InputError(f"pooling '{kind}': window {window} with stride {stride} is not offered, both are 2")
    ll, *high = dwt2(x, "haar")
    return (ll if kind == "haar" else jnp.concatenate([ll, *high], -1)), HighBands(Details(*high), x.shape[1:3])


def _haar_unpool(x: jax.Array, kept: HighBands | None) -> jax.Array:
    if not isinstance(kept, HighBands):
        raise InputError("unpooling 'haar': the pooling kept no high bands, use pooling 'haar' or 'haar_bands'")
    *pixels, channels = kept.bands.hh.shape
    if x.shape not in ((*pixels, channels), (*pixels, 4 * channels)):
        raise InputError(f"unpooling 'haar': values {x.shape} do not match the high bands {kept.bands.hh.shape}")
    bands = (x, *kept.bands) if x.shape[-1] == channels else jnp.split(x, 4, -1)
    height, width = kept.size
    return idwt2(Bands(*bands), "haar")[:, :height, :width].astype(x.dtype)


def _views(x: jax.Array, window: int) -> list[jax.Array]:
    """Splits x into window * window strided views [N, h, w, C], in row-major order of the position in the window."""
    n, height, width, channels = x.shape
    h, w = height // window, width // window
    blocks = x[:, : h * window, : w * window].reshape(n, h, window, w, window, channels)
    return [blocks[:, :, i, :, j] for i in range(window) for j in range(window)]


def _mean(x: jax.Array, window: int) -> jax.Array:
    return sum(_views(x, window)) * jnp.asarray(1 / window**2, x.dtype)


def _spread(values: jax.Array, winner: jax.Array, window: int, size: tuple[int, int]) -> jax.Array:
    """Puts values [N, h, w, C] at their winning pixels of a [N, H, W, C] array of zeros."""
    n, h, w, channels = values.shape
    position = jnp.arange(window**2, dtype=winner.dtype).reshape(1, 1, window, 1, window, 1)
    full = jnp.where(winner[:, :, None, :, None] == position, values[:, :, None, :, None], 0)
    full = full.reshape(n, h * window, w * window, channels)
    return jnp.pad(full, ((0, 0), (0, size[0] - h * window), (0, size[1] - w * window), (0, 0)))


def _pick(x: jax.Array, winner: jax.Array, window: int) -> jax.Array:
    """Reads the winning pixel of each window: the transpose of _spread."""
    views = _views(x, window)
    picked = views[-1]
    for k in range(window**2 - 2, -1, -1):
        picked = jnp.where(winner == k, views[k], picked)
    return picked


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _max_pool(window: int, size: tuple[int, int], x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return first_maximum(_views(x, window))


def _max_pool_forward(window, size, x):
    pooled, winner = _max_pool(window, size, x)
    return (pooled, winner), winner


def _max_pool_backward(window, size, winner, gradients):
    return (_spread(gradients[0], winner, window, size),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _unpool(window: int, size: tuple[int, int], values: jax.Array, winner: jax.Array) -> jax.Array:
    return _spread(values, winner, window, size)


_unpool.defvjp(
    lambda window, size, values, winner: (_spread(values, winner, window, size), winner),
    lambda window, size, winner, gradient: (_pick(gradient, winner, window), None),
)


def _shifted_mean(x: jax.Array, window: int, before: int) -> jax.Array:
    """Mean over window x window neighbours at stride 1, `before` zeros padded at the top and left, the rest after."""
    height, width = x.shape[1:3]
    after = window - 1 - before
    padded = jnp.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
    shifted = [padded[:, i : i + height, j : j + width] for i in range(window) for j in range(window)]
    return sum(shifted) * jnp.asarray(1 / window**2, x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _smooth(window: int, x: jax.Array) -> jax.Array:
    return _shifted_mean(x, window, 0)


_smooth.defvjp(
    lambda window, x: (_shifted_mean(x, window, 0), None),
    lambda window, _, gradient: (_shifted_mean(gradient, window, window - 1),),
)
