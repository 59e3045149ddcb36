"""Fine-tuning: what is frozen stays as it is, to the bit, and what trains learns at its own
rate.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from covjax.configs import cov_raseg
from covjax.errors import InputError
from covjax.optim.freezing import check_parts, is_frozen, keeps_statistics, rate_of
from covjax.optim.optimizer import make_optimizer
from covjax.parallel import pmap_train, replicate, shard
from covjax.preprocess.network_input import Normalization
from covjax.settings import read_settings
from covjax.stages.stage import Statistics, check_fine_tuning, init_variables, make_stage
from covjax.training.batch_norm import make_finaliser
from covjax.training.state import create_state, eval_variables
from covjax.training.step import train_step

BUT_DECODER = "*,!decoder1*"


def test_the_last_pattern_that_fits_decides():
    for path, freeze, frozen in [
        ("stem/conv/kernel", "", False),
        ("stem/conv/kernel", "stem/*", True),
        ("stem/conv/kernel", "stem", False),
        ("fc3/kernel", "*, !fc3/*", False),
        ("fc3/bias", "*,!fc3/*,fc3/bias", True),
        ("stage1/bn/scale", "*/scale", True),
    ]:
        assert is_frozen(path.split("/"), freeze) == frozen, (path, freeze)
    assert keeps_statistics(("stem", "bn"), "stem/*") and not keeps_statistics(
        ("stem", "bn"), "stem/bn/bias"
    )


def test_the_first_rate_that_fits_counts():
    rates = "stem/*:0.1, *bias:2,stem/bn/*:9"
    assert [rate_of(p.split("/"), rates) for p in ("stem/bn/bias", "fc/bias", "fc/kernel")] == [
        0.1,
        2.0,
        1.0,
    ]


@pytest.mark.parametrize(
    ("freeze", "rates", "message"),
    [
        (
            "sten/*",
            "",
            "optimizer.freeze: 'sten/*' matches no parameter, the parts are fc/*, stem/*",
        ),
        ("*,!head/*", "", "optimizer.freeze: 'head/*' matches no parameter"),
        ("*", "", "leaves nothing to train"),
        ("", "head*:1", "optimizer.rates: 'head*' matches no parameter"),
        ("", "stem/*", "'stem/*' is not PATTERN:NUMBER"),
        ("", "stem/*:0", "'stem/*:0' is not PATTERN:NUMBER with a number above 0"),
        ("", "stem/*:nan", "is not PATTERN:NUMBER"),
        ("", ":2", "is not PATTERN:NUMBER"),
    ],
)
def test_what_fits_nothing_is_an_error(freeze, rates, message):
    params = {"stem": {"kernel": 0}, "fc": {"kernel": 0}}
    with pytest.raises(InputError) as error:
        check_parts("optimizer", params, freeze, rates)
    assert message in str(error.value) and "\n" not in str(error.value)


def segmenter(remat=False, **settings):
    config = cov_raseg.get_config().unlock()
    config.segmenter.input.size = (16, 20)
    config.segmenter.model.features = 4
    config.segmenter.remat = remat
    config.segmenter.optimizer.update(settings)
    return read_settings(config).stages["segmenter"]


def stage_of(config):
    mean = Normalization(np.full(3, 127, np.float32), np.ones(3, np.float32))
    return make_stage("segmenter", config, Statistics(mean, np.ones(2), np.ones(2)))


def batch():
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (4, 16, 20), np.uint8),
        "label": np.ones(4, np.int32),
        "mask": rng.integers(0, 2, (4, 16, 20), np.uint8),
        "valid": np.ones(4, bool),
    }


def one_step(config):
    """(stage, variables before, state after) one step."""
    stage = stage_of(config)
    optimizer = make_optimizer(config.optimizer, lambda step: config.optimizer.learning_rate)
    variables = jax.device_get(init_variables(stage.model, config, 0))
    state = replicate(
        create_state(variables, optimizer, 0, config.optimizer.ema > 0, config.optimizer.freeze)
    )
    state, metrics = pmap_train(partial(train_step, stage=stage, optimizer=optimizer))(
        state, shard(batch())
    )
    assert bool(metrics["finite"])
    return stage, variables, state


def leaves(tree):
    return flatten_dict(jax.device_get(tree), sep="/")


@pytest.mark.parametrize("remat", [False, True])
def test_what_is_frozen_stays_and_has_no_optimiser_state(remat):
    stage, before, state = one_step(segmenter(remat, freeze=BUT_DECODER, ema=0.5))
    old, new, averaged = (
        leaves(tree) for tree in (before["params"], state.params, eval_variables(state)["params"])
    )
    assert old.keys() == new.keys() == averaged.keys()
    for path, value in old.items():
        trains = path.startswith("decoder1")
        if trains and path.endswith("kernel"):
            assert not np.array_equal(value, new[path]) and not np.array_equal(
                value, averaged[path]
            ), path
        if not trains:
            assert np.array_equal(value, new[path]) and np.array_equal(value, averaged[path]), path
    kept = sum(x.size for x in jax.tree.leaves(state.opt_state) if x.ndim)
    assert kept == sum(v.size for path, v in old.items() if path.startswith("decoder1"))

    old = leaves(before["batch_stats"])
    new = leaves(state.batch_stats)
    finalised = leaves(make_finaliser(stage)(state.params, state.batch_stats, [batch()]))
    for path, value in old.items():
        same = not path.startswith("decoder1")
        assert (
            np.array_equal(value, new[path]) == same
            and np.array_equal(value, finalised[path]) == same
        ), path


def test_frozen_layers_normalise_by_their_own_statistics_in_training():
    images = jnp.asarray(batch()["image"])
    variables = init_variables(stage_of(segmenter()).model, segmenter(), 0)
    variables["batch_stats"] = jax.tree.map(lambda s: s + 0.5, variables["batch_stats"])

    def logits(freeze, train):
        # a configuration that freezes everything is refused when it is read
        optimizer = replace(segmenter().optimizer, freeze=freeze)
        stage = stage_of(replace(segmenter(), optimizer=optimizer))
        return stage.logits(variables, images, train=train, mutable=["batch_stats"])[0]

    inference = logits("", False)
    np.testing.assert_array_equal(logits("*", True), inference)
    assert not np.allclose(logits("", True), inference, rtol=0.1)
    assert not np.allclose(logits(BUT_DECODER, True), inference, rtol=0.1)


def test_all_statistics_frozen_are_kept_without_a_pass_over_the_data():
    finalise = make_finaliser(stage_of(segmenter(freeze="*,!decoder1_conv1/conv/*")))
    stats = {"layer": {"bn": {"mean": np.ones(2), "var": np.ones(2)}}}
    assert finalise({}, stats, iter(())) is stats


def test_rates_multiply_the_step():
    before, plain = one_step(segmenter(momentum=0.0, learning_rate=0.1))[1:]
    scaled = one_step(segmenter(momentum=0.0, learning_rate=0.1, rates="encoder1*:0.5"))[2]
    old = leaves(before["params"])
    full = leaves(plain.params)
    part = leaves(scaled.params)
    for path in old:
        rate = 0.5 if path.startswith("encoder1") else 1.0
        step = np.linalg.norm(full[path] - old[path])
        halved = np.linalg.norm(part[path] - old[path])
        # a bias before BatchNorm has no gradient but for rounding
        if path.endswith(("kernel", "scale")):
            assert step > 1e-4, path
            np.testing.assert_allclose(halved, rate * step, rtol=1e-2, err_msg=path)


def test_the_configuration_is_checked_against_the_network():
    check_fine_tuning("segmenter", segmenter(freeze=BUT_DECODER, rates="encoder1*:0.1"))
    with pytest.raises(
        InputError,
        match=r"segmenter.optimizer.freeze: 'head/\*' matches no parameter, the parts are",
    ):
        check_fine_tuning("segmenter", segmenter(freeze="*,!head/*"))
