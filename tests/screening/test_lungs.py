"""Infection inside and outside the lung, in pixels and in ml: what is marked never exceeds the lung
that holds it.
"""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covjax.data.intensity import WINDOWS, eight_bit
from covjax.screening.inputs import Scan
from covjax.screening.lungs import COUNTS, divide_infection, find_lungs, lung_notes, share_of_lung
from tests.data.chests import chest

SIDES = st.integers(1, 12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), SIDES, SIDES, st.sampled_from([0.0, 0.1, 0.6]), st.booleans())
def test_the_lung_is_at_least_its_infection_and_nothing_is_lost(seed, rows, columns, found, known):
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 3, (rows, columns)).astype(np.uint8)
    lungs = rng.random(mask.shape) < found
    inside = lungs | (rng.random(mask.shape) < found)
    counted, counts = divide_infection(mask, lungs, inside, known)
    assert (
        counts["infected"] + counts["outside"] == (mask > 0).sum()
        and counts["infected"] == (counted > 0).sum()
    )
    assert counts["in_lung"] <= counts["lung"] and counts["in_lung"] <= counts["infected"]
    assert share_of_lung(counts) is None or 0 <= share_of_lung(counts) <= 1
    if known or inside.any():
        assert counts["in_lung"] == counts["infected"] <= counts["lung"]
        assert not (counted > 0)[~inside].any() and np.array_equal(counted[inside], mask[inside])
    # marking more takes nothing away
    more = np.maximum(mask, rng.integers(0, 2, mask.shape).astype(np.uint8))
    grown = divide_infection(more, lungs, inside, known)[1]
    assert all(grown[part] >= counts[part] for part in COUNTS)


class Grid:
    """As much of a volume as the estimate of lungs asks for."""

    def __init__(self, values, spacing):
        self.shape = values.shape
        self.spacing = spacing


def summed(values, masks, spacing=(4.0, 4.0, 4.0), volume=True):
    """Returns (sums of counts, notes) of a scan whose slices are marked with masks."""
    grey = [eight_bit(one, WINDOWS["lung"]) for one in values]
    ids = [str(k) for k in range(len(values))]
    paths = [Path("x")] * len(values)
    read = (lambda k: values[k]) if volume else (lambda k: grey[k])
    grid = Grid(values, spacing) if volume else None
    scan = Scan("x", Path("x"), "hu" if volume else "8bit", ids, paths, read, grid)
    lungs = find_lungs(scan)
    sums = dict.fromkeys(COUNTS, 0.0)
    without = 0
    for k, mask in enumerate(masks):
        counts = lungs.divide(k, grey[k], mask)[1]
        without += share_of_lung(counts) is None
        for part, count in counts.items():
            sums[part] += count * (float(np.prod(spacing)) if volume else 1)
    return sums, lung_notes(scan, lungs, sums, without)


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["", "right", "back"]))
def test_a_volume_with_everything_marked_has_no_more_infection_than_lung(seed, solid):
    made = chest(seed, solid=solid)
    sums, notes = summed(made.values, np.ones(made.values.shape, np.uint8))
    assert 0 < sums["infected"] <= sums["lung"] and sums["outside"] > sums["infected"]
    assert any("lie outside the lung" in note and " ml " in note for note in notes)


def test_a_consolidated_lung_is_infected_lung_and_bowel_gas_is_not():
    made = chest(5, solid="right")
    sums, notes = summed(made.values, made.solid.astype(np.uint8))
    assert sums["outside"] < 0.05 * sums["infected"] and not any(
        "outside" in note for note in notes
    )
    assert share_of_lung(sums) == pytest.approx(made.solid.sum() / made.lungs.sum(), abs=0.05)
    gas = (made.values < -900) & (np.arange(len(made.values)) < 13)[:, None, None]
    sums, _ = summed(made.values, gas.astype(np.uint8))
    assert sums["infected"] == 0 and share_of_lung(sums) == 0 and sums["outside"] > 0


def test_where_no_lungs_are_found_all_that_is_marked_counts():
    made = chest(5)
    sums, notes = summed(made.values[:12], np.ones((12, 75, 100), np.uint8))
    assert sums["infected"] == 12 * 75 * 100 * 64 and sums["outside"] == sums["lung"] == 0
    assert share_of_lung(sums) is None and any("no lungs were found" in note for note in notes)


def test_of_pictures_all_that_is_marked_in_the_body_counts():
    made = chest(5, noise=5)
    values = made.values[[5, 35, 38]]
    sums, notes = summed(values, np.ones(values.shape, np.uint8), volume=False)
    assert sums["in_lung"] <= sums["lung"] and sums["outside"] > 0
    assert notes[0].startswith("no lungs were found in 1 of 3 pictures") and "pixels" in notes[1]
