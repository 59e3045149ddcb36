"""The four pooling fields of CoV-RASeg: every pair that fits builds, every kind of name trains,
learns and evaluates.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from covjax.models import create_model
from covjax.ops.poolings import POOLINGS, smoothings
from covjax.ops.unpool import FITS

PAIRS = [(pooling, unpooling) for unpooling, poolings in FITS.items() for pooling in poolings]
# Every pooling once, every unpooling and every smoothing on either side at least once.
COVER = [
    ("none", "max", "indices", "max_avg_sum"),
    ("max", "avg", "bilinear", "mixed"),
    ("avg", "max_avg_sum", "indices", "gated"),
    ("max_avg_sum", "max_avg_concat", "transposed_conv", "stochastic"),
    ("mixed", "avg_then_max", "indices", "lp"),
    ("gated", "max_then_avg", "nearest", "soft"),
    ("stochastic", "mixed", "bilinear", "blur"),
    ("lp", "gated", "indices", "none"),
    ("soft", "stochastic", "transposed_conv", "max"),
    ("blur", "lp", "nearest", "avg"),
    ("none", "soft", "bilinear", "max_avg_sum"),
    ("max", "blur", "transposed_conv", "mixed"),
    ("avg", "conv", "transposed_conv", "gated"),
    ("max_avg_sum", "haar", "haar", "stochastic"),
    ("mixed", "haar_bands", "haar", "lp"),
]
COVERED = {names[1] for names in COVER}
# Compiling takes most of the time: of poolings alike in what they keep, learn or draw one trains.
TRAINED = {"max", "max_avg_concat", "mixed", "lp", "conv", "haar_bands"}
for new in [name for name in POOLINGS if name not in COVERED]:
    smoothing = new if new in smoothings() else "none"
    COVER.append((smoothing, new, "nearest", smoothing))


def network(smoothing, pooling, unpooling, other, features=4):
    return create_model(
        "cov_raseg", features=features, final="linear", encoder_smoothing=smoothing,
        encoder_pooling=pooling,
        decoder_unpooling=unpooling, decoder_smoothing=other,
    )  # fmt: skip


def counted(model):
    shapes = jax.eval_shape(model.init, jax.random.PRNGKey(0), jnp.zeros((1, 304, 304, 3)))[
        "params"
    ]
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(("pooling", "unpooling"), PAIRS)
def test_every_pair_builds_with_the_parameters_counted_by_hand(pooling, unpooling):
    want = 373_126
    # What follows takes all channels in: conv1 of encoder 2, conv3 of both decoders, one of which
    # sees encoder 2's.
    growth = {"haar_bands": 4, "max_avg_concat": 2}.get(pooling, 1)
    consumers = 1 if (pooling, unpooling) == ("haar_bands", "haar") else 2
    want += consumers * (growth - 1) * 64 * 9 * 64
    want += {"mixed": 2, "gated": 2 * 4 * 64, "lp": 2 * 64, "conv": 2 * (4 * 64 * 64 + 64)}.get(
        pooling, 0
    )
    # before decoder 2 as many channels as the pooling gives, before decoder 1 64
    if unpooling == "transposed_conv":
        want += 4 * (growth * 64) ** 2 + growth * 64 + 4 * 64 * 64 + 64
    assert counted(network("avg", pooling, unpooling, "none", features=64)) == want


def test_the_cover_covers():
    for place, names in enumerate((smoothings(), POOLINGS, FITS, smoothings())):
        assert {names[place] for names in COVER} == set(names)


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [names for names in COVER if names[1] in TRAINED or names[1] not in COVERED],
    ids="-".join,
)
def test_one_step_of_training_then_evaluation(names):
    model = network(*names)
    rng = np.random.default_rng(0)
    x = jnp.asarray(50 * rng.normal(size=(2, 21, 26, 1)), jnp.float32)
    truth = jnp.asarray(rng.integers(0, 2, (2, 21, 26)))

    def loss(params, batch_stats, key):
        variables = {"params": params, "batch_stats": batch_stats}
        logits, updated = model.apply(
            variables, x, train=True, mutable=["batch_stats"], rngs={"pooling": key}
        )
        return -(jax.nn.log_softmax(logits) * jax.nn.one_hot(truth, 2)).sum(-1).mean(), updated

    @jax.jit
    def once(key):
        variables = model.init(key, x)
        (value, updated), gradients = jax.value_and_grad(loss, has_aux=True)(
            variables["params"], variables["batch_stats"], key
        )
        params = jax.tree.map(lambda p, g: p - 0.01 * g, variables["params"], gradients)
        return value, gradients, model.apply({"params": params, **updated}, x)

    value, gradients, logits = once(jax.random.PRNGKey(0))
    assert np.isfinite(value) and logits.shape == (2, 21, 26, 2) and np.isfinite(logits).all()
    for part, leaves in gradients.items():
        if part.endswith(("smoothing", "pooling")):
            assert all(np.abs(leaf).max() > 0 for leaf in leaves.values()), part
    learned = {"mixed", "gated", "lp", "conv", "transposed_conv"}.intersection(names)
    assert bool(learned) == any(part.endswith(("smoothing", "pooling")) for part in gradients)
