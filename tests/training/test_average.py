"""The average of the parameters, against its definition in float64: the initial parameters count
nothing.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covjax.optim.freezing import split_frozen
from covjax.optim.optimizer import make_optimizer
from covjax.parallel import pmap_train, replicate, shard
from covjax.stages.stage import init_variables
from covjax.training.batch_norm import make_finaliser
from covjax.training.state import create_state, eval_variables
from covjax.training.step import averaged, train_step
from tests.optim.test_freezing import BUT_DECODER, batch, segmenter, stage_of

update = jax.jit(averaged, static_argnums=2)


def definition(history, decay):
    """sum d^(n-i) p_i / sum d^(n-i) of p_1..p_n [n, ...], in float64."""
    weights = decay ** np.arange(len(history) - 1, -1, -1.0)
    return np.tensordot(weights / weights.sum(), np.asarray(history, np.float64), 1)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([0.0, 0.5, 0.9, 0.98, 0.999, 0.9999, 0.999999]), st.integers(1, 60),
    st.integers(0, 99),
    st.sampled_from([1e-3, 1.0, 1e3]),
)  # fmt: skip
def test_the_average_is_the_one_of_its_definition(decay, count, seed, far):
    rng = np.random.default_rng(seed)
    history = rng.normal(1, 0.3, (count, 20)).astype(np.float32)
    # the initial parameters, near or far
    average = jnp.asarray(far * rng.normal(size=20), jnp.float32)
    for k, parameters in enumerate(history):
        average = update(average, parameters, decay, jnp.int32(k + 1))
        if k == 0:
            np.testing.assert_array_equal(average, parameters)
    error = np.abs(np.asarray(average, np.float64) - definition(history, decay))
    assert error.max() <= 1e-6 * np.abs(history).max()


def test_a_long_average_forgets_at_its_rate():
    decay = 0.98
    history = np.where(np.arange(400) < 200, 1.0, 0.0).astype(np.float32)
    average = jnp.float32(77)
    step = jax.jit(lambda a, p, n: averaged(a, p, decay, n))
    for k, parameter in enumerate(history):
        average = step(average, parameter, k + 1)
    assert float(average) == pytest.approx(float(definition(history, decay)), abs=1e-6)


@pytest.mark.parametrize("freeze", ["", BUT_DECODER])
def test_what_is_evaluated_is_the_average_of_the_steps_taken(freeze):
    """Of real steps: the weights that validation, the best checkpoint and the finalising of
    BatchNorm use.
    """
    config = segmenter(ema=0.98, freeze=freeze, learning_rate=0.05)
    stage = stage_of(config)
    optimizer = make_optimizer(config.optimizer, lambda step: config.optimizer.learning_rate)
    start = jax.device_get(init_variables(stage.model, config, 0))
    state = replicate(create_state(start, optimizer, 0, True, freeze))
    step = pmap_train(partial(train_step, stage=stage, optimizer=optimizer))
    # of step 0
    jax.tree.map(np.testing.assert_array_equal, eval_variables(state)["params"], start["params"])
    history = []
    for _ in range(5):
        state, _ = step(state, shard(batch()))
        history.append(jax.device_get(state.params))
    got = jax.device_get(eval_variables(state)["params"])
    want = jax.tree.map(lambda *p: definition(np.stack(p), 0.98), *history)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), got, want)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), got, start["params"])
    assert max(jax.tree.leaves(split_frozen(moved, freeze)[0])) > 1e-3
    assert max(jax.tree.leaves(split_frozen(moved, freeze)[1]), default=0) == 0
    finalise = make_finaliser(stage)
    of_average, of_want = (finalise(params, state.batch_stats, [batch()]) for params in (got, want))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3), of_average, of_want)
