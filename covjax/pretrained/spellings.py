"""Names of weights in published files, turned into those of today's torchvision and timm."""

import re
from collections.abc import Mapping

import numpy as np

from covjax.models.classification.efficientnet_lite import (
    IN_TIMM,
    IN_TIMM_WITHOUT_EXPANSION,
    STAGES,
)
from covjax.pretrained.unpickle import Unreadable

# What wrappers (DataParallel, torch.compile, a training module) put before every name.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.")
RENAMED = (
    # torchvision's densenets of 2017
    (r"(.*\.denselayer\d+)\.(norm|conv)\.([12])\.(.*)", r"\1.\2\3.\4"),
    # timm's vgg: the fully connected layers as convolutions
    (r"pre_logits\.fc1\.(.*)", r"classifier.0.\1"),
    (r"pre_logits\.fc2\.(.*)", r"classifier.3.\1"),
    (r"last_linear\.(.*)", r"fc.\1"),  # pretrainedmodels
)

# efficientnet_pytorch's EfficientNet-Lite0; it numbers the blocks through that timm has in stages.
LITE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
LITE_BLOCK = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}


def respelled(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the state under today's names. Raises Unreadable if two names become one."""
    while prefix := next(
        (p for p in PREFIXES if state and all(name.startswith(p) for name in state)), None
    ):
        state = {name.removeprefix(prefix): array for name, array in state.items()}
    rules = RENAMED
    if any(name.startswith("pre_logits.") for name in state):
        rules = (*rules, (r"head\.fc\.(.*)", r"classifier.6.\1"))
    renamed: dict[str, np.ndarray] = {}
    lite = _lite_names() if "_conv_stem.weight" in state else {}
    for name, array in state.items():
        module, _, leaf = name.rpartition(".")
        new = f"{lite[module]}.{leaf}" if module in lite else name
        for old, to in rules:
            new = re.sub(rf"^{old}$", to, new)
        if new in renamed:
            raise Unreadable(f"holds {name} and another name for {new}, use another file")
        renamed[new] = array
    return renamed


def _lite_names() -> dict[str, str]:
    """Returns timm's name of every module of EfficientNet-Lite0 by efficientnet_pytorch's."""
    names = dict(LITE)
    stages = enumerate(STAGES)
    blocks = [f"blocks.{number}.{k}" for number, stage in stages for k in range(stage.repeats)]
    for number, block in enumerate(blocks):
        in_timm = IN_TIMM if number else IN_TIMM_WITHOUT_EXPANSION
        for part, theirs in LITE_BLOCK.items():
            for old, new in zip(theirs, in_timm.get(part, ()), strict=False):
                names[f"_blocks.{number}.{old}"] = f"{block}.{new}"
    return names
