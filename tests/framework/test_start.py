"""A run that starts from published weights: from which, with which input, and what a second start makes of it."""

import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import linen as nn
from flax.traverse_util import flatten_dict

from configs import cov_ctnet
from covjax.config import check_config, read_config
from covjax.errors import InputError
from covjax.framework import evaluate_run, train_run
from covjax.framework.trained import load_trained
from covjax.layers import ConvBN
from covjax.models import MODELS
from covjax.models.reference import InputStandard, torch_key


class Tiny(nn.Module):
    """A convolution with BatchNorm and a dense layer, called as PyTorch would."""

    num_classes: int = 2
    dtype: type = np.float32
    axis_name: str | None = None
    remat: bool = False

    smallest = 20
    stem, head = "block", ("fc",)
    pretrained_input = InputStandard((0.1, 0.2, 0.6), (0.2, 0.3, 0.4), 24)

    @nn.compact
    def __call__(self, x, *, train=False):
        x = ConvBN(4, axis_name=self.axis_name, name="block")(x, train=train)
        return nn.Dense(self.num_classes, name="fc")(x.mean((1, 2)))

    @staticmethod
    def reference_key(path):
        return torch_key(*path[:-1], leaf=path[-1])


def state():
    rng = np.random.default_rng(0)
    shapes = {"block.conv.weight": (4, 3, 3, 3), "fc.weight": (2, 4), "fc.bias": (2,)}
    shapes |= {f"block.bn.{name}": (4,) for name in ("weight", "bias", "running_mean", "running_var")}
    return {name: rng.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS["classification"], "tiny", Tiny)
        yield


def config(folder, weights):
    config = cov_ctnet.get_config().unlock()
    config.data.prepared_dir = str(folder / "prepared")
    config.data.phantom.update(patients=8, slices_per_patient=4, size=48)
    stage = config.classifier
    stage.model = {"name": "tiny"}
    stage.update(epochs=1, batch_size=4, batch_norm="running")
    stage.input.update(size=(24, 24), channels=3, enhance="none")
    stage.optimizer.learning_rate = 1e-20  # so that what is trained is still what it started from
    stage.optimizer.freeze = "block/*"
    stage.init.weights = str(weights)
    return config.lock()


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """(folder, workdir, config) of a run that began with weights since gone."""
    folder = tmp_path_factory.mktemp("start")
    weights = folder / "tiny.safetensors"
    safetensors.numpy.save_file(state(), weights)
    settings = config(folder, weights)
    train_run(settings, folder / "run")
    weights.unlink()
    return folder, folder / "run", settings


def test_training_starts_from_the_weights_and_says_so(started):
    _, workdir, _ = started
    recorded = read_config(workdir)
    assert recorded.classifier.input.normalize == "pretrained"
    stage, variables = load_trained("classifier", recorded, workdir)
    found = flatten_dict(jax.device_get(variables))
    assert len(found) == len(state())
    for path, value in found.items():
        want = state()[Tiny.reference_key(path[1:])]
        want = want.transpose(2, 3, 1, 0) if want.ndim == 4 else want.T
        np.testing.assert_allclose(value, want, rtol=1e-6, err_msg=str(path))
    np.testing.assert_allclose(stage.statistics.normalization.mean, [25.5, 51, 153], rtol=1e-6)
    np.testing.assert_allclose(stage.statistics.normalization.std, [51, 76.5, 102], rtol=1e-6)
    record = json.loads((workdir / "init_classifier.json").read_text())
    assert (record["file"], record["replaced"]) == ("tiny.safetensors", []) and len(record["sha256"]) == 64


def test_nothing_is_read_again_once_trained(started, tmp_path):
    _, workdir, settings = started
    copy = tmp_path / "run"
    shutil.copytree(workdir, copy)
    train_run(settings, copy)
    evaluate_run(copy, "val")


def test_a_start_before_the_first_checkpoint_must_be_from_the_same_weights(started, tmp_path):
    folder, workdir, settings = started
    copy, weights = tmp_path / "run", folder / "tiny.safetensors"
    shutil.copytree(workdir, copy)
    shutil.rmtree(copy / "checkpoints")
    safetensors.numpy.save_file({name: value + 1 for name, value in state().items()}, weights)
    with pytest.raises(InputError, match="changed since this run began"):
        train_run(settings, copy)
    safetensors.numpy.save_file(state(), weights)
    train_run(settings, copy)
    weights.unlink()


@pytest.mark.parametrize("content", [None, b"<!DOCTYPE html><html>", b"\x80\x02cos\nsystem\n"])
def test_weights_that_cannot_be_used_stop_a_run_before_it_writes(started, tmp_path, content):
    folder, _, _ = started
    weights = tmp_path / "weights.pth"
    if content is not None:
        weights.write_bytes(content)
    with pytest.raises(InputError, match="weights.pth"):
        train_run(config(folder, weights), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def refused(settings, words):
    with pytest.raises(InputError, match=words) as error:
        check_config(settings)
    assert "\n" not in str(error.value)


def test_what_a_user_sets_explicitly_holds_or_is_refused(tmp_path):
    settings = config(tmp_path, "x.pth")
    settings.classifier.input.normalize = "standardize"
    check_config(settings)
    refused(config(tmp_path, ""), "classifier.init.weights: empty, name the file that holds the weights of tiny")
    for channels in (2, 4):
        settings = config(tmp_path, "x.pth")
        settings.classifier.input.channels = channels
        refused(settings, "classifier.input.channels: .*published weights take 3")
    settings = config(tmp_path, "x.pth")
    settings.classifier.input.size = (19, 40)
    refused(settings, r"classifier.input.size: \(19, 40\), but tiny takes 20 pixels or more")
    settings = config(tmp_path, "none")
    settings.classifier.init.skip = "fc.*"
    refused(settings, "skip and first are for weights")


def test_networks_without_published_weights(tmp_path):
    settings = cov_ctnet.get_config()
    settings.classifier.init.weights = "package"
    refused(settings, "cov_ctnet has no published weights, set none")
    settings = cov_ctnet.get_config()
    settings.classifier.input.normalize = "pretrained"
    refused(settings, "cov_ctnet has no published weights, use zero_center")
