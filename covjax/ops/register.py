"""Poolings and unpoolings of others beside those of covjax, for plug-ins."""

from collections.abc import Callable, Collection, Mapping

import jax

from covjax.errors import InputError, check_new_name
from covjax.ops.checks import shown
from covjax.ops.grids import Grid
from covjax.ops.kept import Kept
from covjax.ops.poolings import (
    POOLING_TABLE,
    Keys,
    Parameters,
    ParameterShapes,
    Pooled,
    Pooling,
    nothing_learned,
)
from covjax.ops.sides import Pair
from covjax.ops.unpool import UNPOOLING_TABLE, Unpooling, nothing_unpooled


def register_pooling(
    name: str,
    function: Callable[[jax.Array, Grid, Parameters, Keys], Pooled],
    *,
    text: str = "",
    parameters: Callable[[int, int], ParameterShapes] = nothing_learned,
    smooths: bool = False,
    draws: bool = False,
    unpools_with: Collection[str] = (),
    override: bool = False,
) -> None:
    """Adds a pooling, which all networks, lists, messages and studies then offer by its name.

    Args:
      name: small letters, digits and _.
      function: (x [N, H, W, C], grid, parameters, keys) -> (pooled [N, h, w, C'], kept), of the
        type of x. `grid` is a `Grid`, `views(x, grid)` gives the pixels of its windows; `kept` is
        `Switches`, `HighBands`, `KeptArrays` or None.
      text: what it does and the paper, in one sentence.
      parameters: (window, channels) -> {name: (initialiser, shape)} of what it learns.
      smooths: whether it may stand at stride 1, where it keeps size and channels.
      draws: whether it draws at random in training: it then gets `keys`, one per sample.
      unpools_with: unpoolings that need what it keeps; those that enlarge take it anyway.
      override: replaces a pooling of that name.

    Raises InputError for a name that cannot be used or is taken, or a function that is none.
    """
    _check(f"pooling '{name}'", name, POOLING_TABLE, (function, parameters), override)
    names = _names(f"pooling '{name}': unpools_with", unpools_with)
    text = text or _summary(function)
    POOLING_TABLE[name] = Pooling(function, text, parameters, smooths, draws, names)


def register_unpooling(
    name: str,
    function: Callable[[jax.Array, Kept, Pair, int, Parameters], jax.Array],
    *,
    text: str = "",
    fits: Collection[str] | None = None,
    parameters: Callable[[int, int, int], ParameterShapes] = nothing_unpooled,
    inverts: bool = False,
    override: bool = False,
) -> None:
    """Adds an unpooling.

    Args:
      name: small letters, digits and _.
      function: (x [N, h, w, C], kept, size [H, W], stride, parameters) -> [N, H, W, F].
      text: what it does and the paper, in one sentence.
      fits: the poolings that it can undo, None for all.
      parameters: (stride, channels, features) -> {name: (initialiser, shape)} of what it learns.
      inverts: whether it needs what the pooling kept, which then says the size.
      override: replaces an unpooling of that name.

    Raises InputError for a name that cannot be used or is taken, or a function that is none.
    """
    _check(f"unpooling '{name}'", name, UNPOOLING_TABLE, (function, parameters), override)
    names = None if fits is None else _names(f"unpooling '{name}': fits", fits)
    text = text or _summary(function)
    UNPOOLING_TABLE[name] = Unpooling(function, text, names, parameters, inverts)


def _check(
    what: str,
    name: object,
    table: Mapping[str, object],
    functions: tuple[object, object],
    override: bool,
) -> None:
    check_new_name(what, name, table, override)
    for function in functions:
        if not callable(function):
            raise InputError(f"{what}: {shown(function)} is no function")


def _names(what: str, names: object) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Collection):
        raise InputError(f"{what}: {shown(names)}, give a tuple of names")
    return tuple(str(name) for name in names)


def _summary(function: Callable[..., object]) -> str:
    """Returns the first line of a function's docstring."""
    text = (function.__doc__ or "of a plug-in, not described").strip()
    return text.splitlines()[0].rstrip(".")
