"""configs/classify.py: every row of Tables 2 and 3 from a string of choices."""

import itertools

import pytest

from covjax.configs import classify
from covjax.errors import InputError
from covjax.models import list_models, model_class
from covjax.settings import read_settings

NETWORKS = list_models("classification")
PUBLISHED = [name for name in NETWORKS if hasattr(model_class(name), "pretrained_input")]


@pytest.mark.parametrize("name, input", list(itertools.product(NETWORKS, ("dwt", "original"))))
def test_rows_from_scratch(name, input):
    config = classify.get_config(f"model={name},init=scratch,input={input}")
    stage = read_settings(config).stages["classifier"]
    read_settings(classify.get_config(f"model={name},input={input}"))
    assert (stage.model.name, stage.input.channels, stage.init.weights) == (name, 1, "none")
    assert stage.input.enhance == ("paper_text" if input == "dwt" else "none")
    assert stage.input.normalize == ("standardize" if name in ("vgg16", "vgg19") else "zero_center")
    assert min(stage.input.size) == 82 or min(stage.input.size) == model_class(name).least_side > 82


@pytest.mark.parametrize("name", PUBLISHED)
def test_rows_from_published_weights(name):
    config = classify.get_config(f"model={name},init=tl,input=original")
    if config.classifier.init.weights != "package":
        with pytest.raises(
            InputError, match=f"empty, name the file that holds the weights of {name}"
        ):
            read_settings(config)
        config.classifier.init.weights = "weights.pth"
    stage = read_settings(config).stages["classifier"]
    assert stage.input.size == (model_class(name).pretrained_input.size,) * 2
    assert (stage.input.channels, stage.input.enhance, stage.input.normalize) == (
        3,
        "none",
        "pretrained",
    )


def test_only_fields_that_a_network_has():
    assert dict(classify.get_config().classifier.model) == {"name": "cov_ctnet", "head_relu": False}
    assert dict(classify.get_config("model=resnet50").classifier.model) == {"name": "resnet50"}
    with pytest.raises(AttributeError):
        classify.get_config("model=resnet50").classifier.model.head_relu = True


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (
            "modle=resnet50",
            "argument: 'modle' is unknown, use one of init, input, model; did you mean 'model'",
        ),
        ("model=resnet5", "model: 'resnet5' is unknown, use one of .*did you mean 'resnet50'"),
        ("init=imagenet", "init: 'imagenet' is unknown, use one of scratch, tl"),
        ("input=", "argument input: has no value, write input=dwt"),
        ("resnet50", "argument: 'resnet50' is unknown, use one of init, input, model"),
        ("init=tl", "init: 'tl' needs published weights, cov_ctnet has none"),
    ],
)
def test_choices_that_are_none(choices, words):
    with pytest.raises(InputError, match=words):
        classify.get_config(choices)
