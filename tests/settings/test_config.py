"""Configurations: refused by the field that is wrong, and a workdir that belongs to one of them."""

import json
import runpy
from pathlib import Path

import pytest

from covjax.errors import InputError
from covjax.files import write_json
from covjax.models import list_models, model_options
from covjax.settings.config import check_config, claim_workdir, read_config, settled
from tests.places import ROOT

CONFIGS = sorted(p for p in (ROOT / "configs").glob("*.py") if p.stem != "common")


def config(name="framework"):
    path = next(p for p in CONFIGS if p.stem == name)
    return runpy.run_path(str(path))["get_config"]().unlock()


@pytest.fixture(autouse=True)
def beside_configs(monkeypatch):
    monkeypatch.syspath_prepend(str(CONFIGS[0].parents[1]))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_configuration_is_valid(path):
    c = runpy.run_path(str(path))["get_config"]()
    assert c.is_locked
    check_config(c)


@pytest.mark.parametrize("name", list_models("segmentation"))
def test_any_segmentation_network_by_an_argument(name):
    c = runpy.run_path(str(CONFIGS[0].with_name("segment.py")))["get_config"](f"model={name}")
    check_config(c)
    assert c.segmenter.model.name == name and set(c.segmenter.model) == {
        "name",
        *model_options(name),
    }


def test_a_segmentation_network_from_published_weights():
    c = runpy.run_path(str(CONFIGS[0].with_name("segment.py")))["get_config"](
        "model=deeplab_v3,init=tl"
    )
    with pytest.raises(
        InputError,
        match="segmenter.init.weights: empty, name the file that holds the weights of resnet50",
    ):
        check_config(c)
    packaged = runpy.run_path(str(CONFIGS[0].with_name("segment.py")))["get_config"](
        "model=unet_backbone,init=tl"
    )
    assert packaged.segmenter.init.weights == "package"
    c.segmenter.init.weights = "weights.pth"
    check_config(c)
    assert c.segmenter.input.normalize == "pretrained"


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("model=deeplab_v4", "did you mean 'deeplab_v3'"),
        ("modl=x", "did you mean 'model'"),
        ("model", "write model="),
        ("init=imagenet", "init: 'imagenet' is unknown, use one of scratch, tl"),
        ("model=unet,init=tl", "'tl' needs published weights, unet takes none"),
    ],
)
def test_an_argument_that_cannot_be_used(argument, words):
    with pytest.raises(InputError, match=words):
        runpy.run_path(str(CONFIGS[0].with_name("segment.py")))["get_config"](argument)


@pytest.mark.parametrize(
    "field, value, words",
    [
        ("data.source", "foldr", ("did you mean 'folder'", "phantom")),
        ("data.bits", 8, ("0, 12, 16",)),
        ("data.mask_threshold", 255, ("below 255",)),
        ("data.phantom.patients", 0, ("more than 0",)),
        ("data.phantom.seed", -1, ("0 or more",)),
        ("xla_flags", "nvidia", ("nvidia_fast",)),
        ("split.by", "patients", ("did you mean 'patient'",)),
        ("split.shares", (0.5, 0.5), ("three positive shares",)),
        ("split.shares", ("a",), ("three positive shares",)),
        ("seed", -1, ("0 or more",)),
        ("seed", 2**32, ("2**32",)),
        ("classifier.model.name", "cov_ctnett", ("did you mean 'cov_ctnet'",)),
        ("classifier.model.name", "cov_raseg", ("classification model",)),
        ("classifier.input.enhance", "paper_txt", ("did you mean 'paper_text'",)),
        ("classifier.input.gain", "one", ("orthonormal",)),
        ("classifier.input.size", (82,), ("16 to 4096",)),
        ("classifier.input.size", ("abc",), ("16 to 4096",)),
        ("classifier.input.size", (8, 82), ("16 to 4096",)),
        ("classifier.optimizer.schedule", "cosin", ("did you mean 'cosine'",)),
        ("classifier.optimizer.momentum", 1.0, ("below 1",)),
        ("classifier.optimizer.learning_rate", float("nan"), ("more than 0",)),
        ("classifier.batch_size", 0, ("more than 0",)),
        ("classifier.threshold", 1.0, ("between 0 and 1",)),
        ("classifier.dtype", "float16", ("bfloat16",)),
        ("segmenter.model.encoder_pooling", "haar_band", ("did you mean 'haar_bands'", "max")),
        (
            "segmenter.model.encoder_pooling",
            "haar",
            ("'indices' does not fit", "use nearest or bilinear", "or haar"),
        ),
        ("segmenter.model.decoder_smoothing", "haar", ("is unknown", "none")),
        (
            "segmenter.model.name",
            "unet",
            ("'features' is unknown to unet", "configs/segment.py:model=unet"),
        ),
        ("segmenter.slices", "infcted", ("did you mean 'infected'",)),
        ("segmenter.loss.class_weights", "median", ("did you mean 'median_frequency'",)),
        ("segmenter.loss.name", "focall", ("did you mean 'focal'",)),
        ("classifier.loss.name", "dice", ("compares regions", "cross_entropy or focal")),
        ("segmenter.loss.smooth", 0.0, ("must be 1e-06 or more",)),
        ("segmenter.loss.tversky_beta", float("inf"), ("must be 0 or more",)),
        ("classifier.loss.focal_gamma", -1.0, ("must be 0 or more",)),
        ("segmenter.augment.scale", 1.0, ("must be 0 (off) to 0.9",)),
    ],
)
def test_a_value_that_cannot_be_used(field, value, words):
    c = config()
    section = c
    name = field
    while "." in name:
        part, _, name = name.partition(".")
        section = section[part]
    section[name] = value
    with pytest.raises(InputError) as caught:
        check_config(c)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message
    assert name in message or "model" in message or "dtype" in message


