"""DeepLab v3 and FCN of torchvision, DeepLab v3+ out of its and timm's parts, and the U-Net of
segmentation_models: oracles of the parity tests. Without dropout.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from covjax.models import create_model
from tests.models.torch_networks import fill_bn, fill_conv

KINDS = ("conv", "bn")
RATES = {16: (6, 12, 18), 8: (12, 24, 36)}


def published():
    """The module through which torchvision and timm can be imported."""
    try:
        from tests.models import torch_published
    except ImportError:
        pytest.skip("needs torchvision and timm")
    return torch_published


class ResNet50(nn.Module):
    """Maps of a quarter of the side, and of the last stage."""

    def __init__(self, output_stride):
        super().__init__()
        dilate = [False, output_stride == 8, True]
        self.body = published().torchvision.models.resnet50(
            weights=None, replace_stride_with_dilation=dilate
        )
        self.channels = 256, 2048

    def forward(self, x):
        body = self.body
        first = body.layer1(body.maxpool(body.relu(body.bn1(body.conv1(x)))))
        return first, body.layer4(body.layer3(body.layer2(first)))

    def named(self):
        return named_resnet(self.body)


class Lite0(nn.Module):
    def __init__(self, output_stride):
        super().__init__()
        form = {"features_only": True, "output_stride": output_stride, "out_indices": (1, 4)}
        self.body = published().timm.create_model("tf_efficientnet_lite0", **form)
        self.channels = 24, 320

    def forward(self, x):
        return self.body(x)

    def named(self):
        return named_lite0(self.body)


def blocks():
    counts = (1, 2, 2, 3, 3, 4, 1)
    return [
        (),
        *((f"blocks_{stage}_{k}",) for stage, count in enumerate(counts) for k in range(count)),
    ]


def parts(block):
    if not block:
        return ("stem",)
    return (
        ("depthwise", "project") if block == ("blocks_0_0",) else ("expand", "depthwise", "project")
    )


class DeepLabPlus(nn.Module):
    """v3 has no decoder."""

    def __init__(self, decoder, backbone="resnet50", output_stride=16, classes=2):
        super().__init__()
        deeplab = published().torchvision.models.segmentation.deeplabv3
        self.backbone = {"resnet50": ResNet50, "efficientnet_lite0": Lite0}[backbone](output_stride)
        first, last = self.backbone.channels
        self.aspp = deeplab.ASPP(last, RATES[output_stride])
        self.low_level = (
            nn.Sequential(nn.Conv2d(first, 48, 1, bias=False), nn.BatchNorm2d(48))
            if decoder
            else None
        )
        self.fuse = (
            nn.Sequential(nn.Conv2d(304, 256, 3, 1, 1, bias=False), nn.BatchNorm2d(256))
            if decoder
            else None
        )
        self.top = nn.Sequential(
            *list(deeplab.DeepLabHead(last, classes, RATES[output_stride]).children())[1:]
        )

    def forward(self, x):
        size = x.shape[-2:]
        first, x = self.backbone(x)
        x = self.aspp(x)
        if self.fuse:
            x = F.interpolate(x, first.shape[-2:], mode="bilinear", align_corners=False)
            x = F.relu(self.fuse(torch.cat([x, F.relu(self.low_level(first))], 1)))
        x = F.interpolate(self.top(x), size, mode="bilinear", align_corners=False)
        return x.permute(0, 2, 3, 1)

    def named(self):
        """Layers by their names in covjax."""
        layers = self.backbone.named() | named_head(self.aspp, self.top)
        if self.fuse:
            layers |= paired(
                {"head/low_level": tuple(self.low_level), "head/fuse": tuple(self.fuse)}
            )
        return layers


class DeepLabV3(nn.Module):
    """torchvision's deeplabv3_resnet50 as it is, whose output stride is 8."""

    def __init__(self):
        super().__init__()
        make = published().torchvision.models.segmentation.deeplabv3_resnet50
        self.net = make(weights=None, weights_backbone=None, num_classes=2)

    def forward(self, x):
        return self.net(x)["out"].permute(0, 2, 3, 1)

    def named(self):
        aspp, *top = self.net.classifier
        return named_resnet(self.net.backbone) | named_head(aspp, top)


