"""Plug-ins: what they add is offered, recorded with a run, and refused when it changed."""

import json

import numpy as np
import pytest

from covjax import plugins
from covjax.errors import InputError
from covjax.metrics import own_case_scores, own_slice_scores
from covjax.models import create_model, list_models
from covjax.ops.fitting import check_pooling
from covjax.ops.unpool import FITS
from covjax.plugins import check_plugins, load_plugin, record_plugins
from covjax.pooling import POOLINGS, UNPOOLINGS, register_pooling, register_unpooling, smoothings
from covjax.scores import in_front, register_score

LEARNED = '''
"""A learned pooling with an unpooling that needs what it keeps."""

import jax.numpy as jnp
from flax import linen as nn

from covjax.pooling import KeptArrays, register_pooling, register_unpooling, views


def shares_of(window, channels):
    return {"share": (nn.initializers.zeros, (window**2, channels))}


def weighted(x, grid, parameters, keys):
    """The learned weighted mean of a window, per channel."""
    shares = nn.softmax(parameters["share"], axis=0).astype(x.dtype)
    pooled = sum(share * view for share, view in zip(shares, views(x, grid), strict=True))
    return pooled, KeptArrays({"mean": pooled.mean((1, 2), keepdims=True)}, grid.size)


def centred(x, kept, size, stride, parameters):
    """Fills the windows with what differs from the mean that was kept."""
    wide = jnp.repeat(jnp.repeat(x - kept.arrays["mean"], stride, 1), stride, 2)
    short = [(0, max(0, long - side)) for long, side in zip(size, wide.shape[1:3], strict=True)]
    return jnp.pad(wide, ((0, 0), *short, (0, 0)), mode="edge")[:, : size[0], : size[1]]


register_pooling("weighted", weighted, parameters=shares_of, unpools_with=("centred",))
register_unpooling("centred", centred, fits=(), inverts=True)
'''


def write(folder, text, name="my_pooling.py"):
    path = folder / name
    path.write_text(text)
    return path


def test_what_a_plugin_adds_is_offered(tmp_path, forgetting):
    load_plugin(write(tmp_path, LEARNED))
    assert POOLINGS["weighted"] == "The learned weighted mean of a window, per channel"
    assert UNPOOLINGS["centred"].startswith("Fills the windows")
    assert "weighted" in FITS["nearest"] and FITS["centred"] == ("weighted",)
    assert "weighted" not in smoothings()
    check_pooling("none", "weighted", "centred", "none")
    with pytest.raises(InputError, match="'centred' does not fit .* 'max', use .*indices"):
        check_pooling("none", "max", "centred", "none")
    with pytest.raises(InputError, match="unknown, use one of .*weighted"):
        check_pooling("none", "weigted", "nearest", "none")


def test_names_are_checked(forgetting):
    def function(x, grid, parameters, keys):
        return x, None

    for name in ("none", "Max", "a b", "", 3):
        with pytest.raises(InputError, match="is no name, use small letters"):
            register_pooling(name, function)
    with pytest.raises(InputError, match="'max': is there already, use another name or override"):
        register_pooling("max", function)
    with pytest.raises(InputError, match="is no function"):
        register_unpooling("mine", "nearest")
    with pytest.raises(InputError, match="unpools_with: 'nearest', give a tuple of names"):
        register_pooling("mine", function, unpools_with="nearest")
    register_pooling("max", function, override=True)
    assert POOLINGS["max"] == "of a plug-in, not described"


def test_a_network_of_a_plugin(tmp_path, forgetting):
    text = """
from flax import linen as nn
from covjax.models import register_model
from covjax.nn.network import Network

class Plain(Network):
    features: int = 4

    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.relu(nn.Conv(self.features, (3, 3))(x))
        return nn.Conv(self.num_classes, (1, 1))(x)

register_model("plain", Plain, "segmentation")
register_model("plain_wide", Plain, "segmentation", features=16)
"""
    load_plugin(write(tmp_path, text))
    assert {"plain", "plain_wide"} <= {*list_models("segmentation")}
    assert create_model("plain", features=8).features == 8
    assert create_model("plain_wide").features == 16
    wrong = text.replace("plain", "wider").replace("features=16", "width=16")
    with pytest.raises(InputError, match=r"line 15: model 'wider_wide': field: 'width' is unknown"):
        load_plugin(write(tmp_path, wrong, "other.py"))
    assert "wider" not in list_models()  # nothing of what failed is left


