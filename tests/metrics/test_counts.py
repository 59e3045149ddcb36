import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from covjax.errors import InputError
from covjax.metrics import confusion_matrix


def by_hand(truth, predicted, k, ignore=255):
    """Oracle: scikit-learn image by image, ignored pixels removed first."""
    matrices = np.zeros((len(truth), k, k), int)
    for i, (t, p) in enumerate(zip(truth, predicted, strict=True)):
        if (t != ignore).any():
            matrices[i] = sk.confusion_matrix(t[t != ignore], p[t != ignore], labels=range(k))
    return matrices


@pytest.mark.parametrize("k", [2, 3, 7])
@pytest.mark.parametrize("shape", [(3, 9, 11), (2, 3, 4, 5), (4, 1)])
def test_equals_scikit_learn_per_image(k, shape):
    rng = np.random.default_rng(k)
    truth = rng.integers(0, k, shape)
    predicted = rng.integers(0, k, shape)
    truth[rng.random(shape) < 0.2] = 255
    counts = confusion_matrix(truth, predicted, k)
    assert counts.dtype == jnp.int32 and counts.shape == (shape[0], k, k)
    np.testing.assert_array_equal(counts, by_hand(truth, predicted, k))


def test_rows_are_truth_and_columns_prediction():
    counts = confusion_matrix(np.array([[0, 1, 1, 1]]), np.array([[1, 0, 0, 1]]), 2)
    np.testing.assert_array_equal(counts, [[[0, 1], [2, 1]]])


def test_labels_give_one_count_each():
    counts = confusion_matrix(np.array([0, 1, 1, 255]), np.array([0, 0, 1, 1]), 2)
    np.testing.assert_array_equal(
        counts, [[[1, 0], [0, 0]], [[0, 0], [1, 0]], [[0, 0], [0, 1]], [[0, 0], [0, 0]]]
    )


def test_ignored_pixels_do_not_count_whatever_is_predicted_there():
    truth = np.array([[[0, 255], [1, 255]]], np.uint8)
    for there in (0, 1, 255):
        predicted = np.array([[[0, there], [1, there]]], np.uint8)
        np.testing.assert_array_equal(confusion_matrix(truth, predicted, 2), [[[1, 0], [0, 1]]])
    np.testing.assert_array_equal(
        confusion_matrix(truth, predicted, 2, ignore=0), [[[0, 0], [0, 1]]]
    )


def test_labels_outside_the_classes_are_in_no_cell():
    assert int(confusion_matrix(np.array([[5, -1, 0, 0]]), np.array([[0, 0, 5, -1]]), 2).sum()) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64, bool])
def test_any_integer_type(dtype):
    labels = np.array([[0, 1, 1]]).astype(dtype)
    np.testing.assert_array_equal(confusion_matrix(labels, labels, 2), [[[1, 0], [0, 2]]])


def test_full_size_counts_are_exact():
    truth = np.ones((2, 304, 304), np.uint8)
    truth[1, 0, 0] = 0
    np.testing.assert_array_equal(
        confusion_matrix(truth, np.ones_like(truth), 2),
        [[[0, 0], [0, 92416]], [[0, 1], [0, 92415]]],
    )


def test_counts_are_exact_where_float32_is_not():
    side = 4100  # side**2 > 2**24, and odd counts there are no float32 numbers
    truth = np.ones((1, side, side), np.uint8)
    truth[0, 0, :1] = 255
    assert int(confusion_matrix(truth, np.ones_like(truth), 2)[0, 1, 1]) == side**2 - 1


@pytest.mark.parametrize("shape", [(0,), (0, 8, 8), (2, 0, 8)])
def test_empty_input_counts_nothing(shape):
    counts = confusion_matrix(np.zeros(shape, int), np.zeros(shape, int), 3)
    assert counts.shape == (shape[0], 3, 3) and not np.asarray(counts).any()


def test_under_jit_and_vmap_as_outside():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (2, 4, 6, 5))
    predicted = rng.integers(0, 3, (2, 4, 6, 5))
    plain = np.stack([confusion_matrix(t, p, 3) for t, p in zip(truth, predicted, strict=True)])
    mapped = jax.jit(jax.vmap(lambda t, p: confusion_matrix(t, p, 3)))(truth, predicted)
    np.testing.assert_array_equal(mapped, plain)


def test_has_no_gather_and_no_scatter():
    shape = jax.ShapeDtypeStruct((8, 304, 304), jnp.int32)
    text = str(jax.make_jaxpr(lambda t, p: confusion_matrix(t, p, 2))(shape, shape))
    assert "dot_general" in text and "scatter" not in text and "gather" not in text


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 6))
def test_symmetry_order_and_batching(seed, cut):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, (6, 5, 5))
    predicted = rng.integers(0, 3, (6, 5, 5))
    counts = np.asarray(confusion_matrix(truth, predicted, 3))
    assert (counts.sum((1, 2)) == 25).all()
    np.testing.assert_array_equal(confusion_matrix(predicted, truth, 3), counts.transpose(0, 2, 1))
    order = rng.permutation(6)
    np.testing.assert_array_equal(
        confusion_matrix(truth[order], predicted[order], 3), counts[order]
    )
    parts = [confusion_matrix(truth[s], predicted[s], 3) for s in (slice(cut), slice(cut, None))]
    np.testing.assert_array_equal(np.concatenate(parts), counts)
    pixels = rng.permutation(25)
    shuffled = [a.reshape(6, 25)[:, pixels] for a in (truth, predicted)]
    np.testing.assert_array_equal(confusion_matrix(*shuffled, 3), counts)


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((2, 4), int), "same shape"),
        (np.int32(1), np.int32(1), "same shape"),
        (np.zeros(2, int), np.zeros(2, np.float32), "predicted is float32"),
        (np.zeros(2, np.float32), np.zeros(2, int), "truth is float32"),
    ],
)
def test_bad_input_is_named(truth, predicted, message):
    with pytest.raises(InputError, match=message):
        confusion_matrix(truth, predicted, 2)
