import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from covjax.errors import InputError
from covjax.metrics import bf_score, surface_scores
from tests.metrics import surface_oracle

pytestmark = pytest.mark.filterwarnings("error")

NAMES = ("bf_score", "hd95", "assd", "nsd")


def square(shape, top, left, side):
    mask = np.zeros((1, *shape), np.uint8)
    mask[0, top : top + side, left : left + side] = 1
    return mask


def blobs(seed, n, shape, sigma):
    rng = np.random.default_rng(seed)
    fields = np.stack(
        [ndimage.gaussian_filter(rng.standard_normal(shape), sigma) for _ in range(2 * n)]
    )
    masks = (fields > np.quantile(fields, rng.choice([0.3, 0.6, 0.9]))).astype(np.uint8)
    return masks[:n], masks[n:]


def assert_same(got, expected):
    assert set(got) == set(NAMES)
    for name in NAMES:
        np.testing.assert_allclose(got[name], expected[name], atol=1e-9, err_msg=name)


@pytest.mark.parametrize("sigma", [0, 1, 3, 8])
@pytest.mark.parametrize("shape", [(64, 64), (37, 53), (1, 40), (304, 304)])
def test_equals_a_distance_transform_per_image(shape, sigma):
    truth, predicted = blobs(len(shape) + sigma, 3, shape, sigma)
    assert_same(surface_scores(truth, predicted), surface_oracle.surface_scores(truth, predicted))


def test_margin_labelled_infected_and_several_classes():
    truth, predicted = (masks.astype(np.int32) for masks in blobs(0, 3, (90, 80), 4))
    for masks in (truth, predicted):
        masks[:, :12] = masks[:, -9:] = 1
        masks[:, 40:60, 30:40] *= 2
    truth[0, 50:, 20:] = 255
    expected = surface_oracle.surface_scores(truth, predicted, num_classes=4)
    assert_same(surface_scores(truth, predicted, num_classes=4), expected)
    assert np.isnan(expected["hd95"][:, 3]).all()


def test_shifted_square_by_hand():
    # Boundaries of 5x5 squares 3 columns apart, 16 pixels each. From one to the other: the far
    # column (5 pixels) is 3 away; of the others, two by two 2, 1, 0, 0 away; the near column ends
    # on the other's rows (0) or lies inside it, by rows 1, 2, 1 away from them and 1 from its far
    # side: 1 away.
    truth = square((20, 20), 4, 4, 5)
    predicted = square((20, 20), 4, 7, 5)
    distances = np.array([3] * 5 + [2] * 2 + [1] * 2 + [0] * 2 + [0, 1, 1, 1, 0])
    got = surface_scores(truth, predicted, tolerance=1)
    assert got["assd"][0, 1] == pytest.approx(distances.mean())
    assert got["hd95"][0, 1] == 3
    assert got["nsd"][0, 1] == pytest.approx(9 / 16)
    assert bf_score(truth, predicted, theta=3)[0, 1] == pytest.approx(11 / 16)  # strictly below
    assert bf_score(truth, predicted, theta=3.0001)[0, 1] == 1


def test_bf_tolerance_is_strict_and_not_rounded():
    truth = square((304, 304), 100, 100, 1)
    shifts = {3: 1.0, 4: 0.0}  # 0.0075 * 429.9 = 3.224
    for shift, expected in shifts.items():
        assert bf_score(truth, square((304, 304), 100, 100 + shift, 1))[0, 1] == expected
    tall = square((300, 400), 100, 100, 1)  # a diagonal of 500: theta 3.75
    assert bf_score(tall, square((300, 400), 102, 103, 1))[0, 1] == 1  # sqrt(13) = 3.61


def test_mask_touching_the_border_has_a_boundary_there():
    full = np.ones((1, 6, 8), np.uint8)
    inner = np.zeros_like(full)
    inner[:, 1:-1, 1:-1] = 1
    got = surface_scores(full, inner)
    assert got["hd95"][0, 1] == pytest.approx(math.sqrt(2) if 4 / 24 > 0.05 else 1)
    assert got["assd"][0, 1] == pytest.approx((20 + 4 * math.sqrt(2) + 16) / 40)
    assert got["hd95"][0, 0] == math.hypot(6, 8)  # background is predicted only


def test_one_pixel_masks():
    got = surface_scores(square((9, 9), 1, 1, 1), square((9, 9), 5, 4, 1), tolerance=5)
    assert (got["hd95"][0, 1], got["assd"][0, 1], got["nsd"][0, 1], got["bf_score"][0, 1]) == (
        5,
        5,
        1,
        0,
    )


