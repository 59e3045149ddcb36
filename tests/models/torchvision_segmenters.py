"""DeepLab v3 and v3+ out of torchvision's parts: oracles of the parity tests. Without dropout."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.models.torch_networks import fill_bn, fill_conv

KINDS = ("conv", "bn")


class DeepLab(nn.Module):
    def __init__(self, decoder, output_stride=16, classes=2):
        super().__init__()
        torchvision = pytest.importorskip("torchvision")
        deeplab = torchvision.models.segmentation.deeplabv3
        dilate = [False, output_stride == 8, True]
        self.body = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=dilate)
        rates = {16: (6, 12, 18), 8: (12, 24, 36)}[output_stride]
        self.aspp = deeplab.ASPP(2048, rates)
        self.low_level = nn.Sequential(nn.Conv2d(256, 48, 1, bias=False), nn.BatchNorm2d(48)) if decoder else None
        self.fuse = nn.Sequential(nn.Conv2d(304, 256, 3, 1, 1, bias=False), nn.BatchNorm2d(256)) if decoder else None
        self.top = nn.Sequential(*list(deeplab.DeepLabHead(2048, classes, rates).children())[1:])

    def forward(self, x):
        size, body = x.shape[-2:], self.body
        first = body.layer1(body.maxpool(body.relu(body.bn1(body.conv1(x)))))
        x = self.aspp(body.layer4(body.layer3(body.layer2(first))))
        if self.fuse:
            x = F.interpolate(x, first.shape[-2:], mode="bilinear", align_corners=False)
            x = F.relu(self.fuse(torch.cat([x, F.relu(self.low_level(first))], 1)))
        x = F.interpolate(self.top(x), size, mode="bilinear", align_corners=False)
        return x.permute(0, 2, 3, 1)

    def named(self):
        """Layers by their names in covjax."""
        pairs = {"conv1": (self.body.conv1, self.body.bn1)}
        for stage in range(1, 5):
            for k, unit in enumerate(getattr(self.body, f"layer{stage}")):
                for j in (1, 2, 3):
                    pairs[f"layer{stage}_{k}/conv{j}"] = getattr(unit, f"conv{j}"), getattr(unit, f"bn{j}")
                if unit.downsample:
                    pairs[f"layer{stage}_{k}/downsample"] = tuple(unit.downsample)
        pairs |= {f"head/branch{k}": tuple(self.aspp.convs[k])[:2] for k in range(4)}
        pairs |= {"head/pooling": tuple(self.aspp.convs[4])[1:3], "head/project": tuple(self.aspp.project)[:2]}
        pairs |= {"head/last": tuple(self.top)[:2]}
        if self.fuse:
            pairs |= {"head/low_level": tuple(self.low_level), "head/fuse": tuple(self.fuse)}
        layers = {
            f"{name}/{kind}": layer for name, two in pairs.items() for kind, layer in zip(KINDS, two, strict=True)
        }
        return layers | {"head/logits": self.top[-1]}


def build(decoder, options):
    net = DeepLab(decoder, **options)
    with torch.no_grad():
        for path, layer in net.named().items():
            (fill_bn if path.endswith("/bn") else fill_conv)(layer, path)
    return net, net.named()
