"""The classifiers against torchvision and timm with the same weights, and against logits that those gave.

Needs neither for the golden values, which it makes again by: python -m tests.models.test_reference
"""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from covjax.errors import InputError
from covjax.models import create_model
from covjax.pretrained.convert import variables_from_state
from tests.models.reference_networks import TOLERANCE, made_up, torch_network

GOLDEN = Path(__file__).with_name("classifiers.json")
CLASSES, SHAPE = 5, (2, 82, 75, 3)  # every network takes it
NAMES = [
    "densenet201",
    "efficientnet_lite0",
    "resnet18",
    "resnet50",
    "vgg16",
    "vgg19_bn",
]


def image(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def model_without_dropout(name):
    model = create_model(name, num_classes=CLASSES)
    return model.clone(dropout=0.0) if hasattr(model, "dropout") else model


def error_of(got, want):
    """Largest difference, relative to the largest value."""
    assert got.shape == want.shape
    return np.abs(got - want).max() / np.abs(want).max()


def ours(model, variables, x):
    """(logits, features)."""
    logits, kept = jax.jit(partial(model.apply, mutable=["intermediates"]))(variables, x)
    return logits, kept["intermediates"]["features"][0]


def theirs(net, x):
    """(logits, features); the features are what its last layer reads."""
    import torch

    last, seen = [module for module in net.modules() if isinstance(module, torch.nn.Linear)][-1], []
    hook = last.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    with torch.no_grad():
        logits = net(torch.tensor(np.moveaxis(x, -1, 1).copy()))
    hook.remove()
    return logits.numpy(), seen[0].numpy()


@pytest.mark.parametrize("name", NAMES)
def test_golden_logits_and_features(name):
    model = model_without_dropout(name)
    logits, features = ours(model, made_up(model, 3)[0], image(*SHAPE))
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))[name]
    assert error_of(logits, np.array(golden["logits"])) <= TOLERANCE
    assert error_of(features[:, ::97], np.array(golden["features"])) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_training_mode_of_the_reference(name):
    """Without dropout; the means that BatchNorm keeps are compared, since PyTorch's variances have n / (n - 1)."""
    pytest.importorskip("torch")
    pytest.importorskip("timm")
    model, x = model_without_dropout(name), image(4, *SHAPE[1:])
    variables, state = made_up(model, 3)
    net = torch_network(name, state, CLASSES).train()
    want, _ = theirs(net, x)
    logits, updated = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))(variables, x)
    assert error_of(logits, want) <= TOLERANCE
    after = {key: value.numpy() for key, value in net.state_dict().items()}
    means = jax.tree_util.tree_leaves_with_path(updated.get("batch_stats", {}))
    means = [(tuple(entry.key for entry in path[1:]), leaf) for path, leaf in means if path[-1].key == "mean"]
    assert bool(means) == any(key.endswith("running_mean") for key in state)
    for path, leaf in means:
        assert error_of(leaf, after[model.reference_key(path)]) <= 10 * TOLERANCE


def test_weights_of_another_network_are_refused():
    model = create_model("resnet18", num_classes=CLASSES)
    variables, state = made_up(model, 3)
    for change, message in (
        ({"fc.weight": None}, "'fc.weight' is missing"),
        ({"fc.weight": np.zeros((3, 512))}, r"'fc.weight' has shape \(512, 3\), not \(512, 5\)"),
        ({"fc2.weight": np.zeros(2)}, "'fc2.weight' and 0 more are of no use"),
    ):
        changed = {key: value for key, value in (state | change).items() if value is not None}
        with pytest.raises(InputError, match=f"^weights: {message}"):
            variables_from_state(model, changed, variables)
    counters = {"bn1.num_batches_tracked": np.zeros(())}  # no variable of ours
    kept = variables_from_state(model, state | counters, variables)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, kept, variables))


def write_golden():
    golden = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    for name in NAMES:
        _, state = made_up(model_without_dropout(name), 3)
        logits, features = theirs(torch_network(name, state, CLASSES), image(*SHAPE))
        kept = {"logits": logits, "features": features[:, ::97]}
        golden[name] = {what: [[float(f"{v:.7g}") for v in row] for row in rows] for what, rows in kept.items()}
        text = json.dumps(golden, indent=0, sort_keys=True)
        GOLDEN.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_golden()
