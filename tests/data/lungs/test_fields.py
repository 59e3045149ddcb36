"""The lungs of a slice, and the box to crop it to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covjax.data.intensity import WINDOWS, eight_bit
from covjax.data.lungs.fields import ONE, find_crop, lungs_and_chest, truth_outside
from covjax.data.phantom import picture as phantom
from tests.data.chests import chest, dice

TURNS = [(turns, mirror) for turns in range(4) for mirror in (False, True)]


def lung_field(image):
    return lungs_and_chest(image)[0]


def picture(made, height, window="lung"):
    """Returns (image, lungs, consolidation) of the slice at a height in mm."""
    k = int(height / made.spacing[0])
    return eight_bit(made.values[k], WINDOWS[window]), made.lungs[k], made.solid[k]


def turned(array, turns, mirror):
    array = np.rot90(array, turns)
    return array[:, ::-1] if mirror else array


def cut_to(image, mask, made_of):
    """Crops a picture to the rows and columns of `made_of`, as pictures in papers are: lungs touch
    the border.
    """
    rows = np.flatnonzero(made_of.any(1))
    columns = np.flatnonzero(made_of.any(0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return image[part], mask[part]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans(), st.sampled_from([100, 130, 150]))
def test_lungs_are_found_beside_arms_and_table(seed, arms, table, height):
    image, lungs, _ = picture(chest(seed, (20.0, 2.0, 2.0), arms=arms, table=table), height)
    assert dice(lung_field(image), lungs) > 0.93


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([100, 130, 150]), st.integers(0, 3))
def test_lungs_that_touch_the_border_of_a_picture_are_found(seed, height, turns):
    image, lungs, _ = picture(chest(seed, (20.0, 2.0, 2.0), arms=False), height)
    image, lungs = (np.rot90(a, turns) for a in cut_to(image, lungs, lungs))
    assert dice(lung_field(image), lungs) > 0.9
    assert image[find_crop(image).box].shape == image.shape  # cropped to the body before


@settings(max_examples=5, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["", "left", "back"]),
    st.sampled_from([100, 150]),
    st.booleans(),
)
def test_a_turned_picture_gives_the_turned_field_and_box(seed, solid, height, tight):
    image, lungs, _ = picture(chest(seed, (20.0, 3.0, 3.0), solid=solid), height)
    if tight:
        image, _ = cut_to(image, image, lungs)
    field = lung_field(image)
    box = np.zeros(image.shape, bool)
    box[find_crop(image).box] = True
    for turn in TURNS:
        other = turned(image, *turn)
        np.testing.assert_array_equal(lung_field(other), turned(field, *turn))
        found = np.zeros(other.shape, bool)
        found[find_crop(other).box] = True
        np.testing.assert_array_equal(found, turned(box, *turn))


@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["", "right", "left", "back"]),
    st.sampled_from([90, 120, 150]),
)
def test_the_box_cuts_off_nothing_of_a_consolidated_lung(seed, solid, height):
    image, lungs, consolidated = picture(chest(seed, (10.0, 2.0, 2.0), solid=solid), height)
    found = find_crop(image)
    assert truth_outside(lungs.astype(np.uint8), found.box) == 0
    assert truth_outside(consolidated.astype(np.uint8), found.box) == 0
    assert found.kept == (ONE if solid in ("right", "left") else "")
    assert image[found.box].size < 0.8 * image.size  # it still crops: air is cut off


def test_nothing_of_the_phantom_s_infection_is_cut_off():
    for patient in range(6):
        for k in range(8):
            image, mask, _ = phantom.phantom_slice(patient, k, slices_per_patient=8, size=96)
            assert truth_outside(mask, find_crop(image).box) == 0


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (32, 32), (37, 90)])
@pytest.mark.parametrize("value", [0, 90, 255])
def test_a_picture_of_nothing_has_no_lungs_and_is_kept_whole(size, value):
    image = np.full(size, value, np.uint8)
    assert (
        not lung_field(image).any()
        and image[find_crop(image).box].shape == size
        and find_crop(image).kept
    )


@pytest.mark.parametrize("turns", range(4))
def test_a_window_that_shows_fat_as_black_keeps_the_whole_slice(turns):
    image = np.rot90(picture(chest(1, (20.0, 2.0, 2.0)), 130, "mediastinum")[0], turns)
    lungs = np.rot90(picture(chest(1, (20.0, 2.0, 2.0)), 130)[1], turns)
    assert truth_outside(lungs.astype(np.uint8), find_crop(image).box) == 0


def test_ignored_pixels_are_no_truth_that_is_cut_off():
    mask = np.zeros((8, 8), np.uint8)
    mask[0, :3] = 255
    mask[7, 7] = 2
    assert truth_outside(mask, np.s_[2:6, 2:6]) == 1
