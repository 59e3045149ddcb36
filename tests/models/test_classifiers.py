"""What every classifier must be: its exact parameter count, its sizes, and what it exposes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from covjax.errors import InputError
from covjax.models import create_model, list_models

# Parameters at 3 channels and 1000 classes, without auxiliary heads.
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
}


def shapes(model, *shape, train=False):
    """Variables and (logits, what was exposed) of an input of this shape."""
    x = jnp.zeros(shape)
    variables = jax.eval_shape(model.init, jax.random.PRNGKey(0), x)
    keys = {"dropout": jax.random.PRNGKey(0)}
    apply = partial(model.apply, train=train, mutable=["batch_stats", "intermediates"], rngs=keys)
    logits, kept = jax.eval_shape(apply, variables, x)
    return variables, logits, kept["intermediates"]


def test_every_classifier_is_listed_here():
    assert sorted(PARAMETERS | {"cov_ctnet": 0}) == list_models("classification")


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_and_what_is_exposed(name):
    model = create_model(name, num_classes=1000)
    standard = model.pretrained_input
    variables, logits, exposed = shapes(model, 2, standard.size, standard.size, 3)
    assert sum(int(np.prod(p.shape)) for p in jax.tree.leaves(variables["params"])) == PARAMETERS[name]
    assert logits.shape == (2, 1000) and logits.dtype == jnp.float32
    (features,), (feature_map,) = exposed["features"], exposed["feature_map"]
    assert features.shape == (2, variables["params"][model.head[-1]]["kernel"].shape[0])
    assert feature_map.ndim == 4 and feature_map.shape[1] < standard.size / 8
    assert any(path.startswith(model.stem) for path in variables["params"])


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_set_up_of_the_paper_and_the_smallest_input(name):
    model = create_model(name, dtype="bfloat16", remat=True)
    for train, side in ((False, model.smallest), (True, 82)):
        _, logits, _ = shapes(model, 2, side, side + 1, 1, train=train)
        assert logits.shape == (2, 2) and logits.dtype == jnp.float32
    if model.smallest > 1:
        side = model.smallest - 1
        with pytest.raises(InputError, match=rf"^model {name}: an input of {side}x99 is too small, use {side + 1} "):
            shapes(model, 1, side, 99, 1)


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_variable_has_a_name_of_its_own_in_the_reference(name):
    variables, *_ = shapes(create_model(name), 1, 224, 224, 3)
    paths = [tuple(entry.key for entry in path[1:]) for path, _ in jax.tree_util.tree_leaves_with_path(variables)]
    keys = {create_model(name).reference_key(path) for path in paths}
    assert len(keys) == len(paths) and not any(
        part in key for key in keys for part in ("kernel", "scale", "/", ".mean", ".var")
    )
