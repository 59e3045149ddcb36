"""PyTorch's training step and evaluation of the same networks, as fast as it offers them."""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from tests.benchmarks.contenders import NETWORKS, random_batch
from tests.models.torch_networks import build

CLASSIFIERS = ("cov_ctnet", "resnet50")


def steps(
    network: str, batch: int, precision: str, compiled: bool
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Returns (train, evaluate) of `batch` slices that lie on the host; both wait for the card."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    height, width, channels = NETWORKS[network]
    image, label, mask = random_batch(batch, height, width)
    truth = torch.tensor(label if network in CLASSIFIERS else mask, dtype=torch.long).cuda()
    host = torch.tensor(np.asarray(image)).pin_memory()
    net = made(network, channels).cuda().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 1e-6, momentum=0.95, weight_decay=1e-4)
    call = torch.compile(net) if compiled else net

    def logits() -> torch.Tensor:
        grey = host.cuda(non_blocking=True)[:, None].expand(-1, channels, -1, -1)
        x = grey.float().sub(127).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
            return call(x).float()

    def train() -> None:
        net.train()
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(logits().flatten(0, -2), truth.flatten())
        loss.backward()
        optimizer.step()
        torch.cuda.synchronize()

    def evaluate() -> None:
        net.eval()
        with torch.no_grad():
            logits().argmax(-1).cpu()
        torch.cuda.synchronize()

    return train, evaluate


def made(network: str, channels: int) -> torch.nn.Module:
    if network != "resnet50":
        return build(network, {"final": "linear"} if network == "cov_raseg" else {})[0]
    import torchvision

    net = torchvision.models.resnet50(num_classes=2)
    net.conv1 = torch.nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    return net
