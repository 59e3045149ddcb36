"""Networks with published weights: parameters, logits and features as in torchvision, timm or the
paper.

The golden logits need no torch: weights and inputs are functions of their names. To make them
again, and to compare every network at every size, too long for each run: python -m
tests.models.test_published
"""

import importlib.util
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from covjax.models import create_model
from covjax.nn.layers import Dropout
from tests.models.seeding import seeded_input, seeded_variables

GOLDEN = Path(__file__).with_name("golden_published.json")
# name, options, sides: the golden logits are of the first, torch is asked at the rest
NETWORKS = [
    ("densenet201", {}, (82,)),
    ("efficientnet_lite0", {}, (82, 75)),
    ("googlenet", {}, (82, 224, 75)),
    ("inception_v3", {}, (75, 299)),
    ("resnet18", {}, (82, 75)),
    ("resnet50", {}, (82,)),
    ("shufflenet_v1", {}, (82, 75)),
    ("shufflenet_v1", {"groups": 3, "width": 1.0, "bottleneck": 4}, (75,)),
    ("shufflenet_v2_x1_0", {}, (82, 75)),
    ("vgg16", {}, (82,)),
    ("xception", {}, (82, 75)),
]
COMPARED = [(name, options, side) for name, options, sides in NETWORKS for side in sides[1:]]
GOLDENS = [(name, options, sides[0]) for name, options, sides in NETWORKS]
TRAINED = [
    "efficientnet_lite0",
    "googlenet",
    "inception_v3",
    "shufflenet_v1",
    "shufflenet_v2_x1_0",
    "xception",
]
BY_HAND = [*dict.fromkeys(name for name, *_ in NETWORKS), "vgg16_bn", "vgg19", "vgg19_bn"]
CLASSES = 5


def relative_error(got, want):
    got = np.asarray(got)
    want = np.asarray(want)
    assert got.shape == want.shape
    return np.abs(got - want).max() / np.abs(want).max()


def label(name, options, side):
    return " ".join([name, *(f"{key}={value}" for key, value in options.items()), str(side)])


def make(name, options, side):
    """A network, its seeded variables, and an input."""
    model = create_model(name, num_classes=CLASSES, **options)
    return model, seeded_variables(model, 3), seeded_input(2, side, side, 3) / 50


@partial(jax.jit, static_argnums=0)
def evaluated(model, variables, x):
    logits, kept = model.apply(variables, x, mutable=["intermediates"])
    assert "auxiliary" not in kept["intermediates"]
    return logits, kept["intermediates"]["features"][0]


@pytest.mark.parametrize(
    ("name", "options", "side"), GOLDENS, ids=[label(*case) for case in GOLDENS]
)
def test_golden_logits_and_features(name, options, side):
    logits, features = evaluated(*make(name, options, side))
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))[label(name, options, side)]
    assert relative_error(logits, golden["logits"]) <= 1e-4
    assert relative_error(features[:, ::97], golden["features"]) <= 1e-4


@pytest.mark.parametrize(
    ("name", "options", "side"), COMPARED, ids=[label(*case) for case in COMPARED]
)
def test_logits_and_features_of_torch(name, options, side):
    peer = torch_or_skip()
    model, variables, x = make(name, options, side)
    want = peer.evaluated(peer.network(model, name, variables), x)
    for ours, theirs in zip(evaluated(model, variables, x), want, strict=True):
        assert relative_error(ours, theirs) <= 1e-4


@pytest.mark.parametrize("name", TRAINED)
def test_training_mode_of_torch(name):
    """Logits, those of auxiliary heads, and the means that BatchNorm saw, without dropout."""
    assert training_error(torch_or_skip(), name, 299 if name == "inception_v3" else 82) <= 1e-5


def training_error(peer, name, side):
    """In float64 on both sides: with few pixels and samples BatchNorm enlarges the rounding of
    float32.
    """
    model, variables, x = make(name, {}, side)
    want, state = peer.trained(peer.network(model, name, variables), x)
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dropout, "__call__", lambda self, x, train: x)
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        step = partial(
            model.clone(dtype=jnp.float64).apply,
            train=True,
            mutable=["intermediates", "batch_stats"],
        )
        logits, kept = jax.jit(step)(wide, x.astype(np.float64))
    ours = [logits, *kept["intermediates"].get("auxiliary", ())]
    errors = [relative_error(*pair) for pair in zip(ours, want, strict=True)]
    for path, leaf in jax.tree_util.tree_leaves_with_path(kept.get("batch_stats", {})):
        if path[-1].key == "mean":  # the variance torch keeps is the unbiased one
            errors.append(
                relative_error(leaf, state[peer.key_of(model, tuple(entry.key for entry in path))])
            )
    return max(errors)


def torch_or_skip():
    for name in ("torch", "torchvision", "timm"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}: pip install {name}")
    from tests.models import torch_published

    return torch_published


def write_golden():
    from tests.models import torch_published as peer

    golden = {}
    for name, options, side in GOLDENS:
        model, variables, x = make(name, options, side)
        logits, features = peer.evaluated(peer.network(model, name, variables), x)
        rounded = [
            [[float(f"{v:.7g}") for v in row] for row in values]
            for values in (logits, features[:, ::97])
        ]
        golden[label(name, options, side)] = dict(zip(("logits", "features"), rounded, strict=True))
    GOLDEN.write_text(json.dumps(golden), encoding="utf-8")


def print_errors():
    """The largest relative errors of logits and features: in evaluation at every size, and in
    training at 82 pixels.
    """
    peer = torch_or_skip()
    for name in BY_HAND:
        model, variables, _ = make(name, {}, 75)
        net = peer.network(model, name, variables)
        found = []
        for side in (75, 82, 224, 299):
            x = seeded_input(2, side, side, 3) / 50
            pairs = zip(evaluated(model, variables, x), peer.evaluated(net, x), strict=True)
            found.append(f"{side}: {max(relative_error(*pair) for pair in pairs):.1e}")
        trained = training_error(peer, name, 299 if name == "inception_v3" else 82)
        print(name, *found, f"training in float64: {trained:.1e}", sep="  ", flush=True)


if __name__ == "__main__":
    write_golden()
    print_errors()