def test_a_run_keeps_what_it_was_trained_with(tmp_path, forgetting):
    path = write(tmp_path, LEARNED)
    run = tmp_path / "run"
    run.mkdir()
    record_plugins(run)
    assert not list(run.iterdir())
    load_plugin(path)
    load_plugin(path)  # once
    record_plugins(run)
    (entry,) = json.loads((run / "plugins.json").read_text())["plugins"]
    assert entry["given"] == str(path) and len(entry["sha256"]) == 64
    copy = run / "plugins" / "my_pooling.py" / "my_pooling.py"
    assert copy.read_text() == LEARNED
    check_plugins(run)

    plugins.LOADED.clear()
    with pytest.raises(InputError, match=f"which is not loaded, give --plugin={path}$"):
        check_plugins(run)
    path.write_text(LEARNED + "\n")
    with pytest.raises(InputError, match=f"which is not loaded, give --plugin={copy}$"):
        check_plugins(run)


def test_a_changed_plugin_is_refused_and_its_copy_is_the_remedy(tmp_path, forgetting):
    text = "from covjax.pooling import register_pooling\n"
    path = write(tmp_path, text)
    load_plugin(path)
    run = tmp_path / "run"
    run.mkdir()
    record_plugins(run)
    plugins.LOADED.clear()
    path.write_text(text + "# another\n")
    load_plugin(path)
    with pytest.raises(InputError, match="which has changed since, give --plugin=(.*)$") as caught:
        check_plugins(run)
    load_plugin(str(caught.value).partition("--plugin=")[2])
    check_plugins(run)


def test_what_replaces_something_belongs_to_every_run(tmp_path, forgetting):
    (tmp_path / "run").mkdir()
    text = (
        "from covjax.pooling import register_pooling, pool2d\n"
        "def other(x, grid, parameters, keys):\n    return x, None\n"
        "register_pooling('avg', other, override=True)\n"
    )
    load_plugin(write(tmp_path, text))
    with pytest.raises(InputError, match="was trained without .* replaces pooling 'avg', leave"):
        check_plugins(tmp_path / "run")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nimport nowhere_at_all\n", "line 2: ModuleNotFoundError: No module named 'nowh"),
        ("def f(:\n", "line 1: SyntaxError: invalid syntax"),
        (
            "from covjax.pooling import register_pooling\nregister_pooling('max', print)\n",
            "line 2: pooling 'max': is there already",
        ),
        (None, "no such file, name a Python file"),
    ],
)
def test_a_plugin_that_fails_is_one_line(tmp_path, text, message, forgetting):
    path = tmp_path / "bad.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=f"--plugin={path}: {message}"):
        load_plugin(path)
    assert not plugins.LOADED


def test_scores_of_a_plugin(forgetting):
    def calls(truth, predicted, spacing):
        return np.nan if not truth.any() else (truth != predicted).sum()

    register_score("segmenter", "pixels_off", calls, meaning="pixels", higher_is_better=False)
    rows = {"score_pixels_off": np.array([1.0, np.nan, 3.0, 5.0, 7.0, 9.0])}
    found = own_slice_scores(rows, ["a", "b", "c", "d", "e", "f"])["pixels_off"]
    assert found["value"] == 5 and found["n"] == 5 and found["interval"][0] < 5
    assert own_slice_scores({}, None) == {}  # a run that was evaluated before
    assert "pixels_off" in in_front("segmenter", ["pixels_off"])

    def called_above(labels, log_odds):
        return (log_odds > 1).mean()

    register_score("classifier", "above", called_above, scale="share")
    labels = np.array([0, 1] * 4)
    log_odds = np.arange(8.0)
    found = own_case_scores(labels, log_odds, list("abcdefgh"))["above"]
    assert found["value"] == 6 / 8 and found["interval"][0] < 0.75 < found["interval"][1]
    for name, message in (("accuracy", "is there already, use another"), ("A b", "is no name")):
        with pytest.raises(InputError, match=message):
            register_score("classifier", name, called_above)
    with pytest.raises(InputError, match="stage: 'study' is unknown"):
        register_score("study", "x", called_above)


def test_commands_load_a_plugin_first(run_command, tmp_path):
    path = write(tmp_path, "register_pooling(")
    done = run_command("covjax.commands.__main__", "operators", f"--plugin={path}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: --plugin={path}: line 1: SyntaxError")
