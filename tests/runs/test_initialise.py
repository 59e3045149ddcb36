"""A run that starts from published weights or from an earlier run: from which, with which input,
what is refused.
"""

import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import linen as nn
from flax.traverse_util import flatten_dict

from covjax.configs import cov_ctnet
from covjax.errors import InputError
from covjax.models import MODELS
from covjax.models.reference import InputStandard, PublishedClassifier
from covjax.nn.layers import ConvBN
from covjax.report.results import read_results
from covjax.report.run.card import model_card
from covjax.runs.evaluate import evaluate_run
from covjax.runs.initialise import _learned, check_unseen, find_start, start_text
from covjax.runs.train import train_run
from covjax.runs.trained import load_trained
from covjax.settings import load_settings, read_settings


class Tiny(PublishedClassifier):
    """A convolution with BatchNorm and a dense layer, called as PyTorch would."""

    least_side = 20
    stem = "block"
    head = ("fc",)
    pretrained_input = InputStandard((0.1, 0.2, 0.6), (0.2, 0.3, 0.4), 24)

    @nn.compact
    def __call__(self, x, *, train=False):
        x = ConvBN(4, name="block")(x, train=train)
        return nn.Dense(self.num_classes, name="fc")(x.mean((1, 2)))


def state():
    rng = np.random.default_rng(0)
    shapes = {"block.conv.weight": (4, 3, 3, 3), "fc.weight": (2, 4), "fc.bias": (2,)}
    shapes |= {
        f"block.bn.{name}": (4,) for name in ("weight", "bias", "running_mean", "running_var")
    }
    return {name: rng.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS["classification"], "tiny", (Tiny, {}))
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
    train_run(read_settings(settings), folder / "run")
    weights.unlink()
    return folder, folder / "run", settings


def read_digest(workdir):
    return json.loads((workdir / "init_classifier.json").read_text())["sha256"]


def test_training_starts_from_the_weights_and_says_so(started):
    _, workdir, _ = started
    recorded = load_settings(workdir)
    assert recorded.stages["classifier"].input.normalize == "pretrained"
    stage, variables = load_trained("classifier", recorded, workdir)
    found = flatten_dict(jax.device_get(variables))
    assert len(found) == len(state())
    for path, value in found.items():
        want = state()[Tiny.reference_key(path[1:])]
        want = want.transpose(2, 3, 1, 0) if want.ndim == 4 else want.T
        np.testing.assert_allclose(value, want, rtol=1e-6, err_msg=str(path))
    np.testing.assert_allclose(stage.statistics.normalization.mean, [25.5, 51, 153], rtol=1e-6)
    np.testing.assert_allclose(stage.statistics.normalization.std, [51, 76.5, 102], rtol=1e-6)
    card = model_card(read_results(workdir)).decode()
    assert f"started from tiny, tiny.safetensors, digest {read_digest(workdir)}" in card
    record = json.loads((workdir / "init_classifier.json").read_text())
    assert (record["file"], record["replaced"]) == ("tiny.safetensors", []) and len(
        record["sha256"]
    ) == 64


def test_nothing_is_read_again_once_trained(started, tmp_path):
    _, workdir, settings = started
    copy = tmp_path / "run"
    shutil.copytree(workdir, copy)
    train_run(read_settings(settings), copy)
    evaluate_run(copy, "val")


def test_a_start_before_the_first_checkpoint_must_be_from_the_same_weights(started, tmp_path):
    folder, workdir, settings = started
    copy = tmp_path / "run"
    weights = folder / "tiny.safetensors"
    shutil.copytree(workdir, copy)
    shutil.rmtree(copy / "checkpoints")
    safetensors.numpy.save_file({name: value + 1 for name, value in state().items()}, weights)
    with pytest.raises(InputError, match="changed since this run began"):
        train_run(read_settings(settings), copy)
    safetensors.numpy.save_file(state(), weights)
    train_run(read_settings(settings), copy)
    weights.unlink()


