"""Both networks against PyTorch builds written from the paper's description, and against logits those builds gave.

The golden logits need no PyTorch: weights and inputs are functions of their names. To make them again:
python tests/models/test_parity.py
"""

import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covjax.models.cov_ctnet as cov_ctnet
from covjax.models import create_model

GOLDEN = Path(__file__).with_name("golden.json")
CASES = [
    ("cov_ctnet", {}, (2, 82, 82, 1)),
    ("cov_ctnet", {}, (2, 67, 50, 1)),
    ("cov_raseg", {"final": "relu"}, (1, 76, 76, 3)),
    ("cov_raseg", {"final": "linear"}, (2, 37, 54, 3)),
]
NAMES = [f"{name} {'x'.join(map(str, shape))} {options.get('final', '')}".strip() for name, options, shape in CASES]


def torch_cov_raseg(final="relu", features=64, classes=2):
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.ModuleDict(), nn.ModuleDict()
            for part in ("encoder1", "encoder2", "decoder2", "decoder1"):
                for k in (1, 2, 3):
                    fan_in = 3 if (part, k) == ("encoder1", 1) else features
                    fan_out = classes if (part, k) == ("decoder1", 1) else features
                    self.conv[f"{part}_conv{k}"] = nn.Conv2d(fan_in, fan_out, 3, 1, 1)
                    if k < 3:
                        self.bn[f"{part}_conv{k}"] = nn.BatchNorm2d(fan_out, eps=1e-5)

        def full(self, x, name, relu=True):
            x = self.bn[name](self.conv[name](x))
            return F.relu(x) if relu else x

        def third(self, x, name):
            return F.relu(self.conv[name](x))

        def smooth(self, x):
            return F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2, stride=1)

        def forward(self, x):
            indices, sizes = [], []
            for part in ("encoder1", "encoder2"):
                x = self.smooth(self.full(self.full(x, f"{part}_conv1"), f"{part}_conv2"))
                x = self.third(x, f"{part}_conv3")
                sizes.append(x.shape[-2:])
                x, index = F.max_pool2d(x, 2, 2, return_indices=True)
                indices.append(index)
            for part in ("decoder2", "decoder1"):
                x = F.max_unpool2d(x, indices.pop(), 2, 2, output_size=sizes.pop())
                x = self.full(self.smooth(self.third(x, f"{part}_conv3")), f"{part}_conv2")
                x = self.full(x, f"{part}_conv1", relu=part == "decoder2" or final == "relu")
            return x.permute(0, 2, 3, 1)

    net = Net()
    with torch.no_grad():
        for name, conv in net.conv.items():
            prefix = f"{name}/conv" if name in net.bn else name
            fill_conv(conv, prefix)
        for name, bn in net.bn.items():
            fill_bn(bn, f"{name}/bn")
    paths = {f"{n}/conv" if n in net.bn else n: m for n, m in net.conv.items()}
    return net, paths | {f"{n}/bn": m for n, m in net.bn.items()}


def torch_cov_ctnet():
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.plan = nn.ModuleDict(), []
            self.add("stem", 1, 64, 7, 2)
            width = 64
            for stage, features in enumerate((64, 128, 256, 512), 1):
                for unit in (1, 2):
                    name, stride = f"stage{stage}_unit{unit}", 2 if stage > 1 and unit == 1 else 1
                    self.add(f"{name}/first", width, features, 3, stride)
                    self.add(f"{name}/second", features, features, 3, 1)
                    if stride == 2:
                        self.add(f"{name}/shortcut", width, features, 1, 2)
                    self.plan.append((name, stride == 2))
                    width = features
            for k, (fan_in, fan_out) in enumerate(((512, 264), (264, 64), (64, 2)), 1):
                self.layers[f"fc{k}"] = nn.Linear(fan_in, fan_out)

        def add(self, name, fan_in, fan_out, size, stride):
            self.layers[f"{name}/conv"] = nn.Conv2d(fan_in, fan_out, size, stride, size // 2, bias=False)
            self.layers[f"{name}/bn"] = nn.BatchNorm2d(fan_out, eps=1e-5)

        def run(self, name, x):
            return self.layers[f"{name}/bn"](self.layers[f"{name}/conv"](x))

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.run("stem", x)), 3, 2, 1)
            for name, projected in self.plan:
                y = self.run(f"{name}/second", F.relu(self.run(f"{name}/first", x)))
                x = F.relu(y + (self.run(f"{name}/shortcut", x) if projected else x))
            x = F.adaptive_max_pool2d(x, 1).flatten(1)
            for k in (1, 2, 3):  # no ReLU drawn between them; dropout off
                x = self.layers[f"fc{k}"](x)
            return x

    net = Net()
    with torch.no_grad():
        for name, layer in net.layers.items():
            (fill_bn if name.endswith("/bn") else fill_conv)(layer, name)
    return net, dict(net.layers)


def fill_conv(layer, name):
    """Fills a convolution (HWIO -> OIHW) or a dense layer ((I, O) -> (O, I))."""
    import torch

    shape = tuple(layer.weight.shape)
    ours = (*shape[2:], shape[1], shape[0])
    kernel = helpers().seeded_array(f"{name}/kernel", ours)
    layer.weight.copy_(torch.tensor(np.moveaxis(kernel, (-1, -2), (0, 1)).copy()))
    if layer.bias is not None:
        layer.bias.copy_(torch.tensor(helpers().seeded_array(f"{name}/bias", (shape[0],))))


