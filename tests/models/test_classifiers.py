"""What every classifier must be: its exact parameter count, its sizes, and what it exposes."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from covjax.errors import InputError
from covjax.models import create_model, list_models, model_class
from covjax.models.reference import PublishedClassifier

# Parameters at 3 channels and 1000 classes, with auxiliary heads.
PARAMETERS = {
    "densenet201": 20_013_928,
    "efficientnet_lite0": 4_652_008,
    "googlenet": 13_004_888,
    "inception_v3": 27_161_264,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "shufflenet_v1": 1_395_312,
    "shufflenet_v2_x1_0": 2_278_604,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
    "xception": 22_855_952,
}
PUBLISHED = [name for name in PARAMETERS if issubclass(model_class(name), PublishedClassifier)]
OPTIONS = [  # the same of other options
    ("googlenet", {"aux": False}, 6_624_904),
    ("inception_v3", {"aux": False}, 23_834_568),
    ("shufflenet_v1", {"groups": 3, "width": 1, "bottleneck": 4}, 1_865_728),
    ("shufflenet_v1", {"groups": 8, "width": 1, "bottleneck": 4}, 2_434_768),
]


def traced(model, *shape, train=False):
    """Shapes of the logits and of all variables, exposed ones too, for an input of this shape."""
    keys = {"params": jax.random.PRNGKey(0), "dropout": jax.random.PRNGKey(1)}
    return jax.eval_shape(
        partial(model.init_with_output, train=train, mutable=True), keys, jnp.zeros(shape)
    )


@cache
def traced_as_published(name):
    side = create_model(name).pretrained_input.size if name in PUBLISHED else 224
    return traced(create_model(name, num_classes=1000), 2, side, side, 3)


def count(variables):
    return sum(int(np.prod(p.shape)) for p in jax.tree.leaves(variables["params"]))


def test_every_classifier_is_listed_here():
    assert sorted(PARAMETERS | {"cov_ctnet": 0}) == list_models("classification")


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_and_what_is_exposed(name):
    model = create_model(name)
    logits, variables = traced_as_published(name)
    assert count(variables) == PARAMETERS[name]
    assert logits.shape == (2, 1000) and logits.dtype == jnp.float32
    (features,), (feature_map,) = (
        variables["intermediates"][kind] for kind in ("features", "feature_map")
    )
    assert features.shape == (2, variables["params"][model.head[-1]]["kernel"].shape[0])
    assert feature_map.ndim == 4 and feature_map.shape[1] < 30
    assert any(path.startswith(model.stem) for path in variables["params"])


@pytest.mark.parametrize(("name", "options", "parameters"), OPTIONS)
def test_parameter_counts_of_options(name, options, parameters):
    assert (
        count(traced(create_model(name, num_classes=1000, **options), 1, 96, 96, 3)[1])
        == parameters
    )


@pytest.mark.parametrize(("name", "heads"), [("googlenet", 2), ("inception_v3", 1)])
def test_auxiliary_heads_speak_in_training_only(name, heads):
    for aux, train in ((True, True), (False, True)):
        model = create_model(name, num_classes=3, aux=aux)
        x = jnp.zeros((2, 82, 82, 1))
        keys = {"params": jax.random.PRNGKey(0), "dropout": jax.random.PRNGKey(1)}
        variables = jax.eval_shape(model.init, keys, x)
        apply = partial(
            model.apply, train=train, rngs=keys, mutable=["batch_stats", "intermediates"]
        )
        spoken = jax.eval_shape(apply, variables, x)[1]["intermediates"].get("auxiliary", ())
        assert [logits.shape for logits in spoken] == [(2, 3)] * (heads if aux and train else 0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("xception", {"padding": "kears"}, "model option padding: 'kears' .*did you mean 'keras'"),
        ("shufflenet_v1", {"groups": 5}, "model option groups: '?5'? .*use one of 1, 2, 3, 4, 8"),
        (
            "shufflenet_v1",
            {"width": 0.3},
            "width=0.3 gives 81.6 channels, which must exceed 24 and be divisible by 4",
        ),
        (
            "shufflenet_v1",
            {"bottleneck": 0},
            "shufflenet_v1: bottleneck=0, give a whole number, 1 or more",
        ),
    ],
)
def test_unfit_options_are_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        create_model(name, **options)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_set_up_of_the_paper_and_the_smallest_input(name):
    model = create_model(name, dtype="bfloat16", remat=True)
    for train, side in ((False, model.smallest), (True, 82)):
        logits, _ = traced(model, 2, side, side + 1, 1, train=train)
        assert logits.shape == (2, 2) and logits.dtype == jnp.float32
    if model.smallest > 1:
        side = model.smallest - 1
        with pytest.raises(
            InputError, match=rf"^model {name}: an input of {side}x99 is too small, use {side + 1} "
        ):
            traced(model, 1, side, 99, 1)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_variable_has_a_name_of_its_own_in_the_reference(name):
    variables = {
        k: v for k, v in traced_as_published(name)[1].items() if k in ("params", "batch_stats")
    }
    paths = [
        tuple(entry.key for entry in path[1:])
        for path, _ in jax.tree_util.tree_leaves_with_path(variables)
    ]
    keys = {create_model(name).reference_key(path) for path in paths}
    assert len(keys) == len(paths) and not any(
        part in key for key in keys for part in ("kernel", "scale", "/", ".mean", ".var")
    )