@pytest.mark.parametrize("content", [None, b"<!DOCTYPE html><html>", b"\x80\x02cos\nsystem\n"])
def test_weights_that_cannot_be_used_stop_a_run_before_it_writes(started, tmp_path, content):
    folder, _, _ = started
    weights = tmp_path / "weights.pth"
    if content is not None:
        weights.write_bytes(content)
    with pytest.raises(InputError, match="weights.pth"):
        train_run(read_settings(config(folder, weights)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def refused(settings, words):
    with pytest.raises(InputError, match=words) as error:
        read_settings(settings)
    assert "\n" not in str(error.value)


def test_what_a_user_sets_explicitly_holds_or_is_refused(tmp_path):
    settings = config(tmp_path, "x.pth")
    settings.classifier.input.normalize = "standardize"
    read_settings(settings)
    refused(
        config(tmp_path, ""),
        "classifier.init.weights: empty, name the file that holds the weights of tiny",
    )
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


def going_on(trained, tmp_path, **changes):
    """(name of the network, what a run that goes on from `trained` starts with), its configuration
    changed.
    """
    workdir, settings = trained
    settings = settings.copy_and_resolve_references().unlock()
    del settings.classifier
    settings.segmenter.init.run = str(workdir)
    settings.segmenter.input.normalize = "zero_center"
    settings.update_from_flattened_dict(changes)
    return find_start("segmenter", read_settings(settings), tmp_path)


def test_a_run_goes_on_from_another(trained, tmp_path):
    workdir, settings = trained
    _, learned = load_trained("segmenter", load_settings(workdir), workdir)
    learned = flatten_dict(jax.device_get(learned))
    start = going_on(
        trained, tmp_path, **{"segmenter.input.size": (64, 48), "segmenter.loss.name": "ce_dice"}
    )
    begun = flatten_dict(start.variables)
    assert begun.keys() == learned.keys() and len(learned) == start.record["loaded"]
    for path, value in begun.items():
        np.testing.assert_array_equal(value, learned[path], err_msg=str(path))
    assert start.record["replaced"] == [] and start.record["file"] == str(workdir)
    assert start_text("segmenter", start.record, "zero_center").endswith("anew: nothing")


def test_only_the_layers_of_another_number_of_classes_start_anew(trained, tmp_path):
    start = going_on(trained, tmp_path, **{"data.classes": "1:a,2:b,3:c"})
    assert start.record["replaced"] == ["decoder1_conv1"]
    kernel = start.variables["params"]["decoder1_conv1"]["conv"]["kernel"]
    assert kernel.shape[-1] == 4 and np.isfinite(kernel).all()
    told_as = start_text("segmenter", start.record, "zero_center")
    assert told_as.endswith("anew: decoder1_conv1") and str(trained[0]) in told_as


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"segmenter.model.features": 16},
            "segmenter.model.features: 16, but .* was trained with 8, set it to that",
        ),
        (
            {"segmenter.input.normalize": "standardize"},
            "input.normalize: standardize, but .* was trained with zero_ce",
        ),
        (
            {"segmenter.init.run": "nowhere"},
            "nowhere: no config.json, this is not the workdir of a run",
        ),
        ({"segmenter.init.weights": "package"}, "cov_raseg has no published weights"),
    ],
)
def test_runs_that_cannot_be_gone_on_from(trained, tmp_path, changes, words):
    with pytest.raises(InputError, match=words) as error:
        going_on(trained, tmp_path, **changes)
    assert "\n" not in str(error.value)


def test_a_run_without_that_stage_and_two_starts_at_once(started, trained, tmp_path):
    _, workdir, _ = started
    with pytest.raises(InputError, match="trained no segmenter, name a run that did"):
        going_on(trained, tmp_path, **{"segmenter.init.run": str(workdir)})
    settings = config(tmp_path, "x.pth")
    settings.classifier.init.run = str(workdir)
    refused(settings, "weights and run are both set, set one of them")


def test_a_run_is_not_judged_on_what_the_earlier_one_learned_from(trained, tmp_path, caplog):
    workdir, settings = trained
    splits = json.loads((workdir / "splits.json").read_text())
    place = {"data.prepared_dir": str(tmp_path)}
    settings = settings.copy_and_resolve_references().unlock()
    settings.segmenter.init.run = str(workdir)
    settings.segmenter.input.normalize = "zero_center"
    settings.update_from_flattened_dict(place)
    start = find_start("segmenter", read_settings(settings), tmp_path)
    check_unseen("segmenter", splits, workdir)  # split as it did
    assert start.record["loaded"]
    origins = splits["origins"]
    turned = splits | {"train": splits["test"], "test": splits["train"]}
    turned["origins"] = origins | {"train": origins["test"], "test": origins["train"]}
    words = rf"learned from {len(splits['train'])} slices of this run's val and test splits, first "
    renamed = turned | {"test": [f"renamed {name}" for name in turned["test"]], "source": "folder"}
    for leaking in (turned, turned | {"fingerprint": "of other data"}, renamed):
        with pytest.raises(InputError, match=words) as error:
            check_unseen("segmenter", leaking, workdir)
        assert "\n" not in str(error.value)
    assert "optimistic" not in caplog.text
    other = {
        split: [f"other {origin}" for origin in listed]
        for split, listed in turned["origins"].items()
    }
    check_unseen("segmenter", turned | {"origins": other}, workdir)
    assert "if they are the same slices, scores will be optimistic" in caplog.text


def test_a_copy_of_a_slice_on_both_sides_of_the_same_split_is_no_reason_to_split_otherwise(
    trained, tmp_path
):
    before = {"train": {"a", "b"}, "val": {"c"}, "test": {"d", "a"}}
    assert not _learned(before, before)
    assert _learned(before, {"train": set(), "val": {"b"}, "test": {"a", "c"}}) == {"b", "c"}


def test_training_goes_on_from_what_a_run_learned(started, tmp_path):
    folder, workdir, settings = started
    settings = settings.copy_and_resolve_references().unlock()
    settings.classifier.init.update(weights="none", run=str(workdir))
    settings.classifier.input.normalize = "pretrained"
    train_run(read_settings(settings.lock()), tmp_path / "next")
    before, after = (
        load_trained("classifier", load_settings(place), place)[1]
        for place in (workdir, tmp_path / "next")
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        *map(jax.device_get, (before, after)),
    )
    kept = tmp_path / "next" / "init_classifier.json"
    record = json.loads(kept.read_text())
    assert record["file"] == str(workdir)
    shutil.rmtree(tmp_path / "next" / "checkpoints")
    kept.write_text(json.dumps(record | {"digest": "of other arrays"}))
    with pytest.raises(InputError, match=f"init: {workdir} changed since this run began"):
        train_run(read_settings(settings), tmp_path / "next")
