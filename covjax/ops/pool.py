"""Pooling by name: what makes feature maps smaller or, at stride 1, smoother."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jax import lax

from covjax.errors import InputError
from covjax.ops.checks import as_array, check_images, check_name, check_shape, is_whole, shown
from covjax.ops.grids import first_maximum, grid_of, maximum, take, total, views, with_edges
from covjax.ops.wavelets import Details, dwt2

MAX_WINDOW = 11  # positions in a window are kept as int8
Parameters = Mapping[str, jax.Array]
Initializer = Callable[..., jax.Array]
ParameterShapes = dict[str, tuple[Initializer, tuple[int, ...]]]


@struct.dataclass
class Switches:
    """Which pixel of each window won a max-pool, and the size [H, W] of what was pooled; may cross
    jit.
    """

    winner: jax.Array  # [N, H // window, W // window, C] int8, row-major position in the window
    window: int = struct.field(pytree_node=False)
    size: tuple[int, int] = struct.field(pytree_node=False)


@struct.dataclass
class HighBands:
    """What a Haar pooling leaves out, each [N, ceil(H / 2), ceil(W / 2), C], and the size [H, W] of
    what was pooled.
    """

    bands: Details
    size: tuple[int, int] = struct.field(pytree_node=False)


Kept = Switches | HighBands | None


class Kind(NamedTuple):
    """One pooling: `function` (x, window, stride, parameters, keys) -> (pooled, kept), and what is
    known about it.
    """

    function: Callable[..., tuple[jax.Array, Kept]]
    text: str  # what it does, and the paper
    # {name: (initialiser, shape)}
    parameters: Callable[[int, int], dict[str, tuple]] = lambda window, channels: {}
    # may stand before or after a convolution at stride 1: keeps size and channels
    smooths: bool = False


def pool2d(
    x: jax.Array,
    kind: str = "max",
    window: int = 2,
    stride: int | None = None,
    parameters: Parameters | None = None,
    keys: jax.Array | None = None,
) -> tuple[jax.Array, Kept]:
    """Pools x [N, H, W, C] and returns (pooled, kept): kept is what unpooling needs, Switches,
    HighBands or None.

    With stride == window (the default) the result is [N, H // window, W // window, C]: rows and
    columns that fill no window are dropped, as in PyTorch. A smaller stride gives ceil(side /
    stride): the image is padded around, one pixel more at the bottom and right for an even window,
    so that stride 1 keeps the size. Padded pixels are zeros that count ("avg" always divides by
    window squared); where a maximum or a weight decides they never win. Only windows side by side
    keep Switches. In a tie the first maximum in row-major order wins. "max_avg_concat" has 2 C
    channels.

    The Haar poolings take windows of 2 at stride 2 and halve every side, rounding up (an odd one
    repeats its last pixel); they are orthonormal: unpooling what they return gives x back.
    "haar_bands" has 4 C channels in the order ll, lh, hl, hh.

    Args:
      x: float32 or bfloat16, any range; the result is of the same type. "stochastic" is meant for values after a ReLU.
      kind: one of `POOLINGS`.
      window, stride: pixels, 1 <= stride <= window <= 11.
      parameters: of a learned kind, as `parameter_shapes` says; the module `Pool` holds them.
      keys: of "stochastic", one random key per sample; without them it gives the expected value, as for evaluation.

    Raises InputError for an x of another type or shape, an unknown kind, a window or stride the
    kind does not offer, parameters that are missing or of another shape, keys that are none, or an
    input smaller than the window.
    """
    stride = window if stride is None else stride
    _check_window(kind, window)
    x = as_array("x", x)
    check_images("x", x)
    if kind.startswith("haar") and (window, stride) != (2, 2):
        raise InputError(
            f"pooling '{kind}': window {window} with stride {stride} is not offered, both are 2"
        )
    if not (is_whole(stride) and 1 <= stride <= window):
        raise InputError(
            f"pooling '{kind}': stride {shown(stride)} must be 1 to the window, {window}"
        )
    if min(x.shape[1:3]) < window and stride == window and not kind.startswith("haar"):
        raise InputError(
            f"pooling '{kind}': a {x.shape[1]}x{x.shape[2]} input is smaller than the {window}x{window} window"
        )
    check_parameters(
        f"pooling '{kind}'", parameters, parameter_shapes(kind, window, x.shape[-1]), "Pool"
    )
    if keys is not None and (
        len(np.shape(keys)) < 1 or np.shape(keys)[0] != len(x) or not _are_keys(keys)
    ):
        raise InputError(
            f"pooling '{kind}': keys {shown(keys)}, pass one per sample, jax.random.split(key, N)"
        )
    return KINDS[kind].function(x, window, stride, parameters, keys)


def parameter_shapes(kind: str, window: int, channels: int) -> dict[str, tuple]:
    """Returns {name: (initialiser, shape)} of what a pooling of C channels learns; {} for most.

    Raises InputError for an unknown kind or a window that is none.
    """
    _check_window(kind, window)
    return KINDS[kind].parameters(window, channels)


def check_parameters(
    what: str, parameters: Parameters | None, shapes: Mapping[str, tuple], module: str
) -> None:
    """Raises InputError unless `parameters` holds what `shapes` {name: (initialiser, shape)} asks
    for.
    """
    if not isinstance(parameters, Mapping | None):
        raise InputError(f"{what}: parameters {shown(parameters)}, pass {{name: array}}")
    for name, (_, shape) in sorted(shapes.items()):
        if name not in (parameters or {}):
            raise InputError(
                f"{what}: has no parameter '{name}', use the module covjax.pooling.{module}"
            )
        check_shape(f"{what}: parameter '{name}'", parameters[name], shape)


def _check_window(kind: str, window: int) -> None:
    check_name("pooling", kind, KINDS)
    if not (is_whole(window) and 1 <= window <= MAX_WINDOW):
        raise InputError(
            f"pooling '{kind}': window {shown(window)} must be 1 to {MAX_WINDOW} pixels"
        )


def _are_keys(keys: jax.Array) -> bool:
    if not isinstance(keys, jax.Array | np.ndarray):
        return False
    return (keys.dtype == jnp.uint32 and keys.shape[1:] == (2,)) or (
        jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) and keys.ndim == 1
    )


def _grid(x, window, stride):
    return grid_of(x.shape[1:3], window, stride)


def _wide(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _max(x, window, stride, parameters=None, keys=None):
    grid = _grid(x, window, stride)
    pooled, winner = maximum(grid, x)
    return pooled, Switches(winner, window, grid.size) if grid.tiles else None


def _avg(x, window, stride, parameters=None, keys=None):
    return total(_grid(x, window, stride), x) * jnp.asarray(1 / window**2, x.dtype), None


def _blend(share, x, window, stride):
    """The share of the maximum and the rest of the mean; returns to the pixel of the maximum."""
    pooled, kept = _max(x, window, stride)
    mean = _avg(x, window, stride)[0]
    share = share.astype(x.dtype)
    return mean + share * (pooled - mean), kept


def _max_avg_sum(x, window, stride, parameters, keys):
    pooled, kept = _max(x, window, stride)
    return pooled + _avg(x, window, stride)[0], kept


def _max_avg_concat(x, window, stride, parameters, keys):
    return jnp.concatenate([_max(x, window, stride)[0], _avg(x, window, stride)[0]], -1), None


def _avg_then_max(x, window, stride, parameters, keys):
    return _max(_avg(x, window, 1)[0], window, stride)


def _max_then_avg(x, window, stride, parameters, keys):
    return _avg(_max(x, window, 1)[0], window, stride)


def _mixed(x, window, stride, parameters, keys):
    return _blend(nn.sigmoid(parameters["mix"]), x, window, stride)


def _gated(x, window, stride, parameters, keys):
    gate = parameters["gate"].astype(x.dtype).reshape(window**2, -1)
    parts = views(x, _grid(x, window, stride))
    return _blend(
        nn.sigmoid(sum(w * part for w, part in zip(gate, parts, strict=True))), x, window, stride
    )


def _stochastic(x, window, stride, parameters, keys):
    grid = _grid(x, window, stride)
    wide = _wide(x)
    weights = views(nn.relu(wide), grid)
    # Where nothing is above zero all pixels are as likely, but padded ones are not there.
    there = views(jnp.ones_like(wide[:1, :, :, :1]), grid)
    empty = sum(weights) < 1e-12  # so that no gradient overflows
    weights = [jnp.where(empty, one, weight) for weight, one in zip(weights, there, strict=True)]
    if keys is None:
        parts = views(wide, grid)
        expected = sum(w * part for w, part in zip(weights, parts, strict=True)) / sum(weights)
        return expected.astype(x.dtype), None
    below = [weights[0]]
    for weight in weights[1:]:
        below.append(below[-1] + weight)
    # In (0, 1], so that no pixel of weight zero is drawn.
    chance = 1 - jax.vmap(lambda key: jax.random.uniform(key, below[0].shape[1:]))(keys)
    winner = sum((bound < chance * below[-1]).astype(jnp.int8) for bound in below[:-1])
    return take(grid, x, lax.stop_gradient(winner)), None


def _lp(x, window, stride, parameters, keys):
    smallest = 1e-12  # below it a magnitude counts as that, and has no gradient
    # at every pixel once, not in every window
    logs = jnp.log(jnp.maximum(jnp.abs(_wide(x)), smallest))
    power = 1 + nn.softplus(parameters["power"])
    parts = [power * part for part in views(logs, _grid(x, window, stride), math.log(smallest))]
    top = lax.stop_gradient(first_maximum(parts)[0])
    mean = sum(jnp.exp(part - top) for part in parts) / window**2
    return jnp.exp((jnp.log(mean) + top) / power).astype(x.dtype), None


def _soft(x, window, stride, parameters, keys):
    # The lowest number, whose weight is zero, not -inf, which times that weight would be NaN.
    parts = views(_wide(x), _grid(x, window, stride), jnp.finfo(jnp.float32).min)
    top = lax.stop_gradient(first_maximum(parts)[0])
    weights = [jnp.exp(part - top) for part in parts]
    pooled = sum(weight * part for weight, part in zip(weights, parts, strict=True)) / sum(weights)
    return pooled.astype(x.dtype), None


def _blur(x, window, stride, parameters, keys):
    sides = [side // window if stride == window else -(-side // stride) for side in x.shape[1:3]]
    x = _max(x, window, 1)[0]
    for axis, side in zip((1, 2), sides, strict=True):
        # Between the steps a barrier, lest XLA computes every maximum anew for each pixel that it
        # goes into.
        x = with_edges(lax.optimization_barrier(x), axis)
        ends = (k + (side - 1) * stride + 1 for k in range(3))
        left, middle, right = (
            lax.slice_in_dim(x, k, end, stride, axis) for k, end in enumerate(ends)
        )
        x = (left + 2 * middle + right) * jnp.asarray(0.25, x.dtype)
    return x, None


def _conv(x, window, stride, parameters, keys):
    patches = jnp.concatenate(views(x, _grid(x, window, stride)), -1)
    kernel = parameters["kernel"].astype(x.dtype).reshape(patches.shape[-1], -1)
    return patches @ kernel + parameters["bias"].astype(x.dtype), None


def _haar(x, window, stride, parameters, keys):
    ll, *high = dwt2(x, "haar")
    return ll, HighBands(Details(*high), x.shape[1:3])


def _haar_bands(x, window, stride, parameters, keys):
    ll, kept = _haar(x, window, stride, parameters, keys)
    return jnp.concatenate([ll, *kept.bands], -1), kept


def _conv_parameters(window, channels):
    shape = (window, window, channels, channels)
    return {
        "kernel": (nn.initializers.glorot_uniform(), shape),
        "bias": (nn.initializers.zeros, (channels,)),
    }


KINDS = {
    "max": Kind(
        _max,
        "maximum of each window; keeps which pixel won, for unpooling (SegNet, arXiv:1511.00561)",
        smooths=True,
    ),
    "avg": Kind(
        _avg, "mean of each window (arXiv:2009.08864 smooths by it at stride 1)", smooths=True
    ),
    "max_avg_sum": Kind(
        _max_avg_sum, "maximum plus mean of each window (arXiv:1509.08985 mixes them)", smooths=True
    ),
    "max_avg_concat": Kind(
        _max_avg_concat, "maximum and mean side by side as channels (as in CBAM, arXiv:1807.06521)"
    ),
    "avg_then_max": Kind(
        _avg_then_max, "mean at stride 1, then maximum: the paper's order (arXiv:2009.08864)"
    ),
    "max_then_avg": Kind(
        _max_then_avg,
        "maximum at stride 1, then mean: the paper's order reversed (arXiv:2009.08864)",
    ),
    "mixed": Kind(
        _mixed,
        "a m + (1 - a) mean of the maximum m, a one learned number, 0.5 at first (arXiv:1509.08985)",
        lambda window, channels: {"mix": (nn.initializers.zeros, ())},
        smooths=True,
    ),
    "gated": Kind(
        _gated,
        "as mixed, a the sigmoid of a learned weighted sum of each window, per channel (arXiv:1509.08985)",
        lambda window, channels: {"gate": (nn.initializers.zeros, (window, window, channels))},
        smooths=True,
    ),
    "stochastic": Kind(
        _stochastic,
        "draws a pixel in proportion to its value above 0; in use the expected value (arXiv:1301.3557)",
        smooths=True,
    ),
    "lp": Kind(
        _lp,
        "p-th root of the mean of |x|**p, p > 1 learned per channel, 3 at first (arXiv:1311.1780)",
        # softplus: 2
        lambda window, channels: {"power": (nn.initializers.constant(1.8545866), (channels,))},
        smooths=True,
    ),
    "soft": Kind(
        _soft,
        "mean weighted by the softmax of each window (SoftPool, arXiv:2101.00440)",
        smooths=True,
    ),
    "blur": Kind(
        _blur,
        "maximum at stride 1, then a stride with the filter 1 2 1, edges repeated (BlurPool, arXiv:1904.11486)",
        smooths=True,
    ),
    "conv": Kind(
        _conv,
        "strided convolution, C to C channels, with bias (All-CNN, arXiv:1412.6806)",
        _conv_parameters,
    ),
    "haar": Kind(
        _haar,
        "low-pass band of the Haar transform; keeps the high bands, for unpooling (WaveSNet, arXiv:2005.14461)",
    ),
    "haar_bands": Kind(
        _haar_bands,
        "all four bands of the Haar transform side by side as channels (MWCNN, arXiv:1805.07071)",
    ),
}
POOLINGS = {name: kind.text for name, kind in KINDS.items()}
SMOOTHINGS = ("none", *(name for name, kind in KINDS.items() if kind.smooths))
