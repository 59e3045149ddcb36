"""The lungs of volumes: told from bowel gas, airways, table and the air outside; cut off,
consolidated, padded.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covjax.data.formats.nifti import open_nifti
from covjax.data.intensity import WINDOWS, eight_bit
from covjax.data.lungs.hull import hull
from covjax.data.lungs.thorax import CUT, NONE, ONE, find_thorax
from tests import places
from tests.data.chests import chest, dice

DATA = places.REAL / "ct_volume"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="needs ct_volume of the test data (COVJAX_TEST_DATA)"
)
SPACINGS = [(4.0, 4.0, 4.0), (5.0, 2.5, 2.5), (12.0, 4.0, 4.0)]


def estimate(values, spacing, intensity="hu"):
    """Returns (lungs, chest, notes) of a volume, the first two bool of its shape."""
    found = find_thorax(lambda k: values[k], values.shape, spacing, intensity)
    planes = [found.slice(k) for k in range(len(values))]
    return (
        np.stack([lungs for lungs, _ in planes]),
        np.stack([inside for _, inside in planes]),
        found.notes,
    )


@settings(max_examples=5, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(SPACINGS),
    st.sampled_from([None, -1024.0, -2000.0, -3024.0]),
)
def test_lungs_are_told_from_bowel_gas_airway_arms_and_table(seed, spacing, padding):
    made = chest(seed, spacing, padding=padding, noise=30)
    lungs, inside, _ = estimate(made.values, spacing)
    assert dice(lungs, made.lungs) > 0.97
    assert lungs.sum() == pytest.approx(made.lungs.sum(), rel=0.05)
    assert not (lungs & ~inside).any()


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["right", "left", "back"]))
def test_a_consolidated_lung_lies_in_the_chest(seed, solid):
    made = chest(seed, solid=solid)
    lungs, inside, notes = estimate(made.values, made.spacing)
    assert dice(lungs, made.lungs & ~made.solid) > 0.97
    assert (inside & made.solid).sum() > 0.85 * made.solid.sum()
    assert (ONE in notes) == (solid != "back")


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 30), st.integers(0, 30))
def test_lungs_of_a_volume_cropped_to_them_touch_its_border_and_are_found(seed, high, left):
    made = chest(seed)
    part = np.s_[20 : 50 - high // 3, 20:57, 22 + left // 2 : 80]
    lungs, _, notes = estimate(made.values[part], made.spacing)
    assert dice(lungs, made.lungs[part]) > 0.95 and CUT in notes


def test_a_belly_without_lungs_has_none_and_bowel_gas_is_said():
    made = chest(1)
    below = made.values[:13]
    above = made.values[:20]
    assert not made.lungs[:13].any()
    lungs, inside, notes = estimate(below, made.spacing)
    assert not lungs.any() and not inside.any() and notes == (NONE,)
    lungs, _, notes = estimate(above, made.spacing)
    assert dice(lungs, made.lungs[:20]) > 0.85 and any(
        "ml of gas in the body" in note for note in notes
    )


@pytest.mark.parametrize("window", [WINDOWS["lung"], (-400.0, 1200.0), (-500.0, 1400.0)])
def test_volumes_of_8_bit_give_the_lungs_of_their_hu(window):
    made = chest(2)
    grey = eight_bit(made.values, window).astype(np.float32)
    assert (
        dice(estimate(grey, made.spacing, "8bit")[0], estimate(made.values, made.spacing)[0]) > 0.97
    )


def test_a_window_that_shows_lung_as_air_is_undecided():
    made = chest(2)
    grey = eight_bit(made.values, WINDOWS["mediastinum"]).astype(np.float32)
    assert estimate(grey, made.spacing, "8bit")[2] == (NONE,)


def test_a_volume_turned_by_its_axes_gives_the_turned_lungs():
    made = chest(3)
    lungs, _, _ = estimate(made.values, made.spacing)
    for flip in (np.s_[::-1], np.s_[:, ::-1], np.s_[:, :, ::-1]):
        assert dice(estimate(made.values[flip], made.spacing)[0], lungs[flip]) > 0.99


def test_a_fine_grid_gives_what_a_coarse_one_does():
    coarse = chest(4, (4.0, 4.0, 4.0), noise=0)
    fine = chest(4, (4.0, 2.0, 2.0), noise=0)
    ml = [
        estimate(made.values, made.spacing)[0].sum() * np.prod(made.spacing) / 1000
        for made in (coarse, fine)
    ]
    assert ml[0] == pytest.approx(ml[1], rel=0.05)
    assert dice(estimate(fine.values, fine.spacing)[0], fine.lungs) > 0.97


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 40), (2, 32, 32)])
def test_a_volume_of_nothing_has_no_lungs(shape):
    for value in (-1000.0, 0.0, -850.0):
        assert estimate(np.full(shape, value, np.float32), None)[2] == (NONE,)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 9)), min_size=1, max_size=12))
def test_a_hull_holds_its_points_and_what_lies_between_two(points):
    found = hull(np.array(points), (12, 10))
    assert all(found[point] for point in points)
    for one in points:
        for other in points:
            middle = np.add(one, other)
            assert (middle % 2).any() or found[tuple(middle // 2)]


@needs_data
def test_the_lung_bases_of_a_real_abdomen():
    volume = open_nifti(DATA / "abdomen.nii.gz", "auto")
    truth = open_nifti(DATA / "abdomen_lungs.nii.gz", "8bit")
    known = np.stack([truth.read(k) for k in range(len(truth))]) > 0
    values = np.stack([volume.read(k) for k in range(len(volume))])
    lungs, _, notes = estimate(values, volume.spacing)
    assert lungs.sum() * 0.027 == pytest.approx(111.1, rel=0.15) and dice(lungs, known) > 0.9
    assert CUT in notes and any("ml of gas" in note for note in notes)


@needs_data
def test_the_lungs_of_a_real_thorax_that_is_cropped():
    volume = open_nifti(DATA / "thorax.nii.gz", "auto")
    values = np.stack([volume.read(k) for k in range(len(volume))])
    lungs, _, _ = estimate(values, volume.spacing)
    ml = lungs.sum() * np.prod(volume.spacing) / 1000
    assert 1600 < ml < 2000 and values[lungs].mean() < -700
    assert not lungs[:6, 20:50, 70:105].any()  # the stomach
