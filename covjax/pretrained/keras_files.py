"""The weights of Keras' Xception (.h5 of Keras 1 to 3), by PyTorch's names and in its layout.

Only arrays are read: not the description of the model, in which Keras keeps code. A
file cannot lead to another one: links, external and virtual arrays are refused, as are compressed
ones, where the size says nothing.
"""

import re
from collections.abc import Collection, Iterator

import h5py
import numpy as np

from covjax.pretrained.content import Content
from covjax.pretrained.unpickle import MAX_MEMBERS, Unreadable, shown

MAX_DEPTH = 8
# Last part of an array's name: Keras 2 and 3, or Keras 1. What Keras 1 called running_std is the
# variance.
LEAVES = {
    r"depthwise_kernel": "conv1.weight",
    r"pointwise_kernel": "pointwise.weight",
    r"kernel|W": "weight",
    r"bias|b|beta": "bias",
    r"gamma": "weight",
    r"moving_mean|running_mean": "running_mean",
    r"moving_variance|running_std": "running_var",
}
# Blocks with a convolution in the shortcut: Keras only numbers these and their BatchNorm.
SKIPS = ("block1", "block2", "block3", "block12")
NUMBERED = {r"conv2d|convolution2d": "skip", r"batch_?normalization": "skipbn"}


def read_keras(data: Content) -> dict[str, np.ndarray]:
    """Reads weights, or the weights of a model; "top" (the classifier) may be left out (_notop).

    Raises Unreadable, or what files.DAMAGE lists.
    """
    with h5py.File(data.file, "r") as file:
        # looked at only if it lies in this file, not behind a link
        linked = not isinstance(file.get("model_weights", getlink=True), h5py.HardLink)
        weights = file if linked else file["model_weights"]
        top = weights if isinstance(weights, h5py.Group) else file
        arrays: dict[str, np.ndarray] = {}
        room = data.size  # several names may stand for one array
        for path, array in _arrays(top, "", []):
            arrays[path] = _content(path, array, room)
            room -= array.nbytes
    names = _layer_names({path.split("/")[0] for path in arrays})
    state = {}
    for path, array in arrays.items():
        layer, *_, name = path.split("/")
        leaves = [new for old, new in LEAVES.items() if re.fullmatch(rf"(.*_)?({old})(:0)?", name)]
        key = f"{names[layer]}.{leaves[0]}" if leaves else ""
        if not leaves or key in state:
            raise Unreadable(
                f"{shown(path)} in it is no array of Keras' Xception, "
                "the one Keras network read here"
            )
        state[key] = _as_in_torch(array, leaves[0])
    return state


def _arrays(group: h5py.Group, prefix: str, seen: list[str]) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yields path and array of every one below a group; `seen` takes the paths."""
    for name in group:
        path = f"{prefix}{name}"
        seen.append(path)
        if len(seen) > MAX_MEMBERS or path.count("/") > MAX_DEPTH:
            raise Unreadable("more groups than Keras writes, get it from another place")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise Unreadable(
                f"{shown(path)} in it is a link to elsewhere, get it from another place"
            )
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _arrays(item, f"{path}/", seen)
        elif isinstance(item, h5py.Dataset):
            yield path, item


def _content(path: str, array: h5py.Dataset, room: int) -> np.ndarray:
    kind = array.id.get_create_plist().get_layout()
    if kind not in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT) or array.external:
        raise Unreadable(
            f"{shown(path)} in it is compressed or kept elsewhere, save it again with save_weights"
        )
    if array.dtype.kind != "f" or array.shape is None:
        raise Unreadable(
            f"{shown(path)} in it holds no floating-point numbers, save the weights alone"
        )
    if array.nbytes > room or array.id.get_storage_size() != array.nbytes:
        raise Unreadable(
            f"{shown(path)} in it declares more values than the file holds, "
            "get it from another place"
        )
    return array[()]


def _layer_names(layers: Collection[str]) -> dict[str, str]:
    """Returns timm's name of every layer of Keras' Xception.

    Raises Unreadable if one of `layers` is another.
    """
    names = {"predictions": "fc"}
    outer = ("block1_conv1", "block1_conv2", "block14_sepconv1", "block14_sepconv2")
    for number, layer in enumerate(outer, 1):
        names |= {layer: f"conv{number}", f"{layer}_bn": f"bn{number}"}
    for block in range(1, 13):
        for number in range(3):
            layer = f"block{block + 1}_sepconv{number + 1}"
            # timm counts a ReLU before every convolution but the first of block 1.
            place = 3 * number + (block > 1)
            names[layer] = f"block{block}.rep.{place}"
            names[f"{layer}_bn"] = f"block{block}.rep.{place + 1}"
    for pattern, kind in NUMBERED.items():
        found = [re.fullmatch(rf"(?:{pattern})(?:_(\d+))?", layer) for layer in layers]
        numbered = sorted((int(match[1] or 0), match[0]) for match in found if match)
        if len(numbered) not in (0, len(SKIPS)):
            raise Unreadable(
                f"{len(numbered)} unnamed layers where Keras' Xception has {len(SKIPS)}"
            )
        for block, (_, layer) in zip(SKIPS, numbered, strict=False):
            names[layer] = f"{block}.{kind}"
    others = sorted(set(layers) - names.keys())
    if others:
        raise Unreadable(
            f"its layer {shown(others[0])} is none of Keras' Xception, "
            "the one Keras network read here"
        )
    return names


def _as_in_torch(array: np.ndarray, leaf: str) -> np.ndarray:
    """HWIO -> OIHW; depthwise (h, w, C, 1) -> (C, 1, h, w); dense [in, out] -> [out, in]."""
    if leaf == "conv1.weight":
        return array.transpose(2, 3, 0, 1)
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
