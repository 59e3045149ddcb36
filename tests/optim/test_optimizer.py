"""Optimiser steps and schedules against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covjax.errors import InputError
from covjax.models import create_model
from covjax.optim.optimizer import decay_mask, make_optimizer, make_schedule
from covjax.optim.settings import OptimizerSettings


def config(**changes):
    values = dict(
        name="sgd",
        learning_rate=0.1,
        schedule="constant",
        warmup_epochs=0.0,
        momentum=0.9,
        weight_decay=0.01,
        clip_norm=0.0,
        rates="",
    )
    return OptimizerSettings(**values | changes)


def steps(settings, params, gradients):
    """Parameters after one step with each of `gradients`."""
    optimizer = make_optimizer(settings, make_schedule(settings, 1, 100))
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_momentum_and_l2_by_hand():
    params = {"conv": {"kernel": jnp.array([2.0]), "bias": jnp.array([3.0])}}
    gradients = [{"conv": {"kernel": jnp.array([g]), "bias": jnp.array([g])}} for g in (1.0, -0.5)]
    got = steps(config(), params, gradients)["conv"]
    # kernel: v1 = 1 + .01*2 = 1.02, w = 2 - .102 = 1.898; v2 = .9*1.02 + (-.5 + .01898) = .43698, w
    # = 1.898 - .043698
    np.testing.assert_allclose(got["kernel"], [1.854302], rtol=1e-6)
    # bias: v1 = 1, b = 2.9; v2 = .9 - .5 = .4, b = 2.86
    np.testing.assert_allclose(got["bias"], [2.86], rtol=1e-6)


def test_adamw_by_hand():
    params = {"conv": {"kernel": jnp.array([2.0]), "bias": jnp.array([3.0])}}
    gradients = [{"conv": {"kernel": jnp.array([g]), "bias": jnp.array([g])}} for g in (1.0, -0.5)]
    got = steps(config(name="adamw"), params, gradients)["conv"]
    # bias: 3 - .1 = 2.9; m2 = .04 / .19, v2 = .001249 / .001999, b = 2.9 - .1 * .2663368
    np.testing.assert_allclose(got["bias"], [2.8733663], rtol=1e-6)
    # kernel, decayed apart from the moments: 2 - .1 * (1 + .02) = 1.898, w = 1.898 - .1 * (.2663368
    # + .01898)
    np.testing.assert_allclose(got["kernel"], [1.8694683], rtol=1e-6)


def test_unknown_optimizers_are_refused():
    with pytest.raises(
        InputError, match="optimizer.name: 'adam' is unknown, .* did you mean 'adamw'"
    ):
        make_optimizer(config(name="adam"), make_schedule(config(), 1, 1))


def test_clipping_by_global_norm_comes_before_decay():
    params = {"conv": {"kernel": jnp.array([1.0, 0.0])}}
    gradient = {"conv": {"kernel": jnp.array([30.0, 40.0])}}
    got = steps(config(clip_norm=5.0, momentum=0.0), params, [gradient])["conv"]["kernel"]
    np.testing.assert_allclose(got, [1 - 0.1 * (3 + 0.01), -0.4], rtol=1e-6)
    small = steps(config(clip_norm=100.0, momentum=0.0, weight_decay=0.0), params, [gradient])[
        "conv"
    ]["kernel"]
    np.testing.assert_allclose(small, [-2, -4], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "channels"),
    [
        ("cov_ctnet", {}, 1),
        ("cov_raseg", {"features": 4}, 3),
        ("cov_raseg", {"final": "sigmoid2x2", "features": 4}, 3),
    ],
)
def test_kernels_and_batch_norm_decay_and_biases_do_not(name, options, channels):
    model = create_model(name, **options)
    params = jax.eval_shape(model.init, jax.random.PRNGKey(0), jnp.zeros((1, 32, 32, channels)))[
        "params"
    ]
    mask = jax.tree_util.tree_leaves_with_path(decay_mask(params))
    assert len(mask) == len(jax.tree.leaves(params))
    for path, decays in mask:
        names = [entry.key for entry in path]
        bias_of_a_layer = names[-1] in ("bias", "final_bias") and names[-2:-1] != ["bn"]
        assert decays is not bias_of_a_layer, names
    batch_norm = [decays for path, decays in mask if "bn" in [e.key for e in path]]
    assert all(batch_norm) and not all(decays for _, decays in mask)


def rates(steps_per_epoch, epochs, at, **changes):
    schedule = make_schedule(config(**changes), steps_per_epoch, epochs)
    return np.array([float(schedule(k)) for k in at])


def test_schedules_by_hand():
    np.testing.assert_allclose(rates(10, 3, (0, 15, 29)), 0.1)
    np.testing.assert_allclose(
        rates(10, 2, (0, 10, 20), schedule="cosine"), [0.1, 0.05, 0], atol=1e-7
    )
    warm = rates(10, 5, (0, 5, 10, 30, 50), schedule="cosine", warmup_epochs=1.0)
    np.testing.assert_allclose(warm, [0.1 / 11, 0.6 / 11, 0.1, 0.05, 0], atol=1e-7)
    few = rates(10, 5, (0, 3, 5, 6, 49), warmup_epochs=0.5)
    np.testing.assert_allclose(few, [0.1 / 6, 0.4 / 6, 0.1, 0.1, 0.1], rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.floats(0, 0.99), st.sampled_from(["constant", "cosine"]))
def test_every_step_of_a_warm_up_moves_and_more_than_the_one_before(
    steps_per_epoch, epochs, schedule
):
    warmup = round(epochs * steps_per_epoch)
    found = rates(steps_per_epoch, 2, range(warmup + 1), schedule=schedule, warmup_epochs=epochs)
    assert found[0] > 0 and (np.diff(found) > 0).all() and found[-1] == pytest.approx(0.1)


def test_schedule_errors():
    with pytest.raises(InputError, match="did you mean 'cosine'"):
        make_schedule(config(schedule="cosin"), 10, 3)
    with pytest.raises(InputError, match="warmup_epochs: 3.0 leaves nothing of 3 epochs"):
        make_schedule(config(warmup_epochs=3.0), 10, 3)
