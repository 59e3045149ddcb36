"""The classifiers of torchvision and timm, the reference of ours, with weights that both sides make up alike.

Every value is a function of the name and shape of its variable alone, so that logits of the reference can be kept and
compared without PyTorch.
"""

import math
import zlib
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from covjax.pretrained.convert import variables_from_state

IN_TIMM = {"efficientnet_lite0": "tf_efficientnet_lite0"}
TOLERANCE = 1e-4  # of the largest value


def values(key, leaf, shape):
    """Values of a variable in our layout, of a size that keeps activations within a few orders of magnitude."""
    noise = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape, np.float32)
    if leaf == "kernel":
        return noise * np.float32(math.sqrt(1.5 / np.prod(shape[:-1])))
    return np.exp(0.2 * noise) if leaf in ("scale", "var") else 0.1 * noise


def in_torch_layout(array, flattened=None):
    """HWIO to OIHW, (I, O) to (O, I)."""
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if array.ndim == 2 and flattened:
        channels, height, width = flattened
        return array.reshape(height, width, channels, -1).transpose(3, 2, 0, 1).reshape(array.shape[1], -1)
    return array.T if array.ndim == 2 else array


def made_up(model, channels):
    """(variables, the same as a PyTorch state dict of arrays); the variables come from it as those of a file would."""
    shapes = jax.eval_shape(model.init, jax.random.PRNGKey(0), jnp.zeros((1, 96, 96, channels)))
    shapes = {collection: shapes[collection] for collection in ("params", "batch_stats") if collection in shapes}
    state = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        names = tuple(entry.key for entry in path[1:])
        key, flattened = model.reference_key(names), getattr(model, "flattened", {}).get(names[0])
        state[key] = in_torch_layout(values(key, names[-1], leaf.shape), flattened)
    return variables_from_state(model, state, shapes), state


def torch_network(name, state, num_classes, channels=3):
    """The reference network without its dropout, in evaluation mode, strictly loaded; raises ImportError without it."""
    import torch

    net = _built(name, num_classes, channels)
    state = {key: torch.tensor(np.ascontiguousarray(value)) for key, value in state.items()}
    counters = {key: value for key, value in net.state_dict().items() if key.endswith("num_batches_tracked")}
    net.load_state_dict(state | counters, strict=True)
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return net.eval()


def _built(name, num_classes, channels):
    torchvision = import_torchvision()
    if name in IN_TIMM:
        import timm

        return timm.create_model(IN_TIMM[name], num_classes=num_classes, in_chans=channels)
    if channels != 3:
        raise ValueError("networks of torchvision take 3 channels")
    return torchvision.models.get_model(name, num_classes=num_classes)


@cache
def import_torchvision():
    """Imports torchvision beside a PyTorch for which it was not built: of its operators no classifier needs any."""
    import torch

    if torch.version.cuda is None:
        _library.append(torch.library.Library("torchvision", "DEF"))
        for operator in ("nms", "qnms"):
            _library[-1].define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

    return torchvision


_library = []  # its operators live as long as it does
