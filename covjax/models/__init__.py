"""Every network by name; a new family is one file and one line in MODELS.

A classifier passes its last convolutional feature map and its penultimate features through
`layers.expose`, in its own `__call__`, as "feature_map" [N, h, w, C] and "features" [N, D]:
Grad-CAM and the report read them there. Auxiliary heads pass their logits as "auxiliary" while
training. Class attributes say what is known of the network:

- `least_side`: side in pixels of the smallest input (1 if it has none);
- `stem`, `head`: module names of the first convolution and of the layers, a tuple, whose shape
  depends on num_classes;
- `auxiliary_weight`: of the loss of each auxiliary head;
- those of `covjax.models.reference.PublishedClassifier`: what published weights expect;
- `encoder`, `encoder_path`: of a segmentation network that begins as a classifier with published
  weights does, the name of that classifier, and a function of a variable's path: its path in the
  classifier, or None if it has none there.
"""

import dataclasses
import math
import numbers
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from covjax.errors import InputError, check_new_name
from covjax.models.classification.cov_ctnet import CovCTNet
from covjax.models.classification.densenet import DenseNet
from covjax.models.classification.efficientnet_lite import EfficientNetLite0
from covjax.models.classification.googlenet import GoogLeNet
from covjax.models.classification.inception_v3 import InceptionV3
from covjax.models.classification.resnet import ResNet
from covjax.models.classification.shufflenet_v1 import ShuffleNetV1
from covjax.models.classification.shufflenet_v2 import ShuffleNetV2
from covjax.models.classification.vgg import VGG
from covjax.models.classification.xception import Xception
from covjax.models.reference import PublishedClassifier
from covjax.models.segmentation.cov_raseg import CovRASeg
from covjax.models.segmentation.deeplab_v1 import DeepLabV1
from covjax.models.segmentation.deeplab_v3 import DeepLabV3
from covjax.models.segmentation.fcn import FCN, FCNResNet50
from covjax.models.segmentation.segnet import PlainSegNet, SegNet
from covjax.models.segmentation.u_segnet import USegNet
from covjax.models.segmentation.unet import UNet
from covjax.models.segmentation.unet_backbone import BackboneUNet
from covjax.nn.network import Network
from covjax.ops.checks import check_name, is_whole, shown

# Class and the options that the name fixes.
Entry = tuple[type[Network], dict[str, Any]]
MODELS: dict[str, dict[str, Entry]] = {
    "classification": {
        "cov_ctnet": (CovCTNet, {}),
        "densenet201": (DenseNet, {}),
        "efficientnet_lite0": (EfficientNetLite0, {}),
        "googlenet": (GoogLeNet, {}),
        "inception_v3": (InceptionV3, {}),
        "resnet18": (ResNet, {"depth": 18}),
        "resnet50": (ResNet, {"depth": 50}),
        "shufflenet_v1": (ShuffleNetV1, {}),
        "shufflenet_v2_x1_0": (ShuffleNetV2, {}),
        "vgg16": (VGG, {"depth": 16, "batch_norm": False}),
        "vgg16_bn": (VGG, {"depth": 16, "batch_norm": True}),
        "vgg19": (VGG, {"depth": 19, "batch_norm": False}),
        "vgg19_bn": (VGG, {"depth": 19, "batch_norm": True}),
        "xception": (Xception, {}),
    },
    "segmentation": {
        "cov_raseg": (CovRASeg, {}),
        "deeplab_v1": (DeepLabV1, {}),
        "deeplab_v3": (DeepLabV3, {"decoder": False}),
        "deeplab_v3plus": (DeepLabV3, {"decoder": True}),
        "fcn16s": (FCN, {"stride": 16}),
        "fcn32s": (FCN, {"stride": 32}),
        "fcn8s": (FCN, {"stride": 8}),
        "fcn_resnet50": (FCNResNet50, {}),
        "segnet": (SegNet, {"depth": 16}),
        "segnet_plain": (PlainSegNet, {}),
        "u_segnet": (USegNet, {}),
        "unet": (UNet, {}),
        "unet_backbone": (BackboneUNet, {}),
        "vgg16_seg": (SegNet, {"depth": 16}),
        "vgg19_seg": (SegNet, {"depth": 19}),
    },
}
COMMON_FIELDS = ("num_classes", "dtype", "remat")  # fields of every network


def list_models(task: str | None = None) -> list[str]:
    """Returns the names of all networks, or of one task ("classification" or "segmentation")."""
    if task is not None:
        check_name("task", task, MODELS)
    return sorted(name for kind, table in MODELS.items() if task in (None, kind) for name in table)


