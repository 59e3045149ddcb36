"""The flat border of pictures, and what is measured of each slice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covjax.audit.measure import inner_box
from covjax.data.label_map import IGNORE
from covjax.errors import InputError
from tests.audit.planted import chest, lesion, measured


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(0, 25)] * 4), st.sampled_from([0, 128, 255]), st.integers(0, 10**6))
def test_finds_a_border_of_any_width_and_grey(sides, grey, seed):
    top, left, bottom, right = sides
    image = np.full((60 + top + bottom, 50 + left + right), grey, np.uint8)
    image[top : top + 60, left : left + 50] = chest(seed)
    box, found = inner_box(image)
    ring = min(sides) > 0
    assert found == grey or not ring
    if ring:
        # A row of the picture that happens to have the border's grey moves the box by less than a
        # tile of it.
        assert np.abs(np.array(box) - (top, left, top + 60, left + 50)).max() <= 4


def test_tick_labels_and_noise_are_part_of_the_border():
    rng = np.random.default_rng(0)
    image = np.clip(255 - rng.integers(0, 8, (100, 90)), 0, 255).astype(np.uint8)
    image[10:80, 20:80] = chest(1, (70, 60))
    image[84:90, 25:37] = 0  # a label below the picture, over a seventh of its rows
    assert inner_box(image)[0] == (10, 20, 80, 80)


@pytest.mark.parametrize("where", [np.s_[5:95, 40:50], np.s_[40:50, 5:85], np.s_[45:50, 40:46]])
def test_small_and_narrow_insides(where):
    image = np.full((100, 90), 255, np.uint8)
    image[where] = 0
    rows, columns = where
    assert inner_box(image)[0] == (rows.start, columns.start, rows.stop, columns.stop)


def test_no_border_and_nothing_but_border():
    assert inner_box(chest(3))[0] == (0, 0, 60, 50)
    assert inner_box(np.full((20, 30), 7, np.uint8))[0] == (0, 0, 0, 0)


def test_counts_by_hand(slices):
    image = np.full((60, 50), 255, np.uint8)
    image[10:50, 10:40] = chest(5, (40, 30))
    mask = lesion(where=np.s_[5:15, 20:30])  # half of it on the border
    mask[:2] = IGNORE
    mask[8, 20] = 0
    image[9, 20] = 0  # ink on the border
    m = measured(
        [slices[0]._replace(image=image, mask=mask, label=1), slices[1]._replace(mask=None)]
    )
    assert m.inner[0].tolist() == [10, 10, 50, 40]
    assert m.pixels.tolist() == [60 * 50 - 2 * 50, 60 * 50]
    assert (
        m.infected.tolist() == [99, -1]
        and m.infected_in_border[0] == 49
        and m.infected_on_flat[0] == 48
    )
    assert m.pixels_in_border[0] == 60 * 50 - 40 * 30 - 100
    assert m.mean[0] == pytest.approx(image.mean()) and m.std[0] == pytest.approx(image.std())
    assert m.mask[1] == "" and m.picture[0] != m.picture[1]


def test_unreadable_slices_are_listed(slices):
    m = measured([*slices[:3], InputError("x.png: damaged"), slices[4]])
    assert m.unreadable == (("bad3", "x.png: damaged"),) and len(m) == 4
    with pytest.raises(InputError, match=r"no slice of made can be read \(x.png: damaged\)"):
        measured([InputError("x.png: damaged")])
    with pytest.raises(InputError, match="it lists none"):
        measured([])
