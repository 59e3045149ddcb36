"""Networks against PyTorch builds written from the paper's description, and against logits those
builds gave.

The golden logits need no PyTorch: weights and inputs are functions of their names. To make them
again: python -m tests.models.test_parity
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covjax.models.classification.cov_ctnet as cov_ctnet
import covjax.models.segmentation.unet as unet
from covjax.models import create_model
from tests.models.seeding import seeded_input

GOLDEN = Path(__file__).with_name("golden.json")
CASES = [
    ("cov_ctnet", {}, (2, 82, 82, 1)),
    ("cov_ctnet", {}, (2, 67, 50, 1)),
    ("cov_raseg", {"final": "relu"}, (1, 76, 76, 3)),
    ("cov_raseg", {"final": "linear"}, (2, 37, 54, 3)),
    ("deeplab_v3", {"output_stride": 8}, (1, 37, 45, 3)),
    ("deeplab_v3plus", {"backbone": "efficientnet_lite0"}, (1, 45, 53, 3)),
    ("deeplab_v1", {"hidden": 64, "batch_norm": True}, (1, 77, 45, 3)),
    ("fcn8s", {"hidden": 64}, (1, 77, 45, 3)),
    ("fcn_resnet50", {}, (1, 37, 45, 3)),
    ("segnet", {}, (1, 37, 45, 3)),
    ("segnet_plain", {"width": 16}, (2, 37, 45, 3)),
    ("u_segnet", {}, (1, 37, 45, 3)),
    ("unet", {"width": 8}, (2, 37, 45, 3)),
    ("unet", {"width": 8, "batch_norm": True}, (2, 52, 38, 3)),
    ("unet_backbone", {}, (1, 77, 45, 3)),
    ("unet_backbone", {"backbone": "resnet18"}, (1, 77, 45, 3)),
]


def case_name(name, options, shape):
    variant = options.get("final", options.get("backbone", ""))
    return f"{name} {'x'.join(map(str, shape))} {variant}".strip()


NAMES = [case_name(*case) for case in CASES]


def torch_or_skip():
    torch = pytest.importorskip("torch")
    from tests.models import torch_networks

    return torch, torch_networks


def sampled(logits):
    """What is kept of the logits: all of a classifier's, every eleventh pixel of a segmenter's."""
    logits = np.asarray(logits)
    return logits if logits.ndim == 2 else logits[:, ::11, ::11]


def flat(tree):
    return {
        "/".join(entry.key for entry in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def error_of(got, want, scale=None):
    """Largest difference, relative to the largest value."""
    assert got.shape == want.shape
    return np.abs(got - want).max() / (np.abs(want).max() if scale is None else scale)


def assert_near(got, want, tolerance, scale=None):
    error = error_of(got, want, scale)
    assert error <= tolerance, error


@pytest.mark.parametrize(("name", "options", "shape"), CASES, ids=NAMES)
def test_golden_logits(name, options, shape, seeded):
    variables, inputs = seeded
    model = create_model(name, **options)
    logits = jax.jit(model.apply)(variables(model, shape[-1]), inputs(*shape))
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))[
        NAMES[CASES.index((name, options, shape))]
    ]
    assert_near(sampled(logits), np.array(golden, np.float32), 1e-4)


@pytest.mark.parametrize(("name", "options", "shape"), CASES, ids=NAMES)
def test_torch_logits(name, options, shape, seeded):
    torch, peer = torch_or_skip()
    variables, inputs = seeded
    model = create_model(name, **options)
    x = inputs(*shape)
    net, _ = peer.build(name, options)
    with torch.no_grad():
        want = net.eval()(peer.to_torch(x)).numpy()
    assert_near(np.asarray(jax.jit(model.apply)(variables(model, shape[-1]), x)), want, 1e-4)


# Not all: compiling both gradients of a large network takes half a minute.
SMALL = ("cov_ctnet", "cov_raseg", "segnet_plain", "unet")
TRAINED = [
    case
    for case in CASES
    if case[0] in SMALL and "batch_norm" not in case[1] and case[2] != (2, 82, 82, 1)
]


@pytest.mark.parametrize(
    ("name", "options", "shape"), TRAINED, ids=[NAMES[CASES.index(case)] for case in TRAINED]
)
def test_torch_gradients_and_batch_statistics(name, options, shape, seeded, monkeypatch):
    """In float64 on both sides: in float32 a ReLU or a max-pool goes the other way where values
    differ by rounding.
    """
    torch, peer = torch_or_skip()

    def no_dropout(rate):
        return lambda x, train: x

    for module in (cov_ctnet, unet):
        monkeypatch.setattr(module, "Dropout", no_dropout)
    variables, inputs = seeded
    both = variables(create_model(name, **options), shape[-1])
    x = inputs(*shape)
    labels = np.random.default_rng(0).integers(
        0, 2, shape[:1] if name == "cov_ctnet" else shape[:3]
    )

    net, layers = peer.build(name, options)
    net = net.double()
    seen = {}
    for path, layer in layers.items():
        if path.endswith("/bn"):
            layer.register_forward_hook(
                lambda _, given, out, path=path: seen.update({path: given[0]})
            )
    logits = net.train()(peer.to_torch(x).double())
    torch.nn.functional.cross_entropy(
        logits.flatten(0, -2), torch.tensor(labels).flatten()
    ).backward()

    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), both)
        model = create_model(name, **options).clone(dtype=jnp.float64)
        out, updated, gradients = trained_once(model, wide, x, labels)
    assert_near(np.asarray(out), logits.detach().numpy(), 1e-5)

    ours = flat(updated)
    before = flat(both.get("batch_stats", {}))
    for path, given in seen.items():
        for kind, want in (
            ("mean", given.mean((0, 2, 3))),
            ("var", given.var((0, 2, 3), unbiased=False)),
        ):
            # torch averages the unbiased variance, flax the biased one: compared is what went in,
            # as torch saw it.
            batch = (ours[f"{path}/{kind}"] - 0.9 * before[f"{path}/{kind}"]) / 0.1
            want = want.detach().numpy()
            assert_near(batch, want, 1e-5, scale=np.abs(want).max() + 1)

    ours = flat(gradients)
    compared = set()
    for path, layer in layers.items():
        weight = peer.our_layout(layer, layer.weight.grad)
        name = f"{path}/scale" if path.endswith("/bn") else f"{path}/kernel"
        assert_near(ours[name], weight, 1e-5)
        compared.add(name)
        if layer.bias is not None:
            bias = ours[f"{path}/bias"]
            # Before a BatchNorm this gradient is zero but for rounding: measured against the
            # kernel's.
            assert_near(
                bias,
                layer.bias.grad.numpy(),
                1e-5,
                scale=max(np.abs(weight).max(), np.abs(bias).max()),
            )
            compared.add(f"{path}/bias")
    assert compared == ours.keys()


def trained_once(model, both, x, labels):
    """The logits, the batch statistics and the gradients of one training step."""

    def loss(params):
        out, updated = model.apply(
            {**both, "params": params}, x, train=True, mutable=["batch_stats"]
        )
        chosen = jnp.take_along_axis(jax.nn.log_softmax(out), labels[..., None], -1)
        return -chosen.mean(), (out, updated.get("batch_stats", {}))

    gradients, (out, updated) = jax.jit(jax.grad(loss, has_aux=True))(both["params"])
    return out, updated, gradients


def write_golden():
    from tests.models import torch_networks as peer

    golden = {}
    for label, (name, options, shape) in zip(NAMES, CASES, strict=True):
        net, _ = peer.build(name, options)
        logits = net.eval()(peer.to_torch(seeded_input(*shape))).detach().numpy()
        golden[label] = [[float(f"{v:.7g}") for v in row] for row in sampled(logits).reshape(-1, 2)]
        golden[label] = np.array(golden[label]).reshape(sampled(logits).shape).tolist()
    GOLDEN.write_text(json.dumps(golden), encoding="utf-8")


if __name__ == "__main__":
    write_golden()
