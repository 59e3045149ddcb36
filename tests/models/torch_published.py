"""Networks of torchvision and timm, and a ShuffleNet V1, with our variables: oracles of the parity
tests.
"""

import importlib.util

import jax
import numpy as np
import torch

from tests.models.torch_shufflenet import ShuffleNetV1

for _package in ("timm", "torchvision"):
    # before anything is defined, which cannot be done twice
    if importlib.util.find_spec(_package) is None:
        raise ImportError(f"needs {_package}")
# of the operators for which torchvision needs its own PyTorch no classifier needs any
if torch.version.cuda is None:
    _operators = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _operators.define(_name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
import torchvision  # noqa: E402

IN_TIMM = {"xception": "legacy_xception", "efficientnet_lite0": "tf_efficientnet_lite0"}
INCEPTIONS = {
    "googlenet": torchvision.models.GoogLeNet,
    "inception_v3": torchvision.models.Inception3,
}


def built(model, name, channels=3):
    """The torch network of that name, of the model's classes and options, for 1 or 3 input
    channels.
    """
    classes = model.num_classes
    if name in INCEPTIONS:
        net = INCEPTIONS[name](classes, aux_logits=model.aux, init_weights=False)
    elif name in IN_TIMM:
        net = timm.create_model(IN_TIMM[name], num_classes=classes)
    elif name == "shufflenet_v1":
        widths = {3: (240, 480, 960), 4: (272, 544, 1088)}[model.groups]
        widths = [int(width * model.width) for width in widths]
        net = ShuffleNetV1(widths, model.bottleneck, model.groups, classes, 3)
    else:
        net = torchvision.models.get_model(name, num_classes=classes)
    if channels == 1:
        first = next(module for module in net.modules() if isinstance(module, torch.nn.Conv2d))
        first.in_channels = 1
        first.weight = torch.nn.Parameter(first.weight.detach().sum(1, keepdim=True))
    return net


def network(model, name, variables):
    """The torch network with our variables, in evaluation mode."""
    net = built(model, name)
    state = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        path = tuple(entry.key for entry in path[1:])
        value = in_torch_layout(np.array(leaf), getattr(model, "flattened", {}).get(path[0]))
        state[key_of(model, path)] = torch.tensor(value)
    missing, left = net.load_state_dict(state, strict=False)
    assert not left and all(key.endswith("num_batches_tracked") for key in missing), (missing, left)
    return net.eval()


def in_torch_layout(value, flattened):
    """HWIO to OIHW, (I, O) to (O, I); the inputs of a layer that reads a flattened (C, H, W) in
    PyTorch's order.
    """
    if value.ndim == 2 and flattened:
        channels, height, width = flattened
        value = (
            value.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(value.shape)
        )
    return np.moveaxis(value, (-1, -2), (0, 1)).copy() if value.ndim > 1 else value


def key_of(model, path):
    if hasattr(model, "reference_key"):
        return model.reference_key(path)
    leaves = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    return ".".join([*path[:-1], leaves.get(path[-1], path[-1])])


def to_torch(x):
    return torch.tensor(np.moveaxis(np.asarray(x), -1, 1).copy())


@torch.no_grad()
def evaluated(net, x):
    """Logits and penultimate features."""
    seen = []
    last = [module for module in net.modules() if isinstance(module, torch.nn.Linear)][-1]
    last.register_forward_pre_hook(lambda _, given: seen.append(given[0].numpy()))
    return net(to_torch(x)).numpy(), seen[-1]


@torch.no_grad()
def trained(net, x):
    """([logits, those of auxiliary heads from the first], state) of a step in float64, without
    dropout.
    """
    net.double().train()
    for layer in net.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.eval()
    out = net(to_torch(x).double())
    logits = [out] if torch.is_tensor(out) else [out[0], *reversed(out[1:])]
    return [values.numpy() for values in logits], {
        key: value.numpy() for key, value in net.state_dict().items()
    }
