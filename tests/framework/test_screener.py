"""Screening slices with a trained run, in Python."""

import numpy as np
import pytest

from covjax.data import phantom
from covjax.data.lungs import lung_box
from covjax.framework import Screener


def test_masks_come_back_in_each_slice_s_own_size_and_order(trained):
    screener = Screener.from_workdir(trained[0], batch_size=2)
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (30 + k, 61 - k), np.uint8) for k in range(19)]
    found = list(screener.screen(images))
    assert [f.mask.shape for f in found] == [i.shape for i in images]
    for f in found:
        assert 0 <= f.probability <= 1
        assert f.infected == (f.probability >= 0.5)
        assert f.share == pytest.approx(f.mask.mean())
        assert f.infected or not f.mask.any()


def test_results_do_not_depend_on_the_batch_size(trained):
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 256, (48, 48), np.uint8) for _ in range(7)]
    one, many = (list(Screener.from_workdir(trained[0], n).screen(images)) for n in (1, 8))
    np.testing.assert_allclose([f.probability for f in one], [f.probability for f in many], atol=1e-5)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_array_equal(a.mask, b.mask)


def test_slices_are_cropped_to_the_lungs_and_masks_put_back(trained):
    images = [phantom.phantom_slice(1, k, slices_per_patient=12, size=96)[0] for k in (3, 6)]
    plain = Screener.from_workdir(trained[0], batch_size=2)
    cropping = Screener(plain.stages, plain.variables, 2, lung_crop=True)
    by_hand = list(plain.screen([image[lung_box(image)] for image in images]))
    for image, whole, part in zip(images, cropping.screen(images), by_hand, strict=True):
        assert whole.mask.shape == image.shape and whole.probability == pytest.approx(part.probability, abs=1e-6)
        np.testing.assert_array_equal(whole.mask[lung_box(image)], part.mask)
        assert whole.mask.sum() == part.mask.sum() and whole.share == pytest.approx(whole.mask.mean())
