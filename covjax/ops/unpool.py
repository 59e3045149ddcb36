"""Unpooling by name, and which unpooling fits which pooling."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from covjax.errors import InputError
from covjax.ops.checks import as_array, check_count, check_images, check_name, is_whole, shown
from covjax.ops.grids import Grid, give, spread, with_edges
from covjax.ops.pool import KINDS, SMOOTHINGS, HighBands, Kept, Switches, check_parameters
from covjax.ops.wavelets import Bands, idwt2


class Unkind(NamedTuple):
    """One unpooling: `function` (x, kept, size, stride, parameters) -> image, and what is known
    about it.
    """

    function: Callable[..., jax.Array]
    text: str
    fits: tuple[str, ...]  # the poolings it can undo
    parameters: Callable[[int, int, int], dict[str, tuple]] = lambda stride, channels, features: {}


def unpool2d(
    x: jax.Array,
    kept: Kept = None,
    kind: str = "indices",
    size: tuple[int, int] | None = None,
    stride: int = 2,
    parameters: Mapping[str, jax.Array] | None = None,
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
      parameters: of "transposed_conv", as `unpool_parameter_shapes` says; the module `Unpool` holds them.

    Raises InputError for an unknown kind, when the pooling kept nothing for it, for parameters that
    are missing or of another shape, and for an x of another type or shape, or another size, than
    what was pooled.
    """
    _check_stride(kind, stride)
    x = as_array("x", x)
    check_images("x", x)
    if not isinstance(kept, Kept):
        raise InputError(
            f"unpooling '{kind}': kept {shown(kept)}, pass what the pooling returned beside its result"
        )
    bias = (
        np.shape(parameters["bias"])
        if isinstance(parameters, Mapping) and "bias" in parameters
        else ()
    )
    features = bias[0] if len(bias) == 1 and bias[0] else None  # as many as the parameters have
    shapes = unpool_parameter_shapes(kind, stride, x.shape[-1], features)
    check_parameters(f"unpooling '{kind}'", parameters, shapes, "Unpool")
    if size is not None:
        _check_size(kind, size)
    if kind in ("indices", "haar") and None not in (size, kept) and tuple(size) != tuple(kept.size):
        raise InputError(
            f"unpooling '{kind}': size {tuple(size)}, but {tuple(kept.size)} was pooled, leave size out"
        )
    if kind in ("indices", "haar"):
        return UNKINDS[kind].function(x, kept)
    if size is None:
        size = tuple(stride * side for side in x.shape[1:3]) if kept is None else kept.size
    if any(
        short not in (long // stride, -(-long // stride))
        for short, long in zip(x.shape[1:3], size, strict=True)
    ):
        raise InputError(
            f"unpooling '{kind}': {x.shape[1]}x{x.shape[2]} enlarged {stride} times is no {size[0]}x{size[1]}"
        )
    return UNKINDS[kind].function(x, tuple(size), stride, parameters)


def unpool_parameter_shapes(
    kind: str, stride: int, channels: int, features: int | None = None
) -> dict[str, tuple]:
    """Returns {name: (initialiser, shape)} of what an unpooling of C channels to `features` (C)
    learns; {} for most.

    Raises InputError for an unknown kind, or a stride or features that are no number of pixels or
    channels.
    """
    _check_stride(kind, stride)
    if features is not None:
        check_count(f"unpooling '{kind}': features", features, 1, "a number of channels, 1 or more")
    return UNKINDS[kind].parameters(stride, channels, channels if features is None else features)


def check_pooling(
    encoder_smoothing: str, encoder_pooling: str, decoder_unpooling: str, decoder_smoothing: str
) -> None:
    """Raises InputError for an unknown name in a network's four fields, or an unpooling that does
    not fit.
    """
    for field, name, table in (
        ("encoder_smoothing", encoder_smoothing, SMOOTHINGS),
        ("encoder_pooling", encoder_pooling, KINDS),
        ("decoder_unpooling", decoder_unpooling, UNKINDS),
        ("decoder_smoothing", decoder_smoothing, SMOOTHINGS),
    ):
        check_name(f"model option {field}", name, table)
    fitting = FITS[decoder_unpooling]
    if encoder_pooling not in fitting:
        others = [name for name, poolings in FITS.items() if encoder_pooling in poolings]
        raise InputError(
            f"model option decoder_unpooling: '{decoder_unpooling}' does not fit encoder_pooling '{encoder_pooling}', "
            f"use {' or '.join(others)}, or a pooling that it fits: {', '.join(fitting)}"
        )


def _check_stride(kind: str, stride: int) -> None:
    check_name("unpooling", kind, UNKINDS)
    check_count(f"unpooling '{kind}': stride", stride, 1, "pixels, 1 or more")


def _check_size(kind: str, size: tuple[int, int]) -> None:
    pair = isinstance(size, tuple | list) and len(size) == 2
    if not pair or not all(is_whole(side) and side > 0 for side in size):
        raise InputError(
            f"unpooling '{kind}': size {shown(size)}, give the two sides [H, W] that were pooled"
        )


def _indices(x: jax.Array, kept: Kept) -> jax.Array:
    if not isinstance(kept, Switches):
        raise InputError(
            f"unpooling 'indices': the pooling kept no indices, use one of {', '.join(FITS['indices'])}"
        )
    if x.shape != kept.winner.shape:
        raise InputError(
            f"unpooling 'indices': values {x.shape} do not match the indices {kept.winner.shape}"
        )
    return give(Grid(kept.size, kept.window, kept.window), x, kept.winner)


def _haar(x: jax.Array, kept: Kept) -> jax.Array:
    if not isinstance(kept, HighBands):
        raise InputError(
            "unpooling 'haar': the pooling kept no high bands, use pooling 'haar' or 'haar_bands'"
        )
    *pixels, channels = kept.bands.hh.shape
    if x.shape not in ((*pixels, channels), (*pixels, 4 * channels)):
        raise InputError(
            f"unpooling 'haar': values {x.shape} do not match the high bands {kept.bands.hh.shape}"
        )
    bands = (x, *kept.bands) if x.shape[-1] == channels else jnp.split(x, 4, -1)
    height, width = kept.size
    return idwt2(Bands(*bands), "haar")[:, :height, :width].astype(x.dtype)


def _nearest(x, size, stride, parameters):
    full = tuple(stride * side for side in x.shape[1:3])
    return _resized(spread(Grid(full, stride, stride), x), size, mode="edge")


def _bilinear(x, size, stride, parameters):
    for axis in (1, 2):
        x = _between(x, axis, stride)
    return _resized(x, size, mode="edge")


def _between(x, axis, stride):
    """Enlarges one axis: every new pixel is a weighted mean of the two old ones whose centres lie
    around it.
    """
    side = x.shape[axis]
    x = with_edges(x, axis)
    before, here, after = (lax.slice_in_dim(x, k, k + side, axis=axis) for k in range(3))
    rows = []
    for k in range(stride):
        offset = (k + 0.5) / stride - 0.5  # of the new pixel's centre from the old one's
        other, share = (before, -offset) if offset < 0 else (after, offset)
        rows.append(here * jnp.asarray(1 - share, x.dtype) + other * jnp.asarray(share, x.dtype))
    shape = list(here.shape)
    shape[axis] *= stride
    # Lest XLA computes this axis anew for every pixel along the next.
    return lax.optimization_barrier(jnp.stack(rows, axis + 1).reshape(shape))


def _transposed_conv(x, size, stride, parameters):
    n, h, w, _ = x.shape
    kernel = parameters["kernel"].astype(x.dtype)  # [stride, stride, C, F]
    rows = []
    for taps in kernel:
        # [N, h, w, stride C]: the pixels of one new row side by side
        row = x @ jnp.concatenate(list(taps), -1)
        rows.append(row.reshape(n, h, 1, w * stride, -1))
    full = jnp.concatenate(rows, 2).reshape(n, h * stride, w * stride, -1)
    return _resized(full, size, mode="constant") + parameters["bias"].astype(x.dtype)


def _resized(x: jax.Array, size: tuple[int, int], mode: str) -> jax.Array:
    """Cuts or pads x at the bottom and right."""
    x = x[:, : size[0], : size[1]]
    longer = [(0, long - short) for long, short in zip(size, x.shape[1:3], strict=True)]
    return jnp.pad(x, ((0, 0), *longer, (0, 0)), mode=mode) if any(map(any, longer)) else x


def _transposed_conv_parameters(stride, channels, features):
    shape = (stride, stride, channels, features)
    return {
        "kernel": (nn.initializers.glorot_uniform(), shape),
        "bias": (nn.initializers.zeros, (features,)),
    }


UNKINDS = {
    "indices": Unkind(
        _indices,
        "each value returns to the pixel that won the maximum, zeros elsewhere (SegNet, arXiv:1511.00561)",
        ("max", "max_avg_sum", "avg_then_max", "mixed", "gated"),
    ),
    "nearest": Unkind(
        _nearest,
        "each value fills its window (Odena, Deconvolution and Checkerboard Artifacts, 2016)",
        tuple(KINDS),
    ),
    "bilinear": Unkind(
        _bilinear, "between the centres of the windows, linearly (arXiv:1706.05587)", tuple(KINDS)
    ),
    "transposed_conv": Unkind(
        _transposed_conv,
        "learned kernel of the window's size, C to C channels, with bias (U-Net, arXiv:1505.04597)",
        tuple(KINDS),
        _transposed_conv_parameters,
    ),
    "haar": Unkind(
        _haar,
        "inverse Haar transform, with the high bands that were kept or that stand among the channels "
        "(WaveSNet, arXiv:2005.14461)",
        ("haar", "haar_bands"),
    ),
}
UNPOOLINGS = {name: kind.text for name, kind in UNKINDS.items()}
FITS = {name: kind.fits for name, kind in UNKINDS.items()}