def create_model(
    name: str,
    num_classes: int = 2,
    task: str | None = None,
    dtype: str = "float32",
    remat: bool = False,
    **options: Any,
) -> Network:
    """Builds a network: `model.apply(variables, image [N, H, W, C], train=...)` -> float32 logits.

    Logits are [N, K] for classification, [N, H, W, K] for segmentation.

    Args:
      name: one of `list_models()`.
      num_classes: K.
      task: restricts the names to one task.
      dtype: what it computes in, "float32" or "bfloat16"; parameters are float32 in both.
      remat: in training, keep only what lies between the parts of the network and compute the
        rest again for the gradient: half the activation memory for about a quarter more time. On a
        CPU it needs jax 0.12; before, XLA merges the second computation with the first.
      **options: the fields of that network, e.g. `final="linear"` for cov_raseg.

    Raises InputError for an unknown name, dtype or option, listing the valid ones.
    """
    network, fixed = _entry(name, task)
    check_name("dtype", dtype, ("float32", "bfloat16"))
    defaults = model_options(name)
    for option, value in options.items():
        check_name(f"option of model {name}", option, defaults)
        _check_option(f"model {name}: {option}", value, defaults[option])
    if not is_whole(num_classes) or num_classes < 2:
        raise InputError(
            f"model {name}: num_classes={shown(num_classes)}, give a whole number, 2 or more"
        )
    _check_option(f"model {name}: remat", remat, False)
    common = {"num_classes": num_classes, "dtype": jnp.dtype(dtype), "remat": remat}
    return network(**common, **fixed, **options, name=name)


def register_model(
    name: str,
    network: type[Network],
    task: str,
    *,
    override: bool = False,
    **fixed: Any,
) -> None:
    """Adds a network, which configurations, lists and messages then offer by its name.

    Args:
      name: small letters, digits and _.
      network: a subclass of `covjax.nn.network.Network`, for classification of `Classifier`; its
        fields with defaults are the options of the configuration.
      task: "classification" or "segmentation".
      override: replaces a network of that name.
      **fixed: fields that the name settles.

    Raises InputError for a name that cannot be used or is taken, another task, a class that is no
    network, or fields that it lacks.
    """
    what = f"model '{name}'"
    check_name(f"{what}: task", task, MODELS)
    check_new_name(what, name, list_models(), override)
    if not (isinstance(network, type) and issubclass(network, Network)):
        raise InputError(f"{what}: {shown(network)} is no subclass of covjax.nn.network.Network")
    for field in fixed:
        check_name(f"{what}: field", field, [f.name for f in dataclasses.fields(network)])
    for table in MODELS.values():
        table.pop(name, None)
    MODELS[task][name] = (network, fixed)


def published(model: nn.Module) -> PublishedClassifier | None:
    """Returns the network whose published weights `model` or its encoder can take, or None."""
    reference = create_model(model.encoder) if hasattr(model, "encoder") else model
    return reference if isinstance(reference, PublishedClassifier) else None


def model_class(name: str) -> type[Network]:
    """Returns the class of a network by its name. Raises InputError for an unknown one."""
    return _entry(name)[0]


def model_options(name: str, task: str | None = None) -> dict[str, Any]:
    """Returns the options of a network with their defaults, as `create_model` takes them.

    Raises InputError for a name unknown to the task.
    """
    network, fixed = _entry(name, task)
    others = {"parent", "name", *COMMON_FIELDS, *fixed}
    fields = (field for field in dataclasses.fields(network) if field.name not in others)
    return {field.name: field.default for field in fields}


def _entry(name: str, task: str | None = None) -> Entry:
    """Returns the line of MODELS. Raises InputError for a name unknown to the task."""
    check_name(f"{task or ''} model".lstrip(), name, list_models(task))
    return next(table[name] for table in MODELS.values() if name in table)


def _check_option(where: str, value: Any, default: Any) -> None:
    """Raises InputError unless an option is of its default's type and, as a number, usable."""
    if isinstance(default, bool):
        fits = isinstance(value, bool)
        wanted = "True or False"
    elif isinstance(default, int):
        fits = is_whole(value) and value > 0
        wanted = "a whole number, 1 or more"
    elif isinstance(default, float):
        most = 1 if where.endswith("dropout") else math.inf
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        fits = number and 0 <= float(value) < most
        wanted = f"a number, 0 or more{' and below 1' if most == 1 else ''}"
    else:
        fits = not isinstance(default, str) or isinstance(value, str)
        wanted = "a name"
    if not fits:
        raise InputError(f"{where}={shown(value)}, give {wanted}")
