"""Masks as they are delivered: brought back to each slice's own size, against plain numpy, scipy
and Pillow.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from covjax.data.sources.source import truth_digest
from covjax.data.views import (
    Native,
    View,
    ViewSettings,
    box_shape,
    make_view,
    whole_box,
    whole_view,
)
from covjax.evaluation.delivered import confusion_of, deliver, delivered_rows, lesion_rows
from covjax.evaluation.postprocess import remove_small
from covjax.metrics import confusion_matrix, per_image_dice, surface_scores

SIZES = (96, 192, 304)


def disk(shape, radius, centre=None):
    y, x = np.indices(shape)
    cy, cx = centre if centre is not None else (np.array(shape) - 1) / 2
    return ((y - cy) ** 2 + (x - cx) ** 2 <= radius**2).astype(np.uint8)


def stretched(shape, size, box=None):
    return make_view(
        "a", shape, box or whole_box(shape), None, ViewSettings((size, size), (size, size))
    )


def dice(truth, mask):
    return per_image_dice(confusion_of(truth, mask, 2)[None])[0]


def coordinates(view, predicted):
    """Where the centres of the box's pixels lie among those of the prediction, by the network's
    picture, per axis.
    """
    found = []
    for part, shape, size, count in zip(view.box, view.shape, view.size, predicted, strict=True):
        within = (np.arange(part.stop - part.start) + 0.5) / (part.stop - part.start) * shape
        found.append((within + (size - shape) // 2) / size * count - 0.5)
    return found


def enlarged(view, values):
    """Bilinear values at those places; at the border that of the last pixel, the black around left
    out.
    """
    places = []
    for at, offset, shape, size, count in zip(
        coordinates(view, values.shape),
        view.offset,
        view.shape,
        view.size,
        values.shape,
        strict=True,
    ):
        inside = [j for j in range(count) if offset <= (j + 0.5) * size / count <= offset + shape]
        places.append(np.clip(at, inside[0], inside[-1]))
    out = np.zeros(view.stored)
    out[view.box] = ndimage.map_coordinates(
        values.astype(np.float64), np.meshgrid(*places, indexing="ij"), order=1
    )
    return out


sides = st.integers(16, 70)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(sides, sides),
    st.tuples(sides, sides),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_equals_an_interpolation_by_scipy(stored, network, boxed, spaced, seed):
    rng = np.random.default_rng(seed)
    box = whole_box(stored)
    if boxed:
        box = tuple(
            slice(int(a), int(a) + int(rng.integers(8, side - a + 1)))
            for side, a in ((side, rng.integers(0, side - 8)) for side in stored)
        )
    shape = network if not spaced else tuple(int(rng.integers(8, side + 1)) for side in network)
    predicted = tuple(min(one, two) for one, two in zip(box_shape(box), network, strict=True))
    view = View(stored, box, shape, network)
    values = rng.random(predicted).astype(np.float32)
    if any(part.stop - part.start < length * count / size for part, length, count, size in
           zip(view.box, view.shape, predicted, view.size, strict=True)):  # fmt: skip
        return  # made smaller, which the next test is about
    np.testing.assert_allclose(
        view.back(values), enlarged(view, values), atol=2e-5
    )  # Pillow keeps places in single precision


@pytest.mark.parametrize("stored", [(40, 64), (33, 57)])
def test_smaller_slices_get_the_mean_of_what_they_cover(stored):
    values = np.random.default_rng(0).random((96, 96)).astype(np.float32)
    want = Image.fromarray(values).resize(stored[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_allclose(
        whole_view(stored)._replace(shape=(96, 96), size=(96, 96)).back(values), want, atol=1e-6
    )


@settings(max_examples=25, deadline=None)
@given(st.tuples(st.integers(16, 90), st.integers(16, 90)), st.integers(0, 99))
def test_at_its_own_size_a_perfect_prediction_is_the_truth(shape, seed):
    rng = np.random.default_rng(seed)
    truth = (rng.random(shape) < 0.3).astype(np.uint8)
    view = whole_view(shape)
    np.testing.assert_array_equal(view.truth(truth, shape), truth)
    mask, probability = deliver(view, truth.astype(np.float32))
    np.testing.assert_array_equal(mask, truth)
    np.testing.assert_array_equal(probability, truth)
    if truth.any():
        assert dice(truth, mask) == 1


@pytest.mark.parametrize("shape", [(512, 512), (304, 304), (333, 411), (255, 190)])
@pytest.mark.parametrize("size", SIZES)
def test_a_perfect_network_scores_what_an_interpolation_of_its_probabilities_does(shape, size):
    rng = np.random.default_rng(size)
    for radius in (1.5, 2.5, 4, 7.3, 12, 20.5, 40):
        truth = disk(shape, radius, rng.uniform(50, np.array(shape) - 50))
        view = stretched(shape, size)
        oracle = view.truth(truth, (size, size))
        mask, _ = deliver(view, oracle.astype(np.float32))
        if size < min(shape):
            want = enlarged(view, oracle) > 0.5
            assert (mask != want).mean() < 1e-4  # of ties, where rounding decides
            assert dice(truth, mask) == pytest.approx(
                dice(truth, want.astype(np.uint8)), abs=0.02, nan_ok=True
            )
        elif size > max(shape):
            assert dice(truth, mask) > 0.95


def test_probabilities_are_enlarged_before_they_are_called():
    """A perfect network's probabilities, averages of what a pixel covers, come back far better than
    its calls.
    """
    before = []
    after = []
    for k in range(20):
        truth = disk((512, 512), 12, np.random.default_rng(k).uniform(100, 400, 2))
        probability = np.asarray(
            Image.fromarray(truth.astype(np.float32)).resize((96, 96), Image.Resampling.BOX)
        )
        calls = (probability > 0.5).astype(np.uint8)
        before.append(
            dice(
                truth,
                np.asarray(Image.fromarray(calls).resize((512, 512), Image.Resampling.NEAREST)),
            )
        )
        after.append(dice(truth, deliver(stretched((512, 512), 96), probability)[0]))
    assert np.mean(after) > np.mean(before) + 0.02 and np.mean(after) > 0.95


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), st.integers(16, 60), st.integers(16, 60), st.integers(0, 99))
def test_the_likeliest_class_of_enlarged_probabilities_is_called(classes, rows, columns, seed):
    logits = np.random.default_rng(seed).normal(size=(13, 17, classes))
    probability = (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32)
    box = (slice(2, rows - 3), slice(4, columns))
    view = View((rows, columns), box, (13, 17), (13, 17))
    mask, infection = deliver(view, probability)
    want = np.stack([view.back(probability[..., k]) for k in range(classes)])
    np.testing.assert_array_equal(mask, want.argmax(0))
    np.testing.assert_allclose(infection, want[1:].sum(0), atol=1e-6)
    outside = np.ones((rows, columns), bool)
    outside[box] = False
    assert not mask[outside].any() and not infection[outside].any()
    if classes == 2:
        two, same = deliver(view, probability[..., 1])
        assert (two != mask).mean() < 1e-3  # of ties
        np.testing.assert_allclose(same, infection, atol=1e-6)


def test_ties_are_background():
    view = stretched((40, 40), 16)
    assert not deliver(view, np.full((16, 16), 0.5, np.float32))[0].any()
    assert not deliver(view, np.full((16, 16, 4), 0.25, np.float32))[0].any()


@pytest.mark.parametrize("min_size", [0, 1, 6, 30])
def test_min_size_is_in_pixels_of_the_slice(min_size):
    probability = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    view = stretched((64, 48), 16)
    plain = deliver(view, probability)[0]
    cleaned = deliver(view, probability, min_size)[0]
    np.testing.assert_array_equal(cleaned, remove_small(plain[None], min_size)[0])
    assert (cleaned.sum() < plain.sum()) == (min_size > 6)


def test_lesion_that_the_network_does_not_see_is_missed():
    truth = np.zeros((60, 60), np.uint8)
    truth[5:15, 5:15] = truth[30:40, 30:40] = 1
    view = stretched(truth.shape, 48, (slice(20, 60), slice(20, 60)))
    sure = np.ones((48, 48), np.float32)
    rows = delivered_rows([Native(view, truth)], sure[None], {"lesions", "predicted"}, 0)
    np.testing.assert_array_equal(rows["predicted"][0][20:, 20:], 1)
    np.testing.assert_array_equal(rows["confusion"][0], [[60 * 60 - 200 - 1500, 1500], [100, 100]])
    assert (rows["lesions"][0], rows["lesions_lost"][0], rows["unseen"][0]) == (2, 1, 100)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(20, 90), st.integers(20, 90), st.integers(16, 64), st.booleans(), st.integers(0, 99)
)
def test_vanished_lesions_are_counted_as_by_hand(rows, columns, size, boxed, seed):
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 255], (rows, columns), p=[0.9, 0.05, 0.03, 0.02]).astype(np.uint8)
    view = stretched(truth.shape, size, (slice(3, rows - 4), slice(2, columns)) if boxed else None)
    found = lesion_rows(view, truth, (size, size))
    components, count = ndimage.label((truth == 1) | (truth == 2), np.ones((3, 3)))
    kept = [
        view.truth((components == k).astype(np.uint8), (size, size)).any()
        for k in range(1, count + 1)
    ]
    assert found["lesions"] == count and found["lesions_lost"] == count - sum(kept)
    assert found["unseen"] == (components > 0).sum() - (components[view.box] > 0).sum()


def test_most_lesions_of_a_radius_of_one_and_a_half_vanish_at_96():
    rng = np.random.default_rng(0)
    lost = 0
    for _ in range(200):
        truth = disk((512, 512), 1.5, rng.uniform(20, 490, 2))
        lost += lesion_rows(stretched((512, 512), 96), truth, (96, 96))["lesions_lost"]
    assert 0.6 < lost / 200 < 0.9


@pytest.mark.parametrize("unit, tolerance", [("pixels", 0.03), ("mm", 0.03)])
def test_outlines_of_the_same_error_score_the_same_at_any_input_size(unit, tolerance):
    """Before, the same error at 96, 192 and 304 had an NSD of .85, .51 and .33."""
    shape = (304, 304)
    truth = disk((304, 304), 60)
    y, x = np.indices(shape) - 151.5
    native = Native(stretched(shape, 304), truth, (0.5, 0.5))
    found = []
    for size in SIZES:
        view = stretched(shape, size)
        rows, columns = (np.interp((np.arange(size) + 0.5) * 304 / size - 0.5, np.arange(304), axis)
                         for axis in (y[:, 0], x[0]))  # fmt: skip
        # A network that finds a disk 3 pixels too low, and is the less sure the nearer to its
        # outline.
        distance = 60 - np.hypot(rows[:, None] - 3, columns[None])
        probability = (1 / (1 + np.exp(-distance / 3))).astype(np.float32)
        scores = delivered_rows(
            [native._replace(view=view)], probability[None], {"surface"}, 0, unit
        )
        found.append([scores[name][0, 1] for name in ("nsd", "bf_score", "hd95", "assd")])
    np.testing.assert_allclose(found, [found[-1]] * 3, atol=tolerance * 10, rtol=tolerance)
    assert np.ptp([one[0] for one in found]) < tolerance


def test_distances_are_in_mm_where_the_spacing_is_known():
    truth = disk((60, 80), 12)
    called = disk((60, 80), 12, (33, 41))
    native = Native(whole_view(truth.shape), truth, (0.8, 1.4))
    for unit, spacing in (("mm", (0.8, 1.4)), ("pixels", None)):
        rows = delivered_rows([native], called.astype(np.float32)[None], {"surface"}, 0, unit)
        want = surface_scores(truth[None], called[None], spacing=spacing)
        for name, values in want.items():
            np.testing.assert_array_equal(rows[name], values)
    square = surface_scores(truth[None], called[None], spacing=(0.7, 0.7), tolerance=1.4)
    pixels = surface_scores(truth[None], called[None], tolerance=2)
    for name in ("hd95", "assd"):
        np.testing.assert_allclose(square[name], 0.7 * pixels[name], rtol=1e-12)
    for name in ("nsd", "bf_score"):
        np.testing.assert_array_equal(square[name], pixels[name])


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), st.integers(1, 30), st.integers(1, 30), st.integers(0, 99))
def test_counts_are_those_of_the_metrics(classes, rows, columns, seed):
    rng = np.random.default_rng(seed)
    truth = rng.choice([*range(classes), 255], (rows, columns)).astype(np.uint8)
    called = rng.integers(0, classes, (rows, columns)).astype(np.uint8)
    want = np.asarray(confusion_matrix(truth[None], called[None], classes))[0]
    np.testing.assert_array_equal(confusion_of(truth, called, classes), want)


def test_digests_tell_other_truth_apart_and_classes_not():
    mask = np.random.default_rng(0).choice([0, 1, 2, 255], (20, 30)).astype(np.uint8)
    joined = np.where(mask == 2, 1, mask).astype(np.uint8)
    assert truth_digest(mask) == truth_digest(joined)
    others = [
        np.where(mask == 255, 0, mask),
        mask.T,
        mask.reshape(30, 20),
        1 - (mask > 0),
        np.roll(mask, 1),
    ]
    assert len({truth_digest(mask), *map(truth_digest, others)}) == 6
