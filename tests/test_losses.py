"""Cross entropy and class weights against numpy and numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from covjax.errors import InputError
from covjax.losses import CLASS_WEIGHTS, class_weights, cross_entropy


def reference(logits, truth, valid, weights):
    logits = logits.astype(np.float64).reshape(len(truth), -1, logits.shape[-1])
    sums, totals = np.zeros(len(truth)), np.zeros(len(truth))
    for n, labels in enumerate(truth.reshape(len(truth), -1)):
        for pixel, label in zip(logits[n], labels, strict=True):
            if valid[n] and label < logits.shape[-1]:
                sums[n] += weights[label] * (np.log(np.exp(pixel - pixel.max()).sum()) + pixel.max() - pixel[label])
                totals[n] += weights[label]
    return sums, totals


def sample(shape, classes, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, shape)
    truth[rng.random(shape) < 0.2] = 255
    return rng.normal(0, 3, (*shape, classes)).astype(np.float32), truth, rng.random(shape[0]) < 0.7


@pytest.mark.parametrize("shape", [(6,), (5, 4, 7)])
@pytest.mark.parametrize("classes", [2, 4])
def test_against_numpy(shape, classes):
    logits, truth, valid = sample(shape, classes)
    weights = np.linspace(0.5, 2, classes).astype(np.float32)
    got = cross_entropy(jnp.asarray(logits), jnp.asarray(truth), jnp.asarray(valid), jnp.asarray(weights))
    for g, want in zip(got, reference(logits, truth, valid, weights), strict=True):
        assert g.shape == shape[:1] and g.dtype == jnp.float32
        np.testing.assert_allclose(g, want, rtol=1e-5)


def test_by_hand():
    logits = jnp.array([[0.0, np.log(3.0)]])  # probabilities 1/4 and 3/4
    for label, want in ((0, np.log(4)), (1, 2 * np.log(4 / 3))):
        total, weight = cross_entropy(logits, jnp.array([label]), jnp.array([True]), jnp.array([1.0, 2.0]))
        np.testing.assert_allclose(total / weight, want / (1 + label), rtol=1e-6)


def test_ignored_pixels_and_padding_weigh_nothing_and_get_no_gradient():
    logits, truth, valid = sample((5, 4, 7), 2)
    loss = lambda x: sum(v.sum() for v in cross_entropy(x, jnp.asarray(truth), jnp.asarray(valid), jnp.ones(2)))  # noqa: E731
    gradient = np.asarray(jax.grad(loss)(jnp.asarray(logits)))
    nothing = (truth == 255) | ~valid[:, None, None]
    assert nothing.any() and (gradient[nothing] == 0).all() and (gradient[~nothing] != 0).all()
    changed = np.where(nothing[..., None], 100.0, logits)
    assert loss(jnp.asarray(changed)) == loss(jnp.asarray(logits))


def test_gradient():
    logits, truth, valid = sample((2, 3, 3), 3)
    weights = jnp.array([1.0, 0.5, 2.0])
    check_grads(
        lambda x: cross_entropy(x, jnp.asarray(truth), jnp.asarray(valid), weights)[0], (jnp.asarray(logits),),
        order=1, modes=["rev"], rtol=1e-2, atol=1e-2,
    )  # fmt: skip


def test_extreme_logits_stay_finite_and_bfloat16_is_summed_in_float32():
    logits = jnp.array([[1e4, -1e4], [-1e4, 1e4]], jnp.bfloat16)
    sums, _ = cross_entropy(logits, jnp.array([1, 1]), jnp.array([True, True]), jnp.ones(2))
    assert sums.dtype == jnp.float32
    np.testing.assert_allclose(sums, [2e4, 0], rtol=1e-2)


def test_class_weights_by_hand():
    counts = np.array([900, 100])
    np.testing.assert_allclose(class_weights("none", counts), [1, 1])
    np.testing.assert_allclose(class_weights("median_frequency", counts), [0.5 / 0.9, 5])
    np.testing.assert_allclose(class_weights("inverse_frequency", counts), [0.2, 1.8], rtol=1e-6)
    np.testing.assert_allclose(class_weights("sqrt_inverse_frequency", counts), [0.5, 1.5], rtol=1e-6)
    np.testing.assert_allclose(class_weights((0.25, 4.0), counts), [0.25, 4])
    np.testing.assert_allclose(class_weights("0.25,4", counts), [0.25, 4])
    assert all(class_weights(rule, counts).dtype == np.float32 for rule in CLASS_WEIGHTS)
    # Three classes: the median is a class's own frequency, so that class weighs 1.
    np.testing.assert_allclose(class_weights("median_frequency", np.array([70, 20, 10])), [2 / 7, 1, 2], rtol=1e-6)


def test_median_frequency_gives_the_weights_of_the_release():
    frequency = np.array([0.378762, 0.621241])  # of its training masks, the figure margin counted as infected
    np.testing.assert_allclose(class_weights("median_frequency", frequency), [1.32009, 0.80484], atol=1e-4)


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
