"""Xception with Keras's padding, against Keras and against logits it gave; its names there.

The golden logits need no Keras: weights and inputs are functions of their names. To make them
again: KERAS_BACKEND=jax python -m tests.models.test_xception
"""

import json
import os
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from covjax.models import create_model
from covjax.models.classification.xception import STRIDED
from tests.models.seeding import seeded_input, seeded_variables

GOLDEN = Path(__file__).with_name("golden_keras.json")
SHAPES = [(2, 82, 82, 3), (2, 75, 90, 3)]  # even and odd sides of maps that are pooled
CLASSES = 5


def relative_error(got, want):
    return np.abs(np.asarray(got) - want).max() / np.abs(want).max()


def network(padding):
    model = create_model("xception", num_classes=CLASSES, padding=padding)
    return model, seeded_variables(model, 3)


def logits_and_features(model, variables, x):
    logits, kept = jax.jit(lambda v, x: model.apply(v, x, mutable=["intermediates"]))(variables, x)
    return np.asarray(logits), np.asarray(kept["intermediates"]["features"][0])


@pytest.fixture(scope="module")
def keras_style():
    return network("keras")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_golden_logits_and_features_of_keras(shape, keras_style):
    logits, features = logits_and_features(*keras_style, seeded_input(*shape))
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))[str(shape)]
    assert relative_error(logits, np.array(golden["logits"])) <= 1e-4
    assert relative_error(features[:, ::97], np.array(golden["features"])) <= 1e-4
    assert relative_error(logits, np.array(golden["logits of torch padding"])) > 1e-2


@pytest.mark.parametrize("size", [82, 75, 299])
def test_logits_of_keras(size, keras_style):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    pytest.importorskip("keras")
    x = seeded_input(2, size, size, 3)
    want = keras_network(keras_style[1])(x)
    for ours, theirs in zip(logits_and_features(*keras_style, x), want, strict=True):
        assert relative_error(ours, np.asarray(theirs)) <= 1e-4


def keras_network(variables):
    """Keras's Xception with our variables: x -> (logits, features)."""
    import keras

    keras.backend.clear_session()  # numbers the layers of the shortcuts from the start
    net = keras.applications.Xception(
        weights=None, include_top=False, pooling="avg", input_shape=(None, None, 3)
    )
    net = keras.Model(
        net.input, [keras.layers.Dense(CLASSES, name="predictions")(net.output), net.output]
    )
    left = {
        f"{layer.name}/{weight.name}": weight for layer in net.layers for weight in layer.weights
    }
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        key = key_of(tuple(entry.key for entry in path[1:]))
        value = np.asarray(leaf)
        left.pop(key).assign(
            value.transpose(0, 1, 3, 2) if key.endswith("depthwise_kernel") else value
        )
    assert not left
    return net


def key_of(path):
    """Returns the "layer/weight" of Keras's Xception that holds the variable at `path`.

    Keras numbers the layers of the shortcuts, which it gives no names, in the order of the blocks:
    conv2d, conv2d_1, and so on. Its depthwise kernels are [3, 3, C, 1] where ours are [3, 3, 1, C].
    """
    module, *inner, leaf = path
    if module == "fc":
        return f"predictions/{leaf}"
    if inner and inner[0].startswith("skip"):
        order = STRIDED.index(int(module.removeprefix("block")))
        layer = ("batch_normalization" if inner[0] == "skipbn" else "conv2d") + (
            f"_{order}" if order else ""
        )
    else:
        layer = layer_of(module, inner)
    kind = inner[-1] if inner else ""
    if leaf == "kernel":
        return layer + {"conv1": "/depthwise_kernel", "pointwise": "/pointwise_kernel"}.get(
            kind, "/kernel"
        )
    return (
        layer
        + {"scale": "/gamma", "bias": "/beta", "mean": "/moving_mean", "var": "/moving_variance"}[
            leaf
        ]
    )


def layer_of(module, inner):
    """Returns the Keras name of a layer off the shortcuts: block 1 are our first convolutions,
    block 14 our last.
    """
    number = int(re.sub(r"\D", "", module))
    if not module.startswith("block"):  # conv1 to conv4, bn1 to bn4
        layer = f"block1_conv{number}" if number <= 2 else f"block14_sepconv{number - 2}"
        return layer + ("_bn" if module.startswith("bn") else "")
    # which starts without a ReLU
    position = int(inner[0].removeprefix("rep_")) + (module == "block1")
    return f"block{number + 1}_sepconv{position // 3 + 1}" + ("_bn" if position % 3 == 2 else "")


def write_golden():
    def kept(values):
        return [[float(f"{v:.7g}") for v in row] for row in np.asarray(values)]

    variables = network("keras")[1]
    net = keras_network(variables)
    golden = {}
    for shape in SHAPES:
        logits, features = net(seeded_input(*shape))
        torch_style = logits_and_features(network("torch")[0], variables, seeded_input(*shape))[0]
        golden[str(shape)] = {
            "logits": kept(logits),
            "features": kept(features[:, ::97]),
            "logits of torch padding": kept(torch_style),
        }
    GOLDEN.write_text(json.dumps(golden), encoding="utf-8")


if __name__ == "__main__":
    write_golden()
