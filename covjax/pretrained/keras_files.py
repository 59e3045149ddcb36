"""The weights of Keras' Xception, as Keras 1 to 3 write them (.h5), under the names and in the
layout of PyTorch.

Only arrays are read: not the description of the model beside them, in which Keras keeps code. A
file cannot lead to another one: links, external and virtual arrays are refused, as are compressed
ones, whose size says nothing.
"""

import io
import re
from collections.abc import Iterator

import h5py
import numpy as np

from covjax.pretrained.unpickle import Unreadable, shown

MAX_OBJECTS = 10_000
MAX_DEPTH = 8
# Last part of an array's name: Keras 2 and 3, or Keras 1. What Keras 1 called running_std is the
# variance.
LEAVES = {
    r"depthwise_kernel": "depthwise",
    r"pointwise_kernel": "pointwise",
    r"kernel|W": "weight",
    r"bias|b|beta": "bias",
    r"gamma": "weight",
    r"moving_mean|running_mean": "running_mean",
    r"moving_variance|running_std": "running_var",
}
# blocks with a convolution beside them, which Keras only numbers
SKIPS = ("block1", "block2", "block3", "block12")


def read_keras(data: bytes) -> dict[str, np.ndarray]:
    """Reads weights, or the weights of a model; "top" (the classifier) may be left out, as in a
    _notop file.

    Raises Unreadable, or what a damaged file makes h5py raise.
    """
    layers: dict[str, dict[str, np.ndarray]] = {}
    with h5py.File(io.BytesIO(data), "r") as file:
        root = (
            file["model_weights"]
            if file.get("model_weights", getclass=True) is h5py.Group
            else file
        )
        for path, array in _arrays(root, len(data)):
            layer, *_, name = path.split("/")
            leaf = next(
                (new for old, new in LEAVES.items() if re.fullmatch(rf"(.*_)?({old})(:0)?", name)),
                None,
            )
            if leaf is None or leaf in layers.setdefault(layer, {}):
                raise Unreadable(
                    f"{shown(path)} in it is no array of Keras' Xception, the one Keras network read here"
                )
            layers[layer][leaf] = array
    names = _names(layers)
    state = {}
    for layer, arrays in layers.items():
        for leaf, array in arrays.items():
            state[_key(names[layer], leaf)] = _as_in_torch(array, leaf)
    if not state:
        raise Unreadable("holds no weights")
    return state


def _arrays(group: h5py.Group, length: int, prefix: str = "", seen: list | None = None) -> Iterator:
    """Yields path and content of every array below a group."""
    seen = [] if seen is None else seen
    for name in group:
        path = f"{prefix}{name}"
        seen.append(path)
        if len(seen) > MAX_OBJECTS or path.count("/") > MAX_DEPTH:
            raise Unreadable("more groups than Keras writes, get it from another place")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise Unreadable(
                f"{shown(path)} in it is a link to elsewhere, get it from another place"
            )
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _arrays(item, length, f"{path}/", seen)
        elif isinstance(item, h5py.Dataset):
            yield path, _content(path, item, length)


def _content(path: str, array: h5py.Dataset, length: int) -> np.ndarray:
    kind = array.id.get_create_plist().get_layout()
    if kind not in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT) or array.external:
        raise Unreadable(
            f"{shown(path)} in it is compressed or kept elsewhere, save it again with save_weights"
        )
    if array.dtype.kind != "f" or array.shape is None:
        raise Unreadable(
            f"{shown(path)} in it holds no floating-point numbers, save the weights alone"
        )
    if array.nbytes > length or array.id.get_storage_size() != array.nbytes:
        raise Unreadable(
            f"{shown(path)} in it declares more values than the file holds, get it from another place"
        )
    return array[()]


def _names(layers: dict[str, dict]) -> dict[str, str]:
    """Returns timm's name of every layer of Keras' Xception. Raises Unreadable if there are
    others.
    """
    names = {}
    numbered: dict[str, list[tuple[int, str]]] = {"conv": [], "norm": []}
    for layer in layers:
        if other := re.fullmatch(
            r"(?:conv2d|convolution2d|batch_?normalization)(?:_(\d+))?", layer
        ):
            kind = "conv" if layer.startswith("conv") else "norm"
            numbered[kind].append((int(other[1] or 0), layer))
        elif (name := _name(layer)) is None:
            raise Unreadable(
                f"its layer {shown(layer)} is none of Keras' Xception, the one Keras network read here"
            )
        else:
            names[layer] = name
    for kind, skip in (("conv", "skip"), ("norm", "skipbn")):
        if len(numbered[kind]) not in (0, len(SKIPS)):
            raise Unreadable(
                f"{len(numbered[kind])} unnamed layers where Keras' Xception has {len(SKIPS)}"
            )
        for block, (_, layer) in zip(SKIPS, sorted(numbered[kind]), strict=False):
            names[layer] = f"{block}.{skip}"
    return names


def _name(layer: str) -> str | None:
    if layer == "predictions":
        return "fc"
    first = re.fullmatch(r"block1_conv([12])(_bn)?", layer)
    last = re.fullmatch(r"block14_sepconv([12])(_bn)?", layer)
    if first or last:
        number, norm = (first or last).groups()
        return f"{'bn' if norm else 'conv'}{int(number) + (2 if last else 0)}"
    if within := re.fullmatch(r"block([2-9]|1[0-3])_sepconv([123])(_bn)?", layer):
        block = int(within[1]) - 1
        number = int(within[2])
        # timm counts the layers of a block, a ReLU before every convolution but the first of block
        # 1.
        position = 3 * (number - 1) + (block > 1) + bool(within[3])
        return f"block{block}.rep.{position}"
    return None


def _key(name: str, leaf: str) -> str:
    return (
        f"{name}.{ {'depthwise': 'conv1.weight', 'pointwise': 'pointwise.weight'}.get(leaf, leaf) }"
    )


def _as_in_torch(array: np.ndarray, leaf: str) -> np.ndarray:
    """HWIO -> OIHW; depthwise (h, w, C, 1) -> (C, 1, h, w); dense [in, out] -> [out, in]."""
    if leaf == "depthwise":
        return array.transpose(2, 3, 0, 1)
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
