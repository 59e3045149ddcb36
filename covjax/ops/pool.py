"""Pooling by name: what makes feature maps smaller or, at stride 1, smoother."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from covjax.errors import InputError
from covjax.ops.checks import as_array, check_images, check_name, check_shape, is_whole, shown
from covjax.ops.grids import grid_of
from covjax.ops.poolings import (
    POOLING_TABLE,
    Keys,
    Parameters,
    ParameterShapes,
    Pooled,
)
from covjax.ops.sides import sides_of

MAX_WINDOW = 11  # positions in a window are kept as int8


def pool2d(
    x: jax.Array,
    kind: str = "max",
    window: int = 2,
    stride: int | None = None,
    parameters: Parameters | None = None,
    keys: Keys = None,
) -> Pooled:
    """Pools x [N, H, W, C] and returns (pooled, kept).

    `kept` is what unpooling needs: Switches, HighBands or None.

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
      x: float32 or bfloat16, any range; the result is of the same type. "stochastic" is meant for
        values after a ReLU.
      kind: one of `POOLINGS`.
      window, stride: pixels, 1 <= stride <= window <= 11.
      parameters: of a learned kind, as `parameter_shapes` says; the module `Pool` holds them.
      keys: of one that draws ("stochastic"), one random key per sample; without them it
        gives the expected value, as for evaluation.

    Raises InputError for an x of another type or shape, an unknown kind, a window or stride the
    kind does not offer, parameters that are missing or of another shape, keys that are none, or an
    input smaller than the window.
    """
    stride = window if stride is None else stride
    _check_window(kind, window)
    x = as_array("x", x)
    check_images("x", x)
    size = sides_of(x)
    halves = POOLING_TABLE[kind].halves
    if halves and (window, stride) != (2, 2):
        raise InputError(
            f"pooling '{kind}': window {window} with stride {stride} is not offered, both are 2"
        )
    if not (is_whole(stride) and 1 <= stride <= window):
        raise InputError(
            f"pooling '{kind}': stride {shown(stride)} must be 1 to the window, {window}"
        )
    if min(size) < window and stride == window and not halves:
        raise InputError(
            f"pooling '{kind}': a {size[0]}x{size[1]} input is smaller than the "
            f"{window}x{window} window"
        )
    shapes = parameter_shapes(kind, window, x.shape[-1])
    learned = checked_parameters(f"pooling '{kind}'", parameters, shapes, "Pool")
    if keys is not None and not _are_keys(keys, len(x)):
        raise InputError(
            f"pooling '{kind}': keys {shown(keys)}, pass one per sample, jax.random.split(key, N)"
        )
    return POOLING_TABLE[kind].function(x, grid_of(size, window, stride), learned, keys)


def parameter_shapes(kind: str, window: int, channels: int) -> ParameterShapes:
    """Returns {name: (initialiser, shape)} of what a pooling of C channels learns; {} for most.

    Raises InputError for an unknown kind or a window that is none.
    """
    _check_window(kind, window)
    return POOLING_TABLE[kind].parameters(window, channels)


def checked_parameters(
    what: str, parameters: object, shapes: ParameterShapes, module: str
) -> Parameters:
    """Returns `parameters`, {} for None. Raises InputError unless they hold what `shapes` asks."""
    given = {} if parameters is None else parameters
    if not isinstance(given, Mapping):
        raise InputError(f"{what}: parameters {shown(given)}, pass {{name: array}}")
    for name, (_, shape) in sorted(shapes.items()):
        if name not in given:
            raise InputError(
                f"{what}: has no parameter '{name}', use the module covjax.pooling.{module}"
            )
        check_shape(f"{what}: parameter '{name}'", given[name], shape)
    return given


def _check_window(kind: str, window: int) -> None:
    check_name("pooling", kind, POOLING_TABLE)
    if not (is_whole(window) and 1 <= window <= MAX_WINDOW):
        raise InputError(
            f"pooling '{kind}': window {shown(window)} must be 1 to {MAX_WINDOW} pixels"
        )


def _are_keys(keys: object, count: int) -> bool:
    """Whether these are as many random keys, of the new type or the old one."""
    if not isinstance(keys, jax.Array | np.ndarray):
        return False
    if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        return keys.shape == (count,)
    return keys.dtype == jnp.uint32 and keys.shape == (count, 2)
