"""Weights of published files put into the variables of a network: names matched, layouts changed.

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

from covjax.errors import InputError
from covjax.models import published
from covjax.models.reference import PublishedClassifier
from covjax.preprocess.network_input import pretrained_normalization

FIRST = {
    "sum": "one input channel: the kernels of red, green and blue are added, weighted for the "
    "colours' statistics",
    "fresh": "another number of input channels than the weights': the first convolution starts "
    "anew",
}
State = Mapping[str, np.ndarray]


class Match(NamedTuple):
    """What became of every name, by the reference's names, sorted; the last three do not fit."""

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


def name_of(model: nn.Module) -> str:
    """Returns the name by which `create_model` made a network."""
    return model.name or type(model).__name__


def reference_of(model: nn.Module) -> PublishedClassifier:
    """Returns the network whose published weights `model` can start from.

    Raises InputError if there is none.
    """
    reference = published(model)
    if reference is None:
        raise InputError(
            f"model {name_of(model)}: there are no published weights for it, "
            "choose another or train it from scratch"
        )
    return reference


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
    """Puts a state dict into `variables` as far as it fits, and says what became of every name.

    Args:
      model: a network for which there are published weights (`covjax.models.published`).
      state: float32 arrays by the reference's names, in its layout.
      variables: {"params", "batch_stats"} as initialised.
      skip: patterns, as of file names, for the reference's names to leave as they are.
      first: one of FIRST, for a first convolution of other than the weights' input channels.
      known: names of the whole reference, where the network is only its encoder.
      constant: the network sees one grey channel and a constant 1 (`covjax.preprocess`).

    Raises InputError for a network without published weights.
    """
    reference = reference_of(model)
    place = getattr(model, "encoder_path", lambda path: path)
    flat: dict[tuple[str, ...], Any] = flatten_dict(variables)
    places = {path: place(path[1:]) for path in flat}  # in the reference
    wanted = {
        reference.reference_key(there): path for path, there in places.items() if there is not None
    }
    found: dict[str, list[str]] = {field: [] for field in Match._fields}
    found["fresh"] = list({path[1] for path, there in places.items() if there is None})
    for key, path in wanted.items():
        shape = flat[path].shape
        if _skipped(key, skip):
            found["skipped"].append(key)
        elif key not in state:
            found["missing"].append(key)
        else:
            kind, value = _value(reference, places[path], state[key], shape, first, constant)
            found[kind].append(key)
            if value is not None:
                flat[path] = jnp.asarray(value, flat[path].dtype)
    found["misshapen"] = [
        f"{key} {list(state[key].shape)} in the file, "
        f"{list(reference_shape(flat[wanted[key]].shape))} here"
        for key in found["misshapen"]
    ]
    heads = {reference.reference_key((name, "kernel")).split(".")[0] for name in reference.head}
    absent = heads - {key.split(".")[0] for key in wanted}
    for key in state.keys() - wanted.keys():
        if key in known or key.split(".")[0] in absent:
            found["unused"].append(key)
        else:
            found["skipped" if _skipped(key, skip) else "left_over"].append(key)
    found["loaded"] += found["summed"]
    return unflatten_dict(flat), Match(**{field: sorted(names) for field, names in found.items()})


def _skipped(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _value(
    model: PublishedClassifier,
    path: tuple[str, ...],
    array: np.ndarray,
    shape: tuple[int, ...],
    first: str,
    constant: bool,
) -> tuple[str, np.ndarray | None]:
    """Returns the field of Match for the variable at `path`, and its value unless it stays."""
    value = _arranged(model, path, array, shape)
    if value is not None:
        return "loaded", value
    wanted = reference_shape(shape)
    unlike = [k for k, (n, m) in enumerate(zip(array.shape, wanted, strict=False)) if n != m]
    if array.ndim == len(wanted) and path[0] in model.head and unlike == [0]:
        return "replaced", None
    if array.ndim == len(wanted) and path[0] == model.stem and unlike == [1]:
        if first == "fresh":
            return "replaced", None
        if array.shape[1] == 3:
            mean, std, _ = model.pretrained_input
            grey = fold_colours(array, mean, std) if constant else array.sum(1, keepdims=True)
            value = _arranged(model, path, grey, shape)
    return "misshapen" if value is None else "summed", value


def fold_colours(kernels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Folds kernels [O, 3, h, w] of colours normalised by mean and std into [O, 2, h, w].

    Of those the first is for grey, normalised by `pretrained_normalization` for one channel, the
    second for a constant 1; what they see of a grey slice is what the three see of three equal
    channels, at padded borders too.
    """
    grey = pretrained_normalization(mean, std, 1)
    means, stds = 255 * np.array([mean, std], np.float64).reshape(2, 3, 1, 1)
    of_grey = (kernels * (grey.std / stds)).sum(1)
    of_constant = (kernels * ((grey.mean - means) / stds)).sum(1)
    return np.stack([of_grey, of_constant], 1).astype(np.float32)


def _arranged(
    model: PublishedClassifier, path: tuple[str, ...], array: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray | None:
    """Returns an array of the reference in the layout of a variable, or None if it does not fit."""
    wanted = reference_shape(shape)
    grid = model.flattened.get(path[0])
    if array.shape != wanted and not _same_layer(array.shape, wanted, grid):
        return None
    array = array.reshape(wanted)
    if array.ndim == 2 and grid:
        # PyTorch flattens a map channel by channel, this network pixel by pixel.
        array = array.reshape(-1, *grid)
    array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return array.reshape(shape)


def reference_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape in the reference: [O, I, h, w] or [O, I] of kernels, the same of others."""
    return (*shape[:1:-1], *shape[:2]) if len(shape) == 4 else shape[::-1]


def _same_layer(a: tuple[int, ...], b: tuple[int, ...], grid: tuple[int, ...] | None) -> bool:
    """Says whether `a` is another way to write `b`: a dense layer as a convolution, or vice versa.

    `grid` is the [C, H, W] that the dense layer reads flattened, if it does.
    """
    alike = {len(a), len(b)} == {2, 4} and a[0] == b[0] and math.prod(a) == math.prod(b)
    return alike and (len(b) == 2 or b[2:] == (1, 1) or b[1:] == grid)


def reference_shapes(model: PublishedClassifier, variables: Any) -> dict[str, tuple[int, ...]]:
    """Returns name and shape, in the reference, of every variable or what stands for its shape."""
    leaves: dict[tuple[str, ...], Any] = flatten_dict(variables)
    return {
        model.reference_key(path[1:]): reference_shape(leaf.shape) for path, leaf in leaves.items()
    }
