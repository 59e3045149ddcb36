"""The segmentation networks in PyTorch, from the papers' descriptions: oracles of the parity
tests.
"""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from tests.models.torch_networks import fill_bn, fill_conv


class Blocks(nn.Module):
    """Layers by the names they have in covjax; subclasses list convolutions in `__init__` and run
    them in `forward`.
    """

    def __init__(self, batch_norm=True):
        super().__init__()
        self.layers = nn.ModuleDict()
        self.batch_norm = batch_norm

    def conv(self, name, fan_in, fan_out, size=3, bare=False, **moves):
        moves = {"padding": size // 2, **moves}
        self.layers[name if bare else f"{name}/conv"] = nn.Conv2d(fan_in, fan_out, size, **moves)
        if self.batch_norm and not bare:
            self.layers[f"{name}/bn"] = nn.BatchNorm2d(fan_out)

    def run(self, name, x):
        x = self.layers[f"{name}/conv"](x)
        return F.relu(self.layers[f"{name}/bn"](x) if self.batch_norm else x)

    def stages(self, stages, fan_in=3):
        for stage, widths in enumerate(stages, 1):
            for k, width in enumerate(widths, 1):
                self.conv(f"encoder{stage}_conv{k}", fan_in, width)
                fan_in = width

    def encode(self, x, stages):
        """Returns the pooled image and, for each stage, (what was pooled, indices)."""
        kept = []
        for stage, widths in enumerate(stages, 1):
            for k in range(1, len(widths) + 1):
                x = self.run(f"encoder{stage}_conv{k}", x)
            full = x
            x, indices = F.max_pool2d(x, 2, 2, return_indices=True)
            kept.append((full, indices))
        return x, kept


def unpooled(x, full, indices):
    return nn.MaxUnpool2d(2, 2)(x, indices, output_size=full.shape[-2:])


class SegNet(Blocks):
    def __init__(self, plan, classes=2):
        super().__init__()
        self.plan = plan
        self.stages(plan)
        for stage, widths in enumerate(plan, 1):
            before = [classes if stage == 1 else plan[stage - 2][-1], *widths[:-1]]
            for k, (fan_in, fan_out) in enumerate(zip(widths, before, strict=True), 1):
                self.conv(f"decoder{stage}_conv{k}", fan_in, fan_out, bare=(stage, k) == (1, 1))

    def forward(self, x):
        x, kept = self.encode(x, self.plan)
        for stage in range(len(self.plan), 0, -1):
            x = unpooled(x, *kept.pop())
            for k in range(len(self.plan[stage - 1]), 0, -1):
                last = (stage, k) == (1, 1)
                x = (
                    self.layers["decoder1_conv1"](x)
                    if last
                    else self.run(f"decoder{stage}_conv{k}", x)
                )
        return x.permute(0, 2, 3, 1)


class USegNet(Blocks):
    plan = ((64, 64), (128, 128), (256, 256, 256))

    def __init__(self, classes=2):
        super().__init__()
        self.stages(self.plan)
        self.conv("decoder3_conv3", 256, 256)
        self.conv("decoder3_conv2", 256, 256)
        self.conv("decoder3_conv1", 256, 128)
        self.conv("decoder2_conv2", 128, 128)
        self.conv("decoder2_conv1", 128, 64)
        self.conv("decoder1_conv2", 128, 64, 1)
        self.conv("decoder1_conv1", 64, 64)
        self.conv("logits", 64, classes, 1, bare=True)

    def forward(self, x):
        x, kept = self.encode(x, self.plan)
        x = unpooled(x, *kept.pop())
        for k in (3, 2, 1):
            x = self.run(f"decoder3_conv{k}", x)
        x = unpooled(x, *kept.pop())
        for k in (2, 1):
            x = self.run(f"decoder2_conv{k}", x)
        full, indices = kept.pop()
        x = torch.cat([full, unpooled(x, full, indices)], 1)
        x = self.run("decoder1_conv1", self.run("decoder1_conv2", x))
        return self.layers["logits"](x).permute(0, 2, 3, 1)


class UNet(Blocks):
    """Without dropout, which parity tests switch off."""

    def __init__(self, depth=4, width=64, batch_norm=False, classes=2):
        super().__init__(batch_norm)
        self.plan = [(width * 2**stage,) * 2 for stage in range(depth)]
        self.stages(self.plan)
        bottom = width * 2**depth
        self.conv("bridge_conv1", bottom // 2, bottom)
        self.conv("bridge_conv2", bottom, bottom)
        for stage, (features, _) in enumerate(self.plan, 1):
            self.layers[f"decoder{stage}_unpooling"] = nn.ConvTranspose2d(
                2 * features, features, 2, 2
            )
            self.conv(f"decoder{stage}_conv2", 2 * features, features)
            self.conv(f"decoder{stage}_conv1", features, features)
        self.conv("logits", width, classes, 1, bare=True)

    def forward(self, x):
        x, kept = self.encode(x, self.plan)
        x = self.run("bridge_conv2", self.run("bridge_conv1", x))
        for stage in range(len(self.plan), 0, -1):
            full, _ = kept.pop()
            up = self.layers[f"decoder{stage}_unpooling"]
            # Where a side was odd, its last row or column gets the bias alone.
            fitting = [
                long - 2 * short for long, short in zip(full.shape[-2:], x.shape[-2:], strict=True)
            ]
            x = torch.cat(
                [
                    full,
                    up(
                        x,
                        output_size=[2 * s + f for s, f in zip(x.shape[-2:], fitting, strict=True)],
                    ),
                ],
                1,
            )
            x = self.run(f"decoder{stage}_conv1", self.run(f"decoder{stage}_conv2", x))
        return self.layers["logits"](x).permute(0, 2, 3, 1)


class VGGSegmenter(Blocks):
    """What FCN and DeepLab v1 share: VGG-16 with its layers named by their place in torchvision's
    list.
    """

    def __init__(self, hidden, batch_norm, last_dilation=1):
        super().__init__(batch_norm)
        self.places = []
        place = 0
        fan_in = 3
        for stage, widths in enumerate(VGG16, 1):
            self.places.append([])
            dilation = last_dilation if stage == 5 else 1
            for width in widths:
                conv = nn.Conv2d(fan_in, width, 3, padding=dilation, dilation=dilation)
                self.layers[f"features_{place}"] = conv
                fan_in = width
                self.places[-1].append(place)
                if batch_norm:
                    self.layers[f"features_{place + 1}"] = nn.BatchNorm2d(width)
                place += 3 if batch_norm else 2
            place += 1
        self.hidden = hidden

    def stage(self, x, stage):
        for place in self.places[stage - 1]:
            x = self.layers[f"features_{place}"](x)
            x = F.relu(self.layers[f"features_{place + 1}"](x) if self.batch_norm else x)
        return x


class FCN(VGGSegmenter):
    """Without dropout, which parity tests switch off."""

    def __init__(self, stride, hidden=4096, batch_norm=False, classes=2):
        super().__init__(hidden, batch_norm)
        self.stride = stride
        self.conv("fc6", 512, hidden, 7, bare=True)
        self.conv("fc7", hidden, hidden, 1, bare=True)
        self.conv("score", hidden, classes, 1, bare=True)
        for stage, width in ((4, 512), (3, 256))[: {32: 0, 16: 1, 8: 2}[stride]]:
            self.conv(f"score_pool{stage}", width, classes, 1, bare=True)
            self.layers[f"enlarge_pool{stage}"] = nn.ConvTranspose2d(
                classes, classes, 4, 2, 1, bias=False
            )
        self.layers["enlarge"] = nn.ConvTranspose2d(
            classes, classes, 2 * stride, stride, stride // 2, bias=False
        )

    def forward(self, x):
        size = x.shape[-2:]
        pooled = {}
        for stage in range(1, 6):
            x = pooled[stage] = F.max_pool2d(self.stage(x, stage), 2, 2, ceil_mode=True)
        for name in ("fc6", "fc7"):
            x = F.relu(self.layers[name](x))
        x = self.layers["score"](x)
        for stage in (4, 3):
            if f"score_pool{stage}" in self.layers:
                finer = self.layers[f"score_pool{stage}"](pooled[stage])
                x = (
                    finer
                    + self.layers[f"enlarge_pool{stage}"](x)[
                        ..., : finer.shape[-2], : finer.shape[-1]
                    ]
                )
        return self.layers["enlarge"](x)[..., : size[0], : size[1]].permute(0, 2, 3, 1)


class DeepLabV1(VGGSegmenter):
    """Without dropout, which parity tests switch off."""

    def __init__(self, hidden=1024, batch_norm=False, classes=2):
        super().__init__(hidden, batch_norm, last_dilation=2)
        self.conv("fc6", 512, hidden, bare=True, padding=12, dilation=12)
        self.conv("fc7", hidden, hidden, 1, bare=True)
        self.conv("fc8", hidden, classes, 1, bare=True)

    def forward(self, x):
        size = x.shape[-2:]
        for stage in range(1, 6):
            x = F.max_pool2d(self.stage(x, stage), 3, 2 if stage < 4 else 1, 1)
        x = F.relu(self.layers["fc7"](F.relu(self.layers["fc6"](x))))
        x = F.interpolate(self.layers["fc8"](x), size, mode="bilinear", align_corners=False)
        return x.permute(0, 2, 3, 1)


VGG16 = [(64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3]
NETWORKS = {
    "deeplab_v1": DeepLabV1,
    "fcn8s": partial(FCN, 8),
    "fcn16s": partial(FCN, 16),
    "fcn32s": partial(FCN, 32),
    "segnet": lambda: SegNet(VGG16),
    "segnet_plain": lambda depth=4, width=64: SegNet([(width, width)] * depth),
    "u_segnet": USegNet,
    "unet": UNet,
}


def build(name, options):
    net = NETWORKS[name](**options)
    with torch.no_grad():
        for path, layer in net.layers.items():
            (fill_bn if isinstance(layer, nn.BatchNorm2d) else fill_conv)(layer, path)
    return net, dict(net.layers)
