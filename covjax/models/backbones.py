"""Classifiers whose feature maps by size a segmentation network can be built on, by their names.

Each is a function (net, x, *, train, output_stride=32) -> maps at 1/2, 1/4, 1/8, 1/16 and 1/32 of
the side.
"""

from functools import partial

from covjax.errors import unknown
from covjax.models.classification import efficientnet_lite, resnet

BACKBONES = {
    "efficientnet_lite0": efficientnet_lite.feature_maps,
    "resnet18": partial(resnet.feature_maps, depth=18),
    "resnet50": partial(resnet.feature_maps, depth=50),
}


def check_backbone(name: str) -> None:
    """Raises InputError for a name that is none of BACKBONES."""
    if name not in BACKBONES:
        raise unknown("model option backbone", name, BACKBONES)