def fill_bn(layer, name):
    import torch

    arrays = dict(weight="scale", bias="bias", running_mean="mean", running_var="var")
    for theirs, ours in arrays.items():
        getattr(layer, theirs).copy_(torch.tensor(helpers().seeded_array(f"{name}/{ours}", tuple(layer.bias.shape))))


def helpers():
    """tests/models/conftest.py, also where this file is run as a script."""
    spec = importlib.util.spec_from_file_location("seeding", Path(__file__).with_name("conftest.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def torch_build(name, options):
    return torch_cov_raseg(**options) if name == "cov_raseg" else torch_cov_ctnet()


def torch_input(x):
    import torch

    return torch.tensor(np.moveaxis(x, -1, 1).copy())


def sampled(logits):
    """What is kept of the logits: all of a classifier's, every eleventh pixel of a segmenter's."""
    logits = np.asarray(logits)
    return logits if logits.ndim == 2 else logits[:, ::11, ::11]


def flat(tree):
    return {
        "/".join(entry.key for entry in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def assert_near(got, want, tolerance, scale=None):
    assert got.shape == want.shape
    error = np.abs(got - want).max() / (np.abs(want).max() if scale is None else scale)
    assert error <= tolerance, error


@pytest.mark.parametrize(("name", "options", "shape"), CASES, ids=NAMES)
def test_golden_logits(name, options, shape, seeded):
    variables, inputs = seeded
    model = create_model(name, **options)
    logits = jax.jit(model.apply)(variables(model, shape[-1]), inputs(*shape))
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))[NAMES[CASES.index((name, options, shape))]]
    assert_near(sampled(logits), np.array(golden, np.float32), 1e-4)


@pytest.mark.parametrize(("name", "options", "shape"), CASES, ids=NAMES)
def test_torch_logits(name, options, shape, seeded):
    torch = pytest.importorskip("torch")
    variables, inputs = seeded
    model, x = create_model(name, **options), inputs(*shape)
    net, _ = torch_build(name, options)
    with torch.no_grad():
        want = net.eval()(torch_input(x)).numpy()
    assert_near(np.asarray(jax.jit(model.apply)(variables(model, shape[-1]), x)), want, 1e-4)


@pytest.mark.parametrize(("name", "options", "shape"), CASES, ids=NAMES)
def test_torch_gradients_and_batch_statistics(name, options, shape, seeded, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(cov_ctnet, "Dropout", lambda rate, axis_name: lambda x, train: x)
    variables, inputs = seeded
    model, x = create_model(name, **options), inputs(*shape)
    both = variables(model, shape[-1])
    labels = np.random.default_rng(0).integers(0, 2, shape[:1] if name == "cov_ctnet" else shape[:3])

    net, layers = torch_build(name, options)
    seen = {}
    for path, layer in layers.items():
        if path.endswith("/bn"):
            layer.register_forward_hook(lambda _, given, out, path=path: seen.update({path: given[0]}))
    logits = net.train()(torch_input(x))
    torch.nn.functional.cross_entropy(logits.flatten(0, -2), torch.tensor(labels).flatten()).backward()

    def loss(params):
        out, updated = model.apply({**both, "params": params}, x, train=True, mutable=["batch_stats"])
        chosen = jnp.take_along_axis(jax.nn.log_softmax(out), labels[..., None], -1)
        return -chosen.mean(), (out, updated["batch_stats"])

    gradients, (out, updated) = jax.jit(jax.grad(loss, has_aux=True))(both["params"])
    assert_near(np.asarray(out), logits.detach().numpy(), 1e-4)

    ours, before = flat(updated), flat(both["batch_stats"])
    for path, given in seen.items():
        for kind, want in (("mean", given.mean((0, 2, 3))), ("var", given.var((0, 2, 3), unbiased=False))):
            # torch averages the unbiased variance, flax the biased one: compared is what went in, as torch saw it.
            batch = (ours[f"{path}/{kind}"] - 0.9 * before[f"{path}/{kind}"]) / 0.1
            want = want.detach().numpy()
            assert_near(batch, want, 1e-4, scale=np.abs(want).max() + 1)

    ours = flat(gradients)
    checked = set()
    for path, layer in layers.items():
        weight = layer.weight.grad.numpy()
        name = f"{path}/scale" if path.endswith("/bn") else f"{path}/kernel"
        assert_near(ours[name], np.moveaxis(weight, (0, 1), (-1, -2)) if weight.ndim > 1 else weight, 1e-3)
        checked.add(name)
        if layer.bias is not None:
            bias = ours[f"{path}/bias"]
            # Before a BatchNorm this gradient is zero but for rounding: measured against the kernel's.
            assert_near(bias, layer.bias.grad.numpy(), 1e-3, scale=max(np.abs(weight).max(), np.abs(bias).max()))
            checked.add(f"{path}/bias")
    assert checked == set(ours)


def write_golden():
    golden = {}
    for label, (name, options, shape) in zip(NAMES, CASES, strict=True):
        net, _ = torch_build(name, options)
        logits = net.eval()(torch_input(helpers().seeded_input(*shape))).detach().numpy()
        golden[label] = [[float(f"{v:.7g}") for v in row] for row in sampled(logits).reshape(-1, 2)]
        golden[label] = np.array(golden[label]).reshape(sampled(logits).shape).tolist()
    GOLDEN.write_text(json.dumps(golden), encoding="utf-8")


if __name__ == "__main__":
    write_golden()
