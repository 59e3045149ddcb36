"""Losses and class weights against numpy by the papers' formulas, and numbers worked out by
hand.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from covjax.errors import InputError
from covjax.optim.losses import (
    class_weights,
    cross_entropy,
    sample_losses,
)
from covjax.optim.settings import CLASS_WEIGHTS, LOSSES, PER_PIXEL, WEIGHTED, LossSettings


def probabilities(logits):
    e = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def pixels(logits, truth):
    """The pixels of one slice that count: probabilities [P, K] and labels [P]."""
    p = probabilities(logits).reshape(-1, logits.shape[-1])
    truth = truth.reshape(-1)
    return p[truth < p.shape[1]], truth[truth < p.shape[1]]


def per_pixel(of_true):
    """-weight * of_true(p of the true class), summed over the pixels, and the weights."""

    def loss(p, truth, weights):
        w = weights[truth]
        p_true = p[np.arange(len(truth)), truth]
        return (w * of_true(p_true)).sum(), w.sum()

    return loss


def overlap(index, classes=slice(1, None)):
    """1 - mean over classes of index(p [P], true [P])."""

    def loss(p, truth, _):
        every = [index(p[:, k], truth == k) for k in range(p.shape[1])]
        return (1 - np.mean(every[classes]), 1.0) if len(truth) else (0.0, 0.0)

    return loss


def generalized(p, truth, _):
    if not len(truth):
        return 0.0, 0.0
    true = np.eye(p.shape[1])[truth]
    with np.errstate(divide="ignore"):
        w = 1 / true.sum(0) ** 2
    w[np.isinf(w)] = w[np.isfinite(w)].max()
    return 1 - 2 * (w * (p * true).sum(0)).sum() / (w * (p + true).sum(0)).sum(), 1.0


def both(p, truth, weights):
    total, weight = REFERENCES["cross_entropy"](p, truth, weights)
    region, one = REFERENCES["dice"](p, truth, weights)
    return (total / weight if weight else 0) + region, one


GAMMA = 1.5
ALPHA = 0.3
BETA = 0.8
SMOOTH = 0.7
REFERENCES = {
    "cross_entropy": per_pixel(lambda p: -np.log(p)),
    "focal": per_pixel(lambda p: -((1 - p) ** GAMMA) * np.log(p)),
    "dice": overlap(lambda p, g: (2 * p[g].sum() + SMOOTH) / (p.sum() + g.sum() + SMOOTH)),
    "tversky": overlap(
        lambda p, g: (
            (p[g].sum() + SMOOTH)
            / (p[g].sum() + ALPHA * p[~g].sum() + BETA * (1 - p[g]).sum() + SMOOTH)
        )
    ),
    "generalized_dice": generalized,
    "ce_dice": both,
}


def options(name, gamma=GAMMA):
    return LossSettings(
        name=name, focal_gamma=gamma, tversky_alpha=ALPHA, tversky_beta=BETA, smooth=SMOOTH
    )


def losses(name, logits, truth, valid, weights=None, **changed):
    weights = jnp.ones(logits.shape[-1]) if weights is None else jnp.asarray(weights)
    return sample_losses(
        options(name, **changed),
        jnp.asarray(logits),
        jnp.asarray(truth),
        jnp.asarray(valid),
        weights,
    )


def reference(name, logits, truth, valid, weights):
    found = [
        REFERENCES[name](*pixels(x, t), weights) if v else (0, 0)
        for x, t, v in zip(logits, truth, valid, strict=True)
    ]
    return np.array(found).T


def sample(shape, classes, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, shape)
    truth[rng.random(shape) < 0.2] = 255
    return rng.normal(0, 3, (*shape, classes)).astype(np.float32), truth, rng.random(shape[0]) < 0.7


def maps(classes, seed=0):
    """Slices of all kinds: mixed, without infection, infected throughout, ignored throughout,
    padding.
    """
    logits, truth, _ = sample((6, 4, 7), classes, seed)
    truth[1][truth[1] < 255] = 0
    truth[2] = classes - 1
    truth[3] = 255
    return logits, truth, np.array([True, True, True, True, True, False])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_against_numpy(name, classes):
    logits, truth, valid = maps(classes)
    weights = (
        np.linspace(0.5, 2, classes).astype(np.float32) if name in WEIGHTED else np.ones(classes)
    )
    got = losses(name, logits, truth, valid, weights)
    for g, want in zip(got, reference(name, logits, truth, valid, weights), strict=True):
        assert g.shape == (6,) and g.dtype == jnp.float32
        np.testing.assert_allclose(g, want, rtol=1e-5, atol=1e-6)
    assert [float(got[i][k]) for k in (3, 5) for i in (0, 1)] == [0] * 4


@pytest.mark.parametrize("name", PER_PIXEL)
def test_of_slices_without_pixels(name):
    logits, truth, valid = sample((9,), 3)
    weights = np.array([0.5, 1, 3], np.float32)
    got = losses(name, logits, truth, valid, weights)
    np.testing.assert_allclose(
        np.stack(got), reference(name, logits, truth, valid, weights), rtol=1e-5, atol=1e-6
    )


def test_by_hand():
    logits = jnp.array([[0.0, np.log(3.0)]])  # probabilities 1/4 and 3/4
    for label, want in ((0, np.log(4)), (1, 2 * np.log(4 / 3))):
        total, weight = cross_entropy(
            logits, jnp.array([label]), jnp.array([True]), jnp.array([1.0, 2.0])
        )
        np.testing.assert_allclose(total / weight, want / (1 + label), rtol=1e-6)
    # Two pixels, each infected with probability 3/4, the first of them truly.
    logits = jnp.array([[[[0.0, np.log(3.0)]] * 2]])
    truth = np.array([[[1, 0]]])
    want = {
        "focal": 0.25**GAMMA * np.log(4 / 3) + 0.75**GAMMA * np.log(4),
        "dice": 1 - (1.5 + SMOOTH) / (2.5 + SMOOTH),
        "tversky": 1 - (0.75 + SMOOTH) / (0.75 + ALPHA * 0.75 + BETA * 0.25 + SMOOTH),
        "generalized_dice": 1 - 2 * (0.75 + 0.25) / (1.5 + 0.5 + 2),
    }
    for name, value in want.items():
        np.testing.assert_allclose(losses(name, logits, truth, [True])[0], [value], rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in PER_PIXEL])
def test_perfect_and_empty_slices(name):
    truth = np.zeros((3, 5, 6), int)
    truth[0, 1:3, 2:5] = 1
    perfect = 40.0 * np.stack([truth == 0, truth == 1], -1)
    np.testing.assert_allclose(losses(name, perfect, truth, [True] * 3)[0], 0, atol=1e-6)
    # Without infection, less predicted is better: the slices teach to leave healthy ones alone.
    logits = np.zeros((3, 5, 6, 2), np.float32)
    gradient = jax.grad(lambda x: losses(name, x, truth, [True] * 3)[0].sum())(jnp.asarray(logits))
    assert (np.asarray(gradient)[1:, ..., 1] > 1e-6).all()


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_and_padding_weigh_nothing_and_get_no_gradient(name):
    logits, truth, valid = maps(2)
    loss = lambda x: losses(name, x, truth, valid)[0].sum()  # noqa: E731
    gradient = np.asarray(jax.grad(loss)(jnp.asarray(logits)))
    nothing = (truth == 255) | ~valid[:, None, None]
    assert np.isfinite(gradient).all() and (gradient[nothing] == 0).all()
    assert (gradient[~nothing] != 0).all()
    changed = np.where(nothing[..., None], 100.0, logits)
    assert loss(jnp.asarray(changed)) == loss(jnp.asarray(logits))


@pytest.mark.parametrize("name", LOSSES)
def test_gradient(name):
    logits, truth, valid = (x[:4] for x in maps(3))
    weights = np.array([1.0, 0.5, 2.0]) if name in WEIGHTED else np.ones(3)
    check_grads(
        lambda x: losses(name, x, truth, valid, weights)[0], (jnp.asarray(logits),),
        order=1, modes=["rev"], rtol=1e-2, atol=1e-2,
    )  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_a_slice_has_the_same_loss_in_any_batch(name):
    logits, truth, valid = maps(2, seed=1)
    together = np.stack(losses(name, logits, truth, valid))
    alone = [
        np.stack(losses(name, logits[[k]], truth[[k]], valid[[k]]))[:, 0] for k in range(len(valid))
    ]
    np.testing.assert_allclose(together, np.transpose(alone), rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_stay_finite_and_bfloat16_is_summed_in_float32(name):
    logits = jnp.zeros((2, 1, 3, 2), jnp.bfloat16).at[0, ..., 0].set(1e4).at[1, ..., 1].set(1e4)
    truth = np.ones((2, 1, 3), int)
    for gamma in (0.0, 0.5, 2.0):
        loss = partial(losses, name, truth=truth, valid=[True, True], gamma=gamma)
        sums = loss(logits)[0]
        assert sums.dtype == jnp.float32
        # Of generalised Dice the absent background weighs as much as the class missed.
        assert 0.7 < sums[0] < 4e4 and abs(sums[1]) < 1e-6
        gradient = jax.grad(lambda x, loss=loss: loss(x)[0].sum())(logits.astype(jnp.float32))
        assert jnp.isfinite(gradient).all()


def test_focal_without_focus_is_cross_entropy():
    logits, truth, valid = maps(3)
    focal = losses("focal", logits, truth, valid, gamma=0.0)
    plain = losses("cross_entropy", logits, truth, valid)
    np.testing.assert_allclose(np.stack(focal), np.stack(plain), rtol=1e-6)


def test_class_weights_by_hand():
    counts = np.array([900, 100])
    np.testing.assert_allclose(class_weights("none", counts), [1, 1])
    np.testing.assert_allclose(class_weights("median_frequency", counts), [0.5 / 0.9, 5])
    np.testing.assert_allclose(class_weights("inverse_frequency", counts), [0.2, 1.8], rtol=1e-6)
    np.testing.assert_allclose(
        class_weights("sqrt_inverse_frequency", counts), [0.5, 1.5], rtol=1e-6
    )
    np.testing.assert_allclose(class_weights((0.25, 4.0), counts), [0.25, 4])
    np.testing.assert_allclose(class_weights("0.25,4", counts), [0.25, 4])
    assert all(class_weights(rule, counts).dtype == np.float32 for rule in CLASS_WEIGHTS)
    # Three classes: the median is a class's own frequency, so that class weighs 1.
    np.testing.assert_allclose(
        class_weights("median_frequency", np.array([70, 20, 10])), [2 / 7, 1, 2], rtol=1e-6
    )


def test_median_frequency_is_that_of_the_images_in_which_a_class_occurs():
    # As MATLAB's countEachLabel: PixelCount ./ ImagePixelCount. Ten images of 100 pixels, 20 of
    # which are rare, in two.
    counts = np.array([980, 20])
    pixels = np.array([1000, 200])
    np.testing.assert_allclose(
        class_weights("median_frequency", counts, None, pixels), [0.54 / 0.98, 5.4], rtol=1e-6
    )
    for rule in ("inverse_frequency", "sqrt_inverse_frequency"):  # of all pixels, as they were
        np.testing.assert_array_equal(
            class_weights(rule, counts, None, pixels), class_weights(rule, counts)
        )


def test_a_class_that_never_occurs_is_named():
    with pytest.raises(InputError, match="class effusion never occurs"):
        class_weights("median_frequency", (5, 3, 0), ("background", "consolidation", "effusion"))


def test_median_frequency_gives_the_weights_of_the_release():
    # of its training masks, the figure margin counted as infected
    frequency = np.array([0.378762, 0.621241])
    np.testing.assert_allclose(
        class_weights("median_frequency", frequency), [1.32009, 0.80484], atol=1e-4
    )


@pytest.mark.parametrize(
    ("rule", "counts", "message"),
    [
        ("median_frequencies", (1, 2), "did you mean 'median_frequency'"),
        ("median_frequency", (5, 0), "class 1 never occurs"),
        ("inverse_frequency", (0, 5), "class 0 never occurs"),
        ((1.0, 2.0, 3.0), (1, 2), "must be 2 weights"),
        ((-1.0, 2.0), (1, 2), "must be 2 weights"),
        ((0.0, 0.0), (1, 2), "not all zero"),
        ((np.nan, 1.0), (1, 2), "must be 2 weights"),
    ],
)
def test_class_weight_errors(rule, counts, message):
    with pytest.raises(InputError, match=message):
        class_weights(rule, np.array(counts))


@pytest.mark.parametrize("name", PER_PIXEL)
def test_a_mixed_sample_counts_as_parts_of_a_sample_of_each_class(name):
    rng = np.random.default_rng(5)
    logits = jnp.asarray(rng.normal(size=(6, 2)))
    valid = jnp.arange(6) < 5
    weights = jnp.array([0.5, 2.0])
    shares = jnp.asarray(rng.dirichlet(np.ones(2), 6))
    of = partial(sample_losses, options(name), logits, valid=valid, class_weights=weights)
    healthy = of(jnp.zeros(6, int))
    infected = of(jnp.ones(6, int))
    mixed = of(shares)
    for a, b, got in zip(healthy, infected, mixed, strict=True):
        np.testing.assert_allclose(got, shares[:, 0] * a + shares[:, 1] * b, rtol=1e-6)


WRONG = [
    {"truth": (2, 4, 1)},
    {"truth": (1, 4, 4)},
    {"truth": (2,)},
    {"truth": (2, 4, 4, 1)},
    {"valid": (1,)},
]


@pytest.mark.parametrize(
    ("name", "shapes"),
    [(name, shapes) for name in LOSSES for shapes in WRONG]
    + [(name, {"weights": (1,)}) for name in WEIGHTED],
)
def test_a_shape_that_would_broadcast_is_refused(name, shapes):
    truth = jnp.zeros(shapes.get("truth", (2, 4, 4)), jnp.int32)
    valid = jnp.ones(shapes.get("valid", (2,)), bool)
    weights = jnp.ones(shapes.get("weights", (3,)))
    with pytest.raises(AssertionError):
        sample_losses(LossSettings(name=name), jnp.zeros((2, 4, 4, 3)), truth, valid, weights)
