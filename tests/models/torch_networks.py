"""Both networks in PyTorch, from the paper's description: oracle of the parity tests, peer of the
benchmark.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tests.models.seeding import seeded_array


def cov_raseg(final="relu", features=64, classes=2):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.ModuleDict()
            self.bn = nn.ModuleDict()
            for part in ("encoder1", "encoder2", "decoder2", "decoder1"):
                for k in (1, 2, 3):
                    fan_in = 3 if (part, k) == ("encoder1", 1) else features
                    fan_out = classes if (part, k) == ("decoder1", 1) else features
                    self.conv[f"{part}_conv{k}"] = nn.Conv2d(fan_in, fan_out, 3, 1, 1)
                    if k < 3:
                        self.bn[f"{part}_conv{k}"] = nn.BatchNorm2d(fan_out, eps=1e-5)

        def full(self, x, name, relu=True):
            x = self.bn[name](self.conv[name](x))
            return F.relu(x) if relu else x

        def third(self, x, name):
            return F.relu(self.conv[name](x))

        def smooth(self, x):
            return F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2, stride=1)

        def forward(self, x):
            indices = []
            sizes = []
            for part in ("encoder1", "encoder2"):
                x = self.smooth(self.full(self.full(x, f"{part}_conv1"), f"{part}_conv2"))
                x = self.third(x, f"{part}_conv3")
                sizes.append(x.shape[-2:])
                x, index = F.max_pool2d(x, 2, 2, return_indices=True)
                indices.append(index)
            for part in ("decoder2", "decoder1"):
                x = F.max_unpool2d(x, indices.pop(), 2, 2, output_size=sizes.pop())
                x = self.full(self.smooth(self.third(x, f"{part}_conv3")), f"{part}_conv2")
                x = self.full(x, f"{part}_conv1", relu=part == "decoder2" or final == "relu")
            return x.permute(0, 2, 3, 1)

    net = Net()
    with torch.no_grad():
        for name, conv in net.conv.items():
            prefix = f"{name}/conv" if name in net.bn else name
            fill_conv(conv, prefix)
        for name, bn in net.bn.items():
            fill_bn(bn, f"{name}/bn")
    paths = {f"{n}/conv" if n in net.bn else n: m for n, m in net.conv.items()}
    return net, paths | {f"{n}/bn": m for n, m in net.bn.items()}


def cov_ctnet():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleDict()
            self.plan = []
            self.add("stem", 1, 64, 7, 2)
            width = 64
            for stage, features in enumerate((64, 128, 256, 512), 1):
                for unit in (1, 2):
                    name = f"stage{stage}_unit{unit}"
                    stride = 2 if stage > 1 and unit == 1 else 1
                    self.add(f"{name}/first", width, features, 3, stride)
                    self.add(f"{name}/second", features, features, 3, 1)
                    if stride == 2:
                        self.add(f"{name}/shortcut", width, features, 1, 2)
                    self.plan.append((name, stride == 2))
                    width = features
            for k, (fan_in, fan_out) in enumerate(((512, 264), (264, 64), (64, 2)), 1):
                self.layers[f"fc{k}"] = nn.Linear(fan_in, fan_out)

        def add(self, name, fan_in, fan_out, size, stride):
            self.layers[f"{name}/conv"] = nn.Conv2d(
                fan_in, fan_out, size, stride, size // 2, bias=False
            )
            self.layers[f"{name}/bn"] = nn.BatchNorm2d(fan_out, eps=1e-5)

        def run(self, name, x):
            return self.layers[f"{name}/bn"](self.layers[f"{name}/conv"](x))

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.run("stem", x)), 3, 2, 1)
            for name, projected in self.plan:
                y = self.run(f"{name}/second", F.relu(self.run(f"{name}/first", x)))
                x = F.relu(y + (self.run(f"{name}/shortcut", x) if projected else x))
            x = F.adaptive_max_pool2d(x, 1).flatten(1)
            for k in (1, 2, 3):  # no ReLU drawn between them; dropout off
                x = self.layers[f"fc{k}"](x)
            return x

    net = Net()
    with torch.no_grad():
        for name, layer in net.layers.items():
            (fill_bn if name.endswith("/bn") else fill_conv)(layer, name)
    return net, dict(net.layers)


def fill_conv(layer, name):
    """Fills a convolution (HWIO -> OIHW), a transposed one (HWIO -> IOHW) or a dense layer ((I, O)
    -> (O, I)).
    """
    kernel = seeded_array(f"{name}/kernel", our_layout(layer, layer.weight).shape)
    places = (1, 0) if isinstance(layer, nn.ConvTranspose2d) else (0, 1)
    layer.weight.copy_(torch.tensor(np.moveaxis(kernel, (-1, -2), places).copy()))
    if layer.bias is not None:
        layer.bias.copy_(torch.tensor(seeded_array(f"{name}/bias", tuple(layer.bias.shape))))


def our_layout(layer, weight):
    """Returns the weight of a layer, or its gradient, as covjax keeps it."""
    weight = weight.detach().numpy()
    if weight.ndim == 1:
        return weight
    return np.moveaxis(
        weight, (1, 0) if isinstance(layer, nn.ConvTranspose2d) else (0, 1), (-1, -2)
    )


def fill_bn(layer, name):
    arrays = dict(weight="scale", bias="bias", running_mean="mean", running_var="var")
    for theirs, ours in arrays.items():
        getattr(layer, theirs).copy_(
            torch.tensor(seeded_array(f"{name}/{ours}", tuple(layer.bias.shape)))
        )


def build(name, options):
    """Returns the network, filled as `seeding` does, and its layers by their names in covjax."""
    if name in ("cov_ctnet", "cov_raseg"):
        return cov_raseg(**options) if name == "cov_raseg" else cov_ctnet()
    from tests.models import torch_segmenters, torchvision_segmenters

    if name in torch_segmenters.NETWORKS:
        return torch_segmenters.build(name, options)
    return torchvision_segmenters.build(name, options)


def to_torch(x):
    return torch.tensor(np.moveaxis(x, -1, 1).copy())
