"""Unpooling by name, and which unpooling fits which pooling."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from covjax.errors import InputError
from covjax.ops.checks import as_array, check_count, check_images, check_name, is_whole, shown
from covjax.ops.grids import Grid, give, spread, with_edges
from covjax.ops.kept import HighBands, Kept, Switches
from covjax.ops.pool import checked_parameters
from covjax.ops.poolings import POOLING_TABLE, Parameters, ParameterShapes
from covjax.ops.sides import Pair, sides_of
from covjax.ops.tables import View
from covjax.ops.wavelets import Bands, idwt2


def nothing_unpooled(stride: int, channels: int, features: int) -> ParameterShapes:
    return {}


class Unpooling(NamedTuple):
    """An unpooling: (x [N, h, w, C], kept, size, stride, parameters) -> image, and its facts."""

    function: Callable[[jax.Array, Kept, Pair, int, Parameters], jax.Array]
    text: str  # what it does, and the paper
    # the poolings it can undo, besides those that name it; None: all
    fits: tuple[str, ...] | None
    # of stride, channels and features
    parameters: Callable[[int, int, int], ParameterShapes] = nothing_unpooled
    inverts: bool = False  # gives the size that was pooled, which `kept` knows


def unpool2d(
    x: jax.Array,
    kept: Kept = None,
    kind: str = "indices",
    size: Pair | None = None,
    stride: int = 2,
    parameters: Parameters | None = None,
) -> jax.Array:
    """Unpools x [N, h, w, C] to [N, H, W, C], the size that was pooled.

    "indices" puts zeros where no value returns. "haar" takes x as the low-pass band and the high
    bands from the pooling or, where x has 4 C channels, all four bands from x. The others need
    nothing that the pooling kept: they enlarge `stride` times, so that every value covers the
    window it came from, and then cut a side that is too long or go on to a longer one, "nearest"
    and "bilinear" by their last pixel, "transposed_conv" by its bias. Unlike a resize to an odd
    size they are not stretched; otherwise "bilinear" is PyTorch's with align_corners=False.

    Args:
      x: float32 or bfloat16, any range; the result is of the same type.
      kept: what the pooling returned; "indices" and "haar" need it.
      kind: one of `UNPOOLINGS`.
      size: [H, W]; if not given, the one in `kept`, or stride times that of x.
      stride: that of the pooling; "indices" and "haar" know it.
      parameters: of "transposed_conv", as `unpool_parameter_shapes` says; the module `Unpool`
        holds them.

    Raises InputError for an unknown kind, when the pooling kept nothing for it, for parameters that
    are missing or of another shape, and for an x of another type or shape, or another size, than
    what was pooled.
    """
    _check_stride(kind, stride)
    x = as_array("x", x)
    check_images("x", x)
    _check_kept(kind, kept)
    features = _features_of(parameters)
    shapes = unpool_parameter_shapes(kind, stride, x.shape[-1], features)
    learned = checked_parameters(f"unpooling '{kind}'", parameters, shapes, "Unpool")
    if size is not None:
        size = _checked_size(kind, size)
    unpooling = UNPOOLING_TABLE[kind]
    pooled_size = size if kept is None else kept.size
    if unpooling.inverts and size is not None and size != pooled_size:
        raise InputError(
            f"unpooling '{kind}': size {size}, but {pooled_size} was pooled, leave size out"
        )
    rows, columns = sides_of(x)
    size = size or pooled_size or (stride * rows, stride * columns)
    if not unpooling.inverts and any(
        short not in (long // stride, -(-long // stride))
        for short, long in zip((rows, columns), size, strict=True)
    ):
        raise InputError(
            f"unpooling '{kind}': {rows}x{columns} enlarged {stride} times is no "
            f"{size[0]}x{size[1]}"
        )
    return unpooling.function(x, kept, size, stride, learned)


def _features_of(parameters: object) -> int | None:
    """Returns as many channels as a learned unpooling's bias has, if it has one."""
    if not isinstance(parameters, Mapping) or "bias" not in parameters:
        return None
    shape = np.shape(parameters["bias"])
    return shape[0] if len(shape) == 1 and shape[0] else None


def unpool_parameter_shapes(
    kind: str, stride: int, channels: int, features: int | None = None
) -> ParameterShapes:
    """Returns {name: (initialiser, shape)} of what an unpooling learns; {} for most.

    It takes C channels and gives `features`, by default C. Raises InputError for an unknown kind,
    or a stride or features that are no number of pixels or channels.
    """
    _check_stride(kind, stride)
    if features is not None:
        check_count(f"unpooling '{kind}': features", features, 1, "a number of channels, 1 or more")
    return UNPOOLING_TABLE[kind].parameters(
        stride, channels, channels if features is None else features
    )


def _check_stride(kind: str, stride: int) -> None:
    check_name("unpooling", kind, UNPOOLING_TABLE)
    check_count(f"unpooling '{kind}': stride", stride, 1, "pixels, 1 or more")


def _check_kept(kind: str, kept: object) -> None:
    if not isinstance(kept, Kept):
        raise InputError(
            f"unpooling '{kind}': kept {shown(kept)}, pass what the pooling returned with its "
            "result"
        )


def _checked_size(kind: str, size: object) -> Pair:
    if isinstance(size, tuple | list) and len(size) == 2:
        rows, columns = size
        if all(is_whole(side) and side > 0 for side in (rows, columns)):
            return rows, columns
    raise InputError(
        f"unpooling '{kind}': size {shown(size)}, give the two sides [H, W] that were pooled"
    )


