"""Configurations: refused by the field that is wrong, and a workdir that belongs to one of them."""

import json
import runpy
from pathlib import Path

import pytest

from covjax.errors import InputError
from covjax.files import write_json
from covjax.models import list_models, model_options
from covjax.settings import check_workdir, claim_workdir, load_settings, read_settings
from covjax.settings.files import FORMAT
from tests.places import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.py"))


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
    read_settings(c)


@pytest.mark.parametrize("name", list_models("segmentation"))
def test_any_segmentation_network_by_an_argument(name):
    c = runpy.run_path(str(CONFIGS[0].with_name("segment.py")))["get_config"](f"model={name}")
    read_settings(c)
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
        read_settings(c)
    packaged = runpy.run_path(str(CONFIGS[0].with_name("segment.py")))["get_config"](
        "model=unet_backbone,init=tl"
    )
    assert packaged.segmenter.init.weights == "package"
    c.segmenter.init.weights = "weights.pth"
    read_settings(c)
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
            ("'features' is unknown to unet", "--config segment:model=unet"),
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
        read_settings(c)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message
    assert name in message or "model" in message or "dtype" in message


def test_a_loss_and_what_does_not_go_with_it():
    c = config("cov_raseg")
    c.segmenter.loss.update(name="ce_dice", class_weights="median_frequency")
    read_settings(c)
    c.segmenter.loss.name = "tversky"
    with pytest.raises(
        InputError,
        match="segmenter.loss.class_weights: 'median_frequency' has no meaning for tversky",
    ):
        read_settings(c)
    c.segmenter.loss.update(class_weights="none", tversky_alpha=0.0, tversky_beta=0.0)
    with pytest.raises(
        InputError, match="segmenter.loss: tversky_alpha and tversky_beta are both 0"
    ):
        read_settings(c)


def test_a_run_of_another_version_is_refused(tmp_path):
    claim_workdir(tmp_path, read_settings(config()))
    path = tmp_path / "config.json"
    written = json.loads(path.read_text())
    for other in ({"format": 0}, {"format": 99}, {}):
        path.write_text(json.dumps({k: v for k, v in written.items() if k != "format"} | other))
        for use in (load_settings, lambda folder: claim_workdir(folder, read_settings(config()))):
            with pytest.raises(InputError, match="config.json: .*another version.*format"):
                use(tmp_path)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("segmenter.model.pooling", "model: option 'pooling' is unknown to cov_raseg"),
        ("segmenter.loss.nam", "segmenter.loss: 'nam' is unknown.*did you mean 'name'"),
        ("data.phantom.sise", "data.phantom: 'sise' is unknown.*did you mean 'size'"),
        ("clasifier", "config: 'clasifier' is unknown.*did you mean 'classifier'"),
        ("study.sed", "study: 'sed' is unknown.*did you mean 'seeds'"),
    ],
)
def test_fields_that_do_not_exist(field, words, tmp_path):
    c = config("study")
    values = json.loads(c.to_json_best_effort())
    *sections, name = field.split(".")
    within = values
    for section in sections:
        within = within[section]
    within[name] = 1
    with pytest.raises(InputError, match=words):
        read_settings(values)
    (tmp_path / "config.json").write_text(json.dumps(values | {"format": FORMAT}))
    with pytest.raises(InputError, match=f"config.json: damaged.*{words}"):
        load_settings(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 1.5),
        ("seed", True),
        ("classifier.epochs", "10"),
        ("classifier.remat", 1),
        ("classifier.optimizer.learning_rate", "fast"),
        ("data.path", None),
        ("data.phantom", 3),
        ("study.seeds", 1),
    ],
)
def test_values_of_another_type(field, value):
    c = json.loads(config("study" if "study" in field else "framework").to_json_best_effort())
    *sections, name = field.split(".")
    within = c
    for section in sections:
        within = within[section]
    within[name] = value
    with pytest.raises(InputError, match=f"{field}: .*"):
        read_settings(c)


def test_a_configuration_of_ones_own_that_lacks_a_field():
    c = config()
    del c["data"]["phantom"]
    with pytest.raises(InputError, match="missing or of the wrong type.*phantom"):
        read_settings(c)
    c = config()
    del c["classifier"], c["segmenter"]
    with pytest.raises(InputError, match="no stage, add one of classifier, segmenter"):
        read_settings(c)


def test_workdir_belongs_to_one_configuration(tmp_path):
    claim_workdir(tmp_path / "run", read_settings(config()))
    claim_workdir(tmp_path / "run", read_settings(config()))
    assert tuple(load_settings(tmp_path / "run").split.shares) == (0.64, 0.16, 0.2)
    before = (tmp_path / "run" / "config.json").read_bytes()
    other = config()
    other.classifier.epochs = 7
    other.segmenter.epochs = 9
    with pytest.raises(
        InputError, match=r"config.json.*classifier.epochs: \d+ there, 7 now.*another --workdir"
    ):
        claim_workdir(tmp_path / "run", read_settings(other))
    alone = config()
    del alone["segmenter"]
    with pytest.raises(InputError, match="also sets segmenter"):
        claim_workdir(tmp_path / "run", read_settings(alone))
    claim_workdir(tmp_path / "alone", read_settings(alone))
    with pytest.raises(InputError, match="segmenter.*nothing there"):
        claim_workdir(tmp_path / "alone", read_settings(config()))
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_fields_that_may_change_when_a_run_goes_on(tmp_path):
    other = config()
    other.classifier.optimizer.schedule = "constant"
    claim_workdir(tmp_path, read_settings(other))
    before = (tmp_path / "config.json").read_bytes()
    other.update(xla_flags="nvidia_deterministic")
    other.data.update(path="moved", prepared_dir="elsewhere", cache=False)
    for stage in (other.classifier, other.segmenter):
        stage.update(remat=True, checkpoint_every=7)
    other.classifier.epochs += 1
    check_workdir(tmp_path, read_settings(other))
    assert (tmp_path / "config.json").read_bytes() == before
    claim_workdir(tmp_path, read_settings(other))
    now = load_settings(tmp_path)
    assert now == read_settings(other)
    assert (now.data.path, now.stages["classifier"].checkpoint_every) == ("moved", 7)


def test_more_epochs_where_the_schedule_ends_with_them(tmp_path):
    c = config()
    c.segmenter.optimizer.schedule = "cosine"
    claim_workdir(tmp_path, read_settings(c))
    c.segmenter.epochs += 1
    remedy = f"another --workdir with --config.segmenter.init.run={tmp_path}"
    with pytest.raises(InputError, match=rf"segmenter.epochs: \d+ there, \d+ now.*{remedy}"):
        check_workdir(tmp_path, read_settings(c))


def test_what_is_left_open_is_settled_before_it_is_recorded(tmp_path):
    claim_workdir(tmp_path / "run", read_settings(config()))
    assert load_settings(tmp_path / "run").stages["classifier"].input.normalize == "zero_center"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"{}", b'{"classifier": {}}'])
def test_a_damaged_config(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"config.json: damaged") as caught:
        load_settings(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_config(tmp_path):
    with pytest.raises(InputError, match="not the workdir of a run"):
        load_settings(tmp_path)


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
