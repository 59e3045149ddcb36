"""Screening slices with a trained run, in Python."""

import multiprocessing
import pickle
import subprocess
import sys

import jax
import numpy as np
import pytest

from covjax.data.intensity import WINDOWS, eight_bit
from covjax.data.lungs.fields import find_crop
from covjax.data.phantom import picture as phantom
from covjax.errors import InputError, RunError
from covjax.screening.screener import Screener


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
    np.testing.assert_allclose(
        [f.probability for f in one], [f.probability for f in many], atol=1e-5
    )
    for a, b in zip(one, many, strict=True):
        np.testing.assert_array_equal(a.mask, b.mask)


def test_slices_are_cropped_to_the_lungs_and_masks_put_back(trained):
    images = [phantom.phantom_slice(1, k, slices_per_patient=12, size=96)[0] for k in (3, 6)]
    plain = Screener.from_workdir(trained[0], batch_size=2)
    cropping = Screener(plain.stages, plain.variables, 2, lung_crop=True)
    by_hand = list(plain.screen([image[find_crop(image).box] for image in images]))
    for image, whole, part in zip(images, cropping.screen(images), by_hand, strict=True):
        assert whole.mask.shape == image.shape and whole.probability == pytest.approx(
            part.probability, abs=1e-6
        )
        np.testing.assert_array_equal(whole.mask[find_crop(image).box], part.mask)
        assert whole.mask.sum() == part.mask.sum() and whole.share == pytest.approx(
            whole.mask.mean()
        )


@pytest.fixture(scope="module")
def loaded(trained):
    return Screener.from_workdir(trained[0], batch_size=4)


def slices(count=5):
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (48, 48), np.uint8) for _ in range(count)]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert (a.probability, a.infected, a.share) == (b.probability, b.infected, b.share)
        np.testing.assert_array_equal(a.mask, b.mask)


def test_errors_come_with_the_slice_s_number_and_spoil_no_earlier_one(loaded):
    stack = np.stack(slices()).astype(np.float32)
    with pytest.raises(InputError, match=r"^images\[0\]: float32 values"):
        list(loaded.screen(stack))
    with pytest.raises(InputError, match="window: 'lun' is unknown.*did you mean 'lung'"):
        loaded.screen(slices(), window="lun")  # before anything is asked for
    for spacing in (0, (1, 0), "ab", (1, 2, 3, 4), (np.nan, 1)):
        with pytest.raises(InputError, match="^spacing: "):
            loaded.screen(slices(), spacing)
    with pytest.raises(InputError, match="^batch_size: "):
        Screener(loaded.stages, loaded.variables, 0)


def test_hu_are_screened_as_their_window(loaded):
    values = np.random.default_rng(4).integers(-1024, 600, (3, 48, 48), np.int16)
    assert_same(
        loaded.screen(values, window="lung"), loaded.screen(eight_bit(values, WINDOWS["lung"]))
    )


@pytest.mark.parametrize("stage", ["classifier", "segmenter"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_network_that_returns_no_number_calls_nothing(loaded, stage, bad):
    """A comparison with NaN is false and its maximum a class: both were calls."""
    variables = dict(loaded.variables) | {
        stage: jax.tree.map(lambda x: x + bad, loaded.variables[stage])
    }
    with pytest.raises(
        RunError, match=rf"^images\[0\]: what the {stage} returns is NaN or infinite"
    ):
        list(Screener({stage: loaded.stages[stage]}, variables, 4).screen(slices()))


def test_a_pickled_screener_screens_alike(loaded):
    assert_same(pickle.loads(pickle.dumps(loaded)).screen(slices()), loaded.screen(slices()))


def _screen(screener, images):
    return list(screener.screen(images))


@pytest.mark.slow
def test_a_screener_goes_to_a_spawned_process(loaded):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert_same(pool.apply(_screen, (loaded, slices())), loaded.screen(slices()))


def test_the_screener_is_there_on_demand_only():
    code = (
        "import sys, covjax; assert 'jax' not in sys.modules; assert 'Screener' in dir(covjax); "
        "assert not hasattr(covjax, 'Screner'); from covjax import Screener; "
        "from covjax.framework import Screener as same; assert Screener is same"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
