"""Tests of the synthetic CT: determinism, anatomy over z, truth, and that no threshold solves
it.
"""

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covjax.data.phantom import lung
from covjax.data.phantom import picture as phantom
from covjax.data.phantom.picture import lung_region, phantom_slice
from covjax.errors import InputError

PATIENTS = 12
SLICES = 8
SIZE = 152


@lru_cache(maxsize=1)
def stack():
    """Images, masks, labels and lungs of a modest set, first axes [patient, slice]."""
    args = {"slices_per_patient": SLICES, "size": SIZE}
    rows = [
        [(*phantom_slice(p, i, **args), lung_region(p, i, **args)) for i in range(SLICES)]
        for p in range(PATIENTS)
    ]
    return tuple(np.array([[row[k] for row in patient] for patient in rows]) for k in range(4))


def threshold_dice(images, masks, lungs):
    """Best pooled Dice, and its threshold t, of calling every lung pixel with a value >= t
    lesion.
    """
    values = images[lungs]
    truth = masks[lungs] > 0
    best = (0.0, 0)
    for t in range(256):
        called = values >= t
        dice = 2 * np.sum(called & truth) / max(1, called.sum() + truth.sum())
        best = max(best, (float(dice), t))
    return best


def similarity(a, b):
    return np.corrcoef(a.ravel().astype(float), b.ravel().astype(float))[0, 1]


@given(st.integers(0, 500), st.integers(0, 19), st.integers(0, 3), st.sampled_from([32, 64, 96]))
@settings(max_examples=15, deadline=None)
def test_a_slice_is_a_function_of_its_arguments(patient, index, seed, size):
    first = phantom_slice(patient, index, slices_per_patient=20, size=size, seed=seed)
    phantom.make_anatomy.cache_clear()
    phantom_slice(patient + 1, index, slices_per_patient=20, size=size, seed=seed)
    again = phantom_slice(patient, index, slices_per_patient=20, size=size, seed=seed)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert first[2] == again[2]


def test_seed_patient_and_index_each_change_the_image():
    args = {"slices_per_patient": 20, "size": 64}
    base = phantom_slice(3, 10, seed=0, **args)[0]
    for other in (
        phantom_slice(3, 10, seed=1, **args),
        phantom_slice(4, 10, **args),
        phantom_slice(3, 11, **args),
    ):
        assert (other[0] != base).mean() > 0.2


@pytest.mark.parametrize("size", [32, 64, 96, 128, 152, 304])
def test_shapes_types_and_ranges(size):
    for index in (0, 5, 9):
        args = {"slices_per_patient": 10, "size": size}
        image, mask, label = phantom_slice(1, index, **args)
        lungs = lung_region(1, index, **args)
        assert image.shape == mask.shape == lungs.shape == (size, size)
        assert image.dtype == mask.dtype == np.uint8 and lungs.dtype == bool and type(label) is int
        assert set(np.unique(mask)) <= {0, 1} and label in (0, 1)
        assert image.max() > 200 and image.min() < 100
        assert 0.01 < lungs.mean() < 0.5


@given(st.integers(0, 200), st.integers(0, 11), st.sampled_from([64, 152]))
@settings(max_examples=25, deadline=None)
def test_label_mask_and_lungs_agree(patient, index, size):
    args = {"slices_per_patient": 12, "size": size}
    _, mask, label = phantom_slice(patient, index, **args)
    assert not (mask.astype(bool) & ~lung_region(patient, index, **args)).any()
    assert mask.sum() >= 0.0005 * mask.size if label else mask.sum() == 0


def test_lesions_are_painted_exactly_where_the_mask_is(monkeypatch):
    """Without blur, taking the lesions away changes the pixels of the mask and no others."""
    args = {"slices_per_patient": 12, "size": 152}
    patient = next(p for p in range(5) if phantom_slice(p, 6, **args)[2])
    anatomy = phantom.make_anatomy(patient, 0)
    monkeypatch.setattr(anatomy, "blur", 0.0)
    image, mask, _ = phantom_slice(patient, 6, **args)
    monkeypatch.setattr(anatomy, "lesions", None)
    clean, empty, label = phantom_slice(patient, 6, **args)
    assert label == 0 and not empty.any()
    changed = image != clean
    assert not changed[mask == 0].any()
    assert changed[mask == 1].mean() > 0.85  # vessels and consolidated edges may keep their value
    assert image[mask == 1].mean() > clean[mask == 1].mean() + 10


