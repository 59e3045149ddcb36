"""Weights of published files put into the variables of a network: names matched, layouts changed,
nothing left over.

Every network names its variables as the reference does through `reference_key(path)`, or, in its
encoder only, through `encoder` and `encoder_path(path)`; see `covjax.models`.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from covjax.models import published
from covjax.preprocess.network_input import pretrained_normalization

FIRST = {
    "sum": "one input channel: the kernels of red, green and blue are added, weighted for the colours' statistics",
    "fresh": "another number of input channels than the weights': the first convolution starts anew",
}
State = Mapping[str, np.ndarray]


class Match(NamedTuple):
    """What became of every name, by the reference's names, sorted; the last three are what does not
    fit.
    """

    # parts of the network, by its own names, that the reference does not have: as initialised
    fresh: list[str]

    loaded: list[str]
    skipped: list[str]  # matched by a pattern, in network or file: as initialised
    # of the head, for another number of classes, or of the first convolution: as initialised
    replaced: list[str]
    unused: list[str]  # of layers that the reference has and this network is built without
    summed: list[str]  # over the colours; also among the loaded
    missing: list[str]
    left_over: list[str]
    misshapen: list[str]  # with both shapes

    @property
    def fits(self) -> bool:
        """Whether the weights are all that the network needs, and nothing else."""
        return not (self.missing or self.left_over or self.misshapen)


def match_state(
    model: nn.Module,
    state: State,
    variables: Any,
    *,
    skip: Sequence[str] = (),
    first: str = "sum",
    known: Collection[str] = (),
    constant: bool = False,
) -> tuple[Any, Match]:
    """Puts a state dict of the reference into `variables` as far as it fits, and says what became
    of every name.

    Args:
      model: a network for which there are published weights (`covjax.models.published`).
      state: float32 arrays by the reference's names, in its layout.
      variables: {"params", "batch_stats"} as initialised.
      skip: patterns, as of file names, for the reference's names to leave as they are.
      first: one of FIRST, for a first convolution of other than the weights' input channels.
      known: names of the whole reference, where the network is only its encoder.
      constant: the network sees one grey channel and a constant 1 (`covjax.preprocess.network_input.network_input`).
    """
    reference = published(model)
    place = getattr(model, "encoder_path", lambda path: path)
    flat = flatten_dict(variables)
    found: dict[str, list[str]] = {field: [] for field in Match._fields}
    places = {path: place(path[1:]) for path in flat}  # in the reference
    found["fresh"] = list({path[1] for path, there in places.items() if there is None})
    wanted = {
        reference.reference_key(there): path for path, there in places.items() if there is not None
    }
    for key, path in wanted.items():
        if any(fnmatchcase(key, pattern) for pattern in skip):
            found["skipped"].append(key)
        elif key not in state:
            found["missing"].append(key)
        else:
            kind, value = _value(
                reference, places[path], state[key], flat[path].shape, first, constant
            )
            found[kind].append(
                key if kind != "misshapen" else f"{key} {_shapes(state[key], flat[path].shape)}"
            )
            if value is not None:
                flat[path] = jnp.asarray(value, flat[path].dtype)
    heads = {reference.reference_key((name, "kernel")).split(".")[0] for name in reference.head}
    absent = heads - {key.split(".")[0] for key in wanted}
    for key in state.keys() - wanted.keys():
        kind = "skipped" if any(fnmatchcase(key, pattern) for pattern in skip) else "left_over"
        found["unused" if key in known or key.split(".")[0] in absent else kind].append(key)
    found["loaded"] += found["summed"]
    return unflatten_dict(flat), Match(**{field: sorted(names) for field, names in found.items()})


def _value(
    model: nn.Module,
    path: tuple[str, ...],
    array: np.ndarray,
    shape: tuple[int, ...],
    first: str,
    constant: bool,
) -> tuple[str, np.ndarray | None]:
    """Returns the field of Match to which the variable at `path` belongs, and its value unless it
    stays as it is.
    """
    if (value := _arranged(model, path, array, shape)) is not None:
        return "loaded", value
    if path[0] in model.head and _but_for(array.shape, reference_shape(shape), 0):
        return "replaced", None
    if (
        path[0] == model.stem
        and path[-1] == "kernel"
        and _but_for(array.shape, reference_shape(shape), 1)
    ):
        if first == "fresh":
            return "replaced", None
        if constant and shape[2] == 2 and array.shape[1] == 3:
            return "summed", _arranged(
                model, path, fold_colours(array, *model.pretrained_input[:2]), shape
            )
        if shape[2] == 1 and not constant:
            return "summed", _arranged(model, path, array.sum(1, keepdims=True), shape)
    return "misshapen", None


def fold_colours(kernels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Folds kernels [O, 3, h, w] of red, green and blue, normalised each by its mean and std, into
    [O, 2, h, w].

    Of those the first is for grey, normalised by `pretrained_normalization` for one channel, the
    second for a constant 1; what they see of a grey slice is what the three see of three equal
    channels, at padded borders too.
    """
    grey = pretrained_normalization(mean, std, 1)
    mean, std = (255 * np.array(values, np.float64).reshape(3, 1, 1) for values in (mean, std))
    of_grey = (kernels * (grey.std / std)).sum(1)
    of_constant = (kernels * ((grey.mean - mean) / std)).sum(1)
    return np.stack([of_grey, of_constant], 1).astype(np.float32)


