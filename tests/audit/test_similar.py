"""Near-duplicates against correlation coefficients of all pairs, one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covjax.audit import nearest, standardised


def brute(rows, candidates, among):
    best = []
    for i, a in enumerate(rows):
        found = [(-1.0, -1)] + [
            (np.corrcoef(a, b)[0, 1], j) for j, b in enumerate(candidates) if not (among and i == j)
        ]
        best.append(max(found, key=lambda pair: pair[0]))
    return np.array(best).T


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(0, 9), st.integers(1, 4), st.integers(0, 10**6))
def test_equals_every_pair_one_by_one(queries, candidates, block, seed):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 256, (queries, 5, 5))
    b = rng.integers(0, 256, (candidates, 5, 5))
    rows = standardised(a)
    others = standardised(b)
    assert rows.shape == (queries, 25) and others.shape == (candidates, 25)
    for found, expected in (
        (
            nearest(rows, others, block),
            brute(a.reshape(queries, 25), b.reshape(candidates, 25), False),
        ),
        (nearest(rows, block=block), brute(a.reshape(queries, 25), a.reshape(queries, 25), True)),
    ):
        np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
        np.testing.assert_array_equal(found[1], expected[1])


def test_brightness_and_contrast_do_not_matter_but_noise_does():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 120, (40, 16, 16))
    pictures[7] = pictures[3] * 2 + 10
    pictures[8] = pictures[5] + rng.integers(-60, 60, (16, 16))
    correlation, index = nearest(standardised(pictures))
    assert index[7] == 3 and index[3] == 7 and correlation[7] > 0.97
    assert index[8] == 5 and 0.5 < correlation[8] < 0.95
    assert np.delete(correlation, [3, 5, 7, 8]).max() < 0.5


def test_what_all_pictures_share_does_not_make_them_alike():
    """A white margin around 38% of each, as in the paper's figures, gives any two a correlation
    near 1.
    """
    rng = np.random.default_rng(1)
    pictures = np.full((30, 20, 20), 255)
    pictures[:, 2:17, 3:18] = rng.integers(0, 60, (30, 15, 15))
    assert np.corrcoef(pictures.reshape(30, -1)).min() > 0.9
    assert nearest(standardised(pictures))[0].max() < 0.5
    pictures[9] = pictures[4]
    assert nearest(standardised(pictures))[1][9] == 4


@pytest.mark.parametrize("count", [3, 30])
def test_pictures_without_structure_are_alike_to_none(count):
    flat = np.repeat(np.arange(count), 16).reshape(count, 4, 4)
    correlation, _ = nearest(standardised(flat))
    assert (correlation == 0).all()


def test_none_to_compare_with():
    rows = standardised(np.random.default_rng(0).integers(0, 256, (1, 4, 4)))
    for found in (nearest(rows), nearest(rows, rows[:0])):
        assert found[0].tolist() == [-1] and found[1].tolist() == [-1]
    assert all(len(x) == 0 for x in nearest(rows[:0], rows))