def test_a_loss_and_what_does_not_go_with_it():
    c = config("cov_raseg")
    c.segmenter.loss.update(name="ce_dice", class_weights="median_frequency")
    check_config(c)
    c.segmenter.loss.name = "tversky"
    with pytest.raises(
        InputError,
        match="segmenter.loss.class_weights: 'median_frequency' has no meaning for tversky",
    ):
        check_config(c)
    c.segmenter.loss.update(class_weights="none", tversky_alpha=0.0, tversky_beta=0.0)
    with pytest.raises(
        InputError, match="segmenter.loss: tversky_alpha and tversky_beta are both 0"
    ):
        check_config(c)


def test_a_run_of_an_earlier_version_was_trained_by_cross_entropy(tmp_path):
    claim_workdir(tmp_path, config())
    path = tmp_path / "config.json"
    old = json.loads(path.read_text())
    for stage in ("classifier", "segmenter"):
        old[stage]["loss"] = {"class_weights": old[stage]["loss"]["class_weights"]}
    path.write_text(json.dumps(old))
    assert read_config(tmp_path).segmenter.loss.name == "cross_entropy"
    claim_workdir(tmp_path, config())


@pytest.mark.parametrize(
    ("pooling", "now"),
    [
        (None, ("max", "indices")),
        ("max", ("max", "indices")),
        ("haar", ("haar", "haar")),
        ("haar_bands", None),
    ],
)
def test_the_one_pooling_of_an_earlier_version_is_read_as_four_fields(pooling, now, tmp_path):
    now = now or ("haar_bands", "haar")
    path = tmp_path / "config.json"
    claim_workdir(tmp_path, config("cov_raseg"))
    old = json.loads(path.read_text())
    model = {"name": "cov_raseg", "features": 64, "final": "linear"} | (
        {"pooling": pooling} if pooling else {}
    )
    old["segmenter"]["model"] = model
    path.write_text(json.dumps(old))
    model = read_config(tmp_path).segmenter.model
    assert (model.encoder_pooling, model.decoder_unpooling) == now
    assert model.encoder_smoothing == model.decoder_smoothing == "avg" and "pooling" not in model
    same = config("cov_raseg")
    same.segmenter.model.update(encoder_pooling=now[0], decoder_unpooling=now[1])
    claim_workdir(tmp_path, same)
    old["segmenter"]["model"]["pooling"] = "max4"
    path.write_text(json.dumps(old))
    with pytest.raises(InputError, match="damaged.*'pooling' is unknown"):
        read_config(tmp_path)


def test_a_configuration_of_ones_own_that_lacks_a_field():
    c = config()
    del c["data"]["phantom"]
    with pytest.raises(InputError, match="missing or of the wrong type.*phantom"):
        check_config(c)
    c = config()
    del c["classifier"], c["segmenter"]
    with pytest.raises(InputError, match="no stage, add one of classifier, segmenter"):
        check_config(c)


def test_workdir_belongs_to_one_configuration(tmp_path):
    claim_workdir(tmp_path / "run", config())
    claim_workdir(tmp_path / "run", config())
    assert tuple(read_config(tmp_path / "run").split.shares) == (0.64, 0.16, 0.2)
    before = (tmp_path / "run" / "config.json").read_bytes()
    other = config()
    other.classifier.epochs = 7
    other.segmenter.epochs = 9
    with pytest.raises(
        InputError, match=r"config.json.*classifier.epochs: \d+ there, 7 now.*another --workdir"
    ):
        claim_workdir(tmp_path / "run", other)
    alone = config()
    del alone["segmenter"]
    with pytest.raises(InputError, match="also sets segmenter"):
        claim_workdir(tmp_path / "run", alone)
    claim_workdir(tmp_path / "alone", alone)
    with pytest.raises(InputError, match="segmenter.*nothing there"):
        claim_workdir(tmp_path / "alone", config())
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_what_is_left_open_is_settled_before_it_is_recorded(tmp_path):
    claim_workdir(tmp_path / "run", settled(config()))
    assert read_config(tmp_path / "run").classifier.input.normalize == "zero_center"
    # as a run of an earlier version, which knew no published weights
    path = tmp_path / "run" / "config.json"
    old = json.loads(path.read_text())
    del (
        old["classifier"]["init"],
        old["classifier"]["optimizer"]["freeze"],
        old["segmenter"]["init"],
    )
    path.write_text(json.dumps(old))
    claim_workdir(tmp_path / "run", settled(config()))
    assert read_config(tmp_path / "run").classifier.init.weights == "none"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"{}", b'{"classifier": {}}'])
def test_a_damaged_config(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"config.json: damaged") as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_config(tmp_path):
    with pytest.raises(InputError, match="not the workdir of a run"):
        read_config(tmp_path)


def test_writing_is_all_or_nothing(tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    with pytest.raises(InputError, match="a.json/b.json: cannot be written"):
        write_json(path / "b.json", 1)
    with pytest.raises(InputError, match="/proc/covjax/c.json: cannot be written"):
        write_json(Path("/proc/covjax/c.json"), 1)
