"""Names under which published files keep the same weights, turned into those of today's torchvision
and timm.
"""

import re
from collections.abc import Mapping

import numpy as np

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

# efficientnet_pytorch's EfficientNet-Lite0, which numbers its blocks through; in timm they are in
# stages of so many.
LITE_STAGES = (1, 2, 2, 3, 3, 4, 1)
LITE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
LITE_BLOCK = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
TIMM_BLOCK = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
TIMM_FIRST = ("", "", "conv_dw", "bn1", "conv_pw", "bn2")  # of the block that does not expand


def respelled(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the state under today's names. Raises ValueError if two names become one."""
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
        name = f"{lite[module]}.{leaf}" if module in lite else name
        new = next(
            (found.expand(to) for old, to in rules if (found := re.fullmatch(old, name))), name
        )
        if new in renamed:
            raise ValueError(f"{name} and another name for {new}")
        renamed[new] = array
    return renamed


def _lite_names() -> dict[str, str]:
    """Returns timm's name of every module of EfficientNet-Lite0 by efficientnet_pytorch's."""
    names = dict(LITE)
    number = 0
    for stage, count in enumerate(LITE_STAGES):
        for k in range(count):
            theirs = TIMM_BLOCK if number else TIMM_FIRST
            for ours, new in zip(LITE_BLOCK, theirs, strict=True):
                names[f"_blocks.{number}.{ours}"] = f"blocks.{stage}.{k}.{new}"
            number += 1
    return names