def test_a_lesion_below_the_smallest_share_is_not_drawn(monkeypatch):
    args = {"slices_per_patient": 12, "size": 96}
    patient = next(p for p in range(5) if phantom_slice(p, 6, **args)[2])
    monkeypatch.setattr(lung, "LABEL_FRACTION", 1.0)
    hidden, mask, label = phantom_slice(patient, 6, **args)
    monkeypatch.setattr(phantom.make_anatomy(patient, 0), "lesions", None)
    np.testing.assert_array_equal(hidden, phantom_slice(patient, 6, **args)[0])
    assert label == 0 and not mask.any()


def test_the_set_mixes_healthy_and_infected():
    labels = stack()[2]
    per_patient = labels.mean(1)
    assert 0.35 <= labels.mean() <= 0.65
    assert (per_patient == 0).any()
    assert ((per_patient > 0) & (per_patient < 1)).any()
    shares = stack()[1].mean((2, 3))[labels == 1]
    assert shares.min() < 0.015 and shares.max() > 0.05  # mild to severe


def test_one_patient_in_five_is_healthy_throughout():
    for block in range(4):
        healthy = [phantom.make_anatomy(5 * block + k, 7).lesions is None for k in range(5)]
        assert sum(healthy) == 1


def test_neighbouring_slices_look_alike():
    args = {"slices_per_patient": 40, "size": 96}
    volumes = [[phantom_slice(p, i, **args)[0] for i in range(15, 21)] for p in (0, 1, 2)]
    near = [similarity(a, b) for v in volumes for a, b in zip(v, v[1:], strict=False)]
    across = [
        similarity(a, b)
        for v, w in ((0, 1), (1, 2), (2, 0))
        for a, b in zip(volumes[v], volumes[w], strict=True)
    ]
    assert min(near) > 0.97
    assert min(near) > max(across)


def test_similarity_falls_with_distance_along_z():
    slices = [phantom_slice(2, i, slices_per_patient=40, size=96)[0] for i in (12, 13, 18, 34)]
    steps = [similarity(slices[0], other) for other in slices[1:]]
    assert steps == sorted(steps, reverse=True)


def test_lungs_grow_from_the_apex_and_shrink_over_the_diaphragm():
    areas = stack()[3].mean((2, 3))
    peak = areas.argmax(1)
    assert ((peak > 0) & (peak < SLICES - 1)).all()
    assert (areas[:, 0] < 0.75 * areas.max(1)).all() and (areas[:, -1] < 0.85 * areas.max(1)).all()


def test_lungs_lie_on_both_sides_of_the_middle_and_are_dark():
    images, _, labels, lungs = stack()
    left = lungs[..., : SIZE // 2].sum((2, 3))
    right = lungs[..., SIZE // 2 :].sum((2, 3))
    assert (np.minimum(left, right) > 0.15 * (left + right)).all()
    for image, region in zip(images[labels == 0], lungs[labels == 0], strict=True):
        assert np.median(image[region]) < 150


def test_patients_differ_in_anatomy_and_intensity():
    images, _, labels, lungs = stack()
    areas = lungs.mean((2, 3)).max(1)
    tissue = [np.percentile(volume, 75) for volume in images]
    air = [np.median(volume[region]) for volume, region in zip(images, lungs, strict=True)]
    assert np.ptp(areas) > 0.03 and np.ptp(tissue) > 8 and np.ptp(air) > 20


def test_sizes_show_the_same_anatomy():
    large = phantom_slice(6, 9, slices_per_patient=20, size=256)
    small = phantom_slice(6, 9, slices_per_patient=20, size=64)
    pooled = [a.reshape(64, 4, 64, 4).mean((1, 3)) for a in large[:2]]
    assert similarity(pooled[0], small[0]) > 0.97
    lungs = [lung_region(6, 9, slices_per_patient=20, size=s) for s in (256, 64)]
    assert abs(lungs[0].mean() - lungs[1].mean()) < 0.01
    assert np.abs(pooled[1] - small[1]).mean() < 0.02


def test_no_intensity_threshold_segments_the_set():
    images, masks, _, lungs = stack()
    dice, threshold = threshold_dice(images, masks, lungs)
    assert 0.2 < dice < 0.5, (dice, threshold)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"patient": -1}, "patient -1"),
        ({"seed": -2}, "seed -2"),
        ({"index": 4}, "index 4"),
        ({"index": -1}, "index -1"),
        ({"size": 16}, "size 16"),
    ],
)
@pytest.mark.parametrize("function", [phantom_slice, lung_region])
def test_wrong_arguments_are_named(function, arguments, word):
    good = {"patient": 0, "index": 0, "slices_per_patient": 4, "size": 32, "seed": 0}
    with pytest.raises(InputError, match=word):
        function(**(good | arguments))