def _arranged(
    model: nn.Module, path: tuple[str, ...], array: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray | None:
    """Returns an array of the reference in the layout of the variable at `path`, or None if it has
    another shape.
    """
    wanted = reference_shape(shape) if path[-1] == "kernel" else shape
    grid = getattr(model, "flattened", {}).get(path[0])
    if array.shape != wanted and not _same_layer(array.shape, wanted, grid):
        return None
    array = array.reshape(wanted)
    if path[-1] != "kernel":
        return array
    if array.ndim == 4:
        # OIHW -> HWIO, depthwise kernels too
        return np.ascontiguousarray(array.transpose(2, 3, 1, 0))
    if grid:
        # PyTorch flattens a map channel by channel, this network pixel by pixel.
        array = array.reshape(-1, *grid).transpose(0, 2, 3, 1).reshape(array.shape)
    return np.ascontiguousarray(array.T)


def reference_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape [O, I, h, w] or [O, I] that a kernel of this shape has in the reference."""
    return (*shape[:1:-1], *shape[:2]) if len(shape) == 4 else shape[::-1]


def _same_layer(a: tuple[int, ...], b: tuple[int, ...], grid: tuple[int, ...] | None) -> bool:
    """Says whether `a` is another way to write `b`: a dense layer kept as a convolution, or vice
    versa.

    `grid` is the [C, H, W] that the dense layer reads flattened, if it does.
    """
    forms = {len(a), len(b)} == {2, 4} and a[0] == b[0] and math.prod(a) == math.prod(b)
    return forms and (len(b) == 2 or b[2:] == (1, 1) or b[1:] == grid)


def _but_for(a: tuple[int, ...], b: tuple[int, ...], axis: int) -> bool:
    """Says whether two shapes differ along one axis only."""
    return len(a) == len(b) and all(
        n == m for k, (n, m) in enumerate(zip(a, b, strict=True)) if k != axis
    )


def _shapes(array: np.ndarray, shape: tuple[int, ...]) -> str:
    return f"{list(array.shape)} in the file, {list(reference_shape(shape))} here"


def reference_shapes(model: nn.Module, variables: Any) -> dict[str, tuple[int, ...]]:
    """Returns name and shape, in the reference, of every variable (or of the shapes that stand for
    them).
    """
    return {
        model.reference_key(path[1:]): reference_shape(leaf.shape)
        if path[-1] == "kernel"
        else tuple(leaf.shape)
        for path, leaf in flatten_dict(variables).items()
    }