class FCNResNet50(nn.Module):
    """torchvision's fcn_resnet50 as it is."""

    def __init__(self):
        super().__init__()
        make = published().torchvision.models.segmentation.fcn_resnet50
        self.net = make(weights=None, weights_backbone=None, num_classes=2)

    def forward(self, x):
        return self.net(x)["out"].permute(0, 2, 3, 1)

    def named(self):
        conv, bn, _, _, logits = self.net.classifier
        return named_resnet(self.net.backbone) | paired({"last": (conv, bn)}) | {"logits": logits}


class BackboneUNet(nn.Module):
    """The Unet of segmentation_models_pytorch, past its check that 32 divides the sides."""

    def __init__(self, backbone="efficientnet_lite0"):
        super().__init__()
        smp = pytest.importorskip("segmentation_models_pytorch")
        self.resnet = backbone.startswith("resnet")
        name = backbone if self.resnet else f"tu-tf_{backbone}"
        self.net = smp.Unet(name, encoder_weights=None, classes=2)

    def forward(self, x):
        return self.net.segmentation_head(self.net.decoder(self.net.encoder(x))).permute(0, 2, 3, 1)

    def named(self):
        encoder = self.net.encoder
        pairs = {}
        layers = named_resnet(encoder) if self.resnet else named_lite0(encoder.model)
        for stage, block in zip(range(5, 0, -1), self.net.decoder.blocks, strict=True):
            pairs |= {
                f"decoder{stage}_conv{k}": tuple(getattr(block, f"conv{k}"))[:2] for k in (1, 2)
            }
        return layers | paired(pairs) | {"logits": self.net.segmentation_head[0]}


def paired(pairs):
    return {
        f"{name}/{kind}": layer
        for name, two in pairs.items()
        for kind, layer in zip(KINDS, two, strict=True)
    }


def named_resnet(body):
    pairs = {"conv1": (body.conv1, body.bn1)}
    for stage in range(1, 5):
        for k, unit in enumerate(getattr(body, f"layer{stage}")):
            for j in (1, 2, 3) if hasattr(unit, "conv3") else (1, 2):
                pairs[f"layer{stage}_{k}/conv{j}"] = (
                    getattr(unit, f"conv{j}"),
                    getattr(unit, f"bn{j}"),
                )
            if unit.downsample:
                pairs[f"layer{stage}_{k}/downsample"] = tuple(unit.downsample)
    return paired(pairs)


def named_lite0(body):
    """timm's names are those that our classifier gives for weight files."""
    named = {
        n: layer
        for n, layer in body.named_modules()
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)
    }
    ours = {}
    classifier = create_model("efficientnet_lite0")
    for block, part, kind in ((b, p, k) for b in blocks() for p in parts(b) for k in KINDS):
        path = (*block, part, kind)
        leaf = "kernel" if kind == "conv" else "scale"
        ours["/".join(path)] = named.pop(
            classifier.reference_key((*path, leaf)).removesuffix(".weight")
        )
    assert not named
    return ours


def named_head(aspp, top):
    pairs = {f"head/branch{k}": tuple(aspp.convs[k])[:2] for k in range(4)}
    pairs |= {"head/pooling": tuple(aspp.convs[4])[1:3], "head/project": tuple(aspp.project)[:2]}
    return paired(pairs | {"head/last": tuple(top)[:2]}) | {"head/logits": top[-1]}


def build(name, options):
    if name == "fcn_resnet50":
        net = FCNResNet50()
    elif name == "unet_backbone":
        net = BackboneUNet(**options)
    elif name == "deeplab_v3" and options == {"output_stride": 8}:
        net = DeepLabV3()
    else:
        net = DeepLabPlus(name == "deeplab_v3plus", **options)
    with torch.no_grad():
        for path, layer in net.named().items():
            (fill_bn if path.endswith("/bn") else fill_conv)(layer, path)
    return net, net.named()
