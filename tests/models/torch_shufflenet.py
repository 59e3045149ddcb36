"""ShuffleNet V1 in PyTorch, from the paper's Figure 2 and Table 1: oracle of the parity test."""

import torch
from torch import nn
from torch.nn import functional as F


class Unit(nn.Module):
    def __init__(self, fan_in, width, bottleneck, groups, first_groups, stride):
        super().__init__()
        self.groups = groups
        self.stride = stride
        fan_out = width - fan_in if stride == 2 else width
        middle = fan_out if bottleneck == 1 else width // bottleneck
        self.first = conv_bn(fan_in, middle, 1, 1, first_groups)
        self.depthwise = conv_bn(middle, middle, 3, stride, middle)
        self.second = conv_bn(middle, fan_out, 1, 1, groups)

    def forward(self, x):
        y = F.relu(self.first(x))
        y = torch.cat(
            [y[:, k :: y.shape[1] // self.groups] for k in range(y.shape[1] // self.groups)], 1
        )
        y = self.second(self.depthwise(y))
        return (
            F.relu(x + y)
            if self.stride == 1
            else torch.cat([F.avg_pool2d(x, 3, 2, 1), F.relu(y)], 1)
        )


class ShuffleNetV1(nn.Module):
    """Its modules and their variables are named as in covjax."""

    def __init__(self, widths, bottleneck, groups, classes, channels):
        super().__init__()
        self.conv1 = conv_bn(channels, 24, 3, 2, 1)
        fan_in = 24
        for stage, (width, units) in enumerate(zip(widths, (4, 8, 4), strict=True), 2):
            for k in range(units):
                first_groups = 1 if (stage, k) == (2, 0) else groups
                unit = Unit(fan_in, width, bottleneck, groups, first_groups, 1 if k else 2)
                self.add_module(f"stage{stage}_{k}", unit)
                fan_in = width
        self.fc = nn.Linear(fan_in, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 3, 2, 1)
        for name, unit in self.named_children():
            x = unit(x) if name.startswith("stage") else x
        return self.fc(x.mean((2, 3)))


def conv_bn(fan_in, fan_out, size, stride, groups):
    layers = nn.Sequential()
    layers.add_module(
        "conv", nn.Conv2d(fan_in, fan_out, size, stride, size // 2, groups=groups, bias=False)
    )
    layers.add_module("bn", nn.BatchNorm2d(fan_out))
    return layers