def test_rule_for_empty_masks():
    empty = np.zeros((1, 6, 8), np.uint8)
    some = square((6, 8), 2, 2, 2)
    neither, missed, invented = (
        surface_scores(*pair) for pair in ((empty, empty), (some, empty), (empty, some))
    )
    assert all(np.isnan(neither[name][0, 1]) for name in NAMES)
    assert all(neither[name][0, 0] == best for name, best in zip(NAMES, (1, 0, 0, 1), strict=True))
    assert [missed[name][0, 1] for name in NAMES] == [0, 10, 10, 0]
    assert np.isnan(invented["bf_score"][0, 1])
    assert [invented[name][0, 1] for name in NAMES[1:]] == [10, 10, 0]


def test_ignored_pixels_belong_to_no_class():
    truth = square((20, 20), 4, 4, 6)
    predicted = square((20, 20), 4, 4, 6)
    truth[0, :, 8:] = 255
    predicted[0, 12:, 12:] = 1
    got = surface_scores(truth, predicted)
    for name, best in zip(NAMES, (1, 0, 0, 1), strict=True):
        np.testing.assert_array_equal(got[name], best)
    everything = np.full((2, 5, 5), 255, np.uint8)
    assert np.isnan(surface_scores(everything, np.ones_like(everything))["assd"]).all()


def test_no_images():
    got = surface_scores(np.zeros((0, 5, 5), int), np.zeros((0, 5, 5), int))
    assert all(got[name].shape == (0, 2) for name in NAMES)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.floats(0.05, 0.95))
def test_properties(seed, height, width, share):
    rng = np.random.default_rng(seed)
    truth, predicted = (rng.random((2, 4, height, width)) < share).astype(np.int64)
    got = surface_scores(truth, predicted)
    assert_same(got, surface_oracle.surface_scores(truth, predicted))
    np.testing.assert_array_equal(got["bf_score"], bf_score(truth, predicted))
    swapped = surface_scores(predicted, truth)
    itself = surface_scores(truth, truth)
    for name in ("hd95", "assd", "nsd"):
        np.testing.assert_allclose(swapped[name], got[name], atol=1e-12)
    both = ~np.isnan(got["bf_score"]) & ~np.isnan(swapped["bf_score"])
    np.testing.assert_allclose(swapped["bf_score"][both], got["bf_score"][both], atol=1e-12)
    for name, best, worst in (
        ("bf_score", 1, 0),
        ("nsd", 1, 0),
        ("hd95", 0, None),
        ("assd", 0, None),
    ):
        defined = got[name][~np.isnan(got[name])]
        worst = math.hypot(height, width) if worst is None else worst
        assert np.all((defined >= min(best, worst)) & (defined <= max(best, worst)))
        assert np.all(itself[name][~np.isnan(itself[name])] == best)
    order = rng.permutation(4)  # images do not depend on their neighbours in the batch
    one = [surface_scores(truth[i : i + 1], predicted[i : i + 1]) for i in order]
    for name in NAMES:
        np.testing.assert_array_equal(
            np.concatenate([scores[name] for scores in one]), got[name][order]
        )


@pytest.mark.parametrize("turn", [lambda m: m[:, ::-1], lambda m: m.transpose(0, 2, 1)])
def test_turning_both_masks_changes_nothing(turn):
    truth, predicted = blobs(5, 2, (40, 61), 3)
    got = surface_scores(truth, predicted)
    turned = surface_scores(turn(truth), turn(predicted))
    for name in NAMES:
        np.testing.assert_allclose(turned[name], got[name], atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.zeros((5, 5), int), np.zeros((5, 5), int)), {}, r"\[N, H, W\]"),
        ((np.zeros((1, 5, 5), int), np.zeros((1, 5, 6), int)), {}, r"\[N, H, W\]"),
        ((np.zeros((1, 5, 5), int), np.zeros((1, 5, 5))), {}, "integer labels"),
        ((np.zeros((1, 5, 5), int), np.zeros((1, 5, 5), int)), {"tolerance": -1}, "tolerance"),
    ],
)
def test_bad_input_is_named(arguments, options, message):
    with pytest.raises(InputError, match=message):
        surface_scores(*arguments, **options)
    if not options:
        with pytest.raises(InputError, match=message):
            bf_score(*arguments)


def test_theta_is_checked():
    with pytest.raises(InputError, match="theta"):
        bf_score(np.zeros((1, 5, 5), int), np.zeros((1, 5, 5), int), theta=0)