def _indices(
    x: jax.Array, kept: Kept, size: Pair, stride: int, parameters: Parameters
) -> jax.Array:
    if not isinstance(kept, Switches):
        raise InputError(
            "unpooling 'indices': the pooling kept no indices, use one of "
            f"{', '.join(FITS['indices'])}"
        )
    if x.shape != kept.winner.shape:
        raise InputError(
            f"unpooling 'indices': values {x.shape} do not match the indices {kept.winner.shape}"
        )
    return give(Grid(kept.size, kept.window, kept.window), x, kept.winner)


def _haar(x: jax.Array, kept: Kept, size: Pair, stride: int, parameters: Parameters) -> jax.Array:
    if not isinstance(kept, HighBands):
        raise InputError(
            "unpooling 'haar': the pooling kept no high bands, use pooling 'haar' or 'haar_bands'"
        )
    *pixels, channels = kept.bands.hh.shape
    if x.shape not in ((*pixels, channels), (*pixels, 4 * channels)):
        raise InputError(
            f"unpooling 'haar': values {x.shape} do not match the high bands {kept.bands.hh.shape}"
        )
    bands = Bands(x, *kept.bands) if x.shape[-1] == channels else Bands(*jnp.split(x, 4, -1))
    height, width = kept.size
    return idwt2(bands, "haar")[:, :height, :width].astype(x.dtype)


def _nearest(
    x: jax.Array, kept: Kept, size: Pair, stride: int, parameters: Parameters
) -> jax.Array:
    rows, columns = sides_of(x)
    grid = Grid((stride * rows, stride * columns), stride, stride)
    return _resized(spread(grid, x), size, mode="edge")


def _bilinear(
    x: jax.Array, kept: Kept, size: Pair, stride: int, parameters: Parameters
) -> jax.Array:
    for axis in (1, 2):
        x = _between(x, axis, stride)
    return _resized(x, size, mode="edge")


def _between(x: jax.Array, axis: int, stride: int) -> jax.Array:
    """Enlarges one axis.

    Every new pixel is a weighted mean of the two old ones whose centres lie around it.
    """
    side = x.shape[axis]
    x = with_edges(x, axis)
    before, here, after = (lax.slice_in_dim(x, k, k + side, axis=axis) for k in range(3))
    rows: list[jax.Array] = []
    for k in range(stride):
        offset = (k + 0.5) / stride - 0.5  # of the new pixel's centre from the old one's
        other, share = (before, -offset) if offset < 0 else (after, offset)
        rows.append(here * jnp.asarray(1 - share, x.dtype) + other * jnp.asarray(share, x.dtype))
    shape = list(here.shape)
    shape[axis] *= stride
    # Without a barrier XLA computes this axis anew for every pixel along the next.
    return lax.optimization_barrier(jnp.stack(rows, axis + 1).reshape(shape))


def _transposed_conv(
    x: jax.Array, kept: Kept, size: Pair, stride: int, parameters: Parameters
) -> jax.Array:
    n, h, w, _ = x.shape
    kernel = parameters["kernel"].astype(x.dtype)  # [stride, stride, C, F]
    rows: list[jax.Array] = []
    for taps in kernel:
        # [N, h, w, stride C]: the pixels of one new row side by side
        row = x @ jnp.concatenate(list(taps), -1)
        rows.append(row.reshape(n, h, 1, w * stride, -1))
    full = jnp.concatenate(rows, 2).reshape(n, h * stride, w * stride, -1)
    return _resized(full, size, mode="constant") + parameters["bias"].astype(x.dtype)


def _resized(x: jax.Array, size: Pair, mode: Literal["edge", "constant"]) -> jax.Array:
    """Cuts or pads x at the bottom and right."""
    x = x[:, : size[0], : size[1]]
    longer = [(0, long - short) for long, short in zip(size, sides_of(x), strict=True)]
    return jnp.pad(x, ((0, 0), *longer, (0, 0)), mode=mode) if any(map(any, longer)) else x


def _transposed_kernel(stride: int, channels: int, features: int) -> ParameterShapes:
    shape = (stride, stride, channels, features)
    return {
        "kernel": (nn.initializers.glorot_uniform(), shape),
        "bias": (nn.initializers.zeros, (features,)),
    }


UNPOOLING_TABLE: dict[str, Unpooling] = {
    "indices": Unpooling(
        _indices,
        "each value returns to the pixel that won the maximum, zeros elsewhere "
        "(SegNet, arXiv:1511.00561)",
        ("max", "max_avg_sum", "avg_then_max", "mixed", "gated"),
        inverts=True,
    ),
    "nearest": Unpooling(
        _nearest,
        "each value fills its window (Odena, Deconvolution and Checkerboard Artifacts, 2016)",
        None,
    ),
    "bilinear": Unpooling(
        _bilinear,
        "between the centres of the windows, linearly (arXiv:1706.05587)",
        None,
    ),
    "transposed_conv": Unpooling(
        _transposed_conv,
        "learned kernel of the window's size, C to C channels, with bias (U-Net, arXiv:1505.04597)",
        None,
        _transposed_kernel,
    ),
    "haar": Unpooling(
        _haar,
        "inverse Haar transform, with the high bands that were kept or that stand among the "
        "channels (WaveSNet, arXiv:2005.14461)",
        ("haar", "haar_bands"),
        inverts=True,
    ),
}


def _text(name: str) -> str:
    return UNPOOLING_TABLE[name].text


def _fitting(name: str) -> tuple[str, ...]:
    fits = UNPOOLING_TABLE[name].fits
    return tuple(
        pooling
        for pooling, facts in POOLING_TABLE.items()
        if fits is None or pooling in fits or name in facts.unpools_with
    )


UNPOOLINGS = View(UNPOOLING_TABLE, _text)
FITS = View(UNPOOLING_TABLE, _fitting)  # the poolings that each unpooling can undo
