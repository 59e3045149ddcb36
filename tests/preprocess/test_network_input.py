"""From stored slices to the network's input: sizes, normalisation, and the same values however they
come.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from covjax.preprocess.enhance import enhance
from covjax.preprocess.network_input import (
    Normalization,
    enhanced,
    network_input,
    pretrained_normalization,
    slice_size,
)
from covjax.preprocess.settings import InputSettings


def config(**changes):
    values = dict(
        size=(20, 24),
        slice_size=(40, 48),
        channels=3,
        enhance="none",
        gain="unit",
        normalize="zero_center",
    )
    return InputSettings(**values | changes)


def slices(size=(20, 24)):
    return np.random.default_rng(0).integers(0, 256, (2, *size)).astype(np.uint8)


def test_plain_slices_are_repeated_over_channels_and_zero_centred():
    x = slices()
    mean = np.array([10.0, 20.0, 30.0], np.float32)
    got = network_input(jnp.asarray(x), config(), Normalization(mean, np.ones(3, np.float32)))
    assert got.shape == (2, 20, 24, 3) and got.dtype == jnp.float32
    np.testing.assert_allclose(got, x[..., None].astype(np.float32) - mean, rtol=1e-6)


def test_standardize():
    x = slices()
    normalization = Normalization(np.full(3, 100, np.float32), np.array([50, 25, 0], np.float32))
    got = np.asarray(network_input(jnp.asarray(x), config(normalize="standardize"), normalization))
    np.testing.assert_allclose(got[..., :2], (x[..., None] - 100.0) / np.array([50, 25]), rtol=1e-5)
    assert np.isfinite(got).all()  # a channel that never varies divides by no zero


def test_published_weights_get_the_input_they_expect():
    x = slices()
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    got = network_input(
        jnp.asarray(x), config(normalize="pretrained"), pretrained_normalization(mean, std, 3)
    )
    # as torchvision's transforms
    want = (x[..., None].astype(np.float64) / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(got, want, atol=1e-5)
    one = pretrained_normalization(mean, std, 1)
    np.testing.assert_allclose(
        [*one.mean, *one.std], [255 * np.mean(mean), 255 * np.mean(std)], rtol=1e-6
    )


def test_uint8_and_float_slices_give_the_same():
    x = slices((40, 48))
    normalization = Normalization(np.float32([5]), np.float32([1]))
    settings = config(enhance="paper_text", channels=1)
    low, high = (
        network_input(jnp.asarray(v), settings, normalization) for v in (x, x.astype(np.float32))
    )
    np.testing.assert_array_equal(low, high)


@pytest.mark.parametrize("preset", ["paper_text", "none"])
def test_enhancement_is_the_one_of_enhance(preset):
    x = slices((40, 48) if preset != "none" else (20, 24))
    got = enhanced(jnp.asarray(x), config(enhance=preset, channels=2))
    want = enhance(
        jnp.asarray(x, jnp.float32)[..., None], preset=preset, gain="unit", size=(20, 24)
    )
    assert got.shape == (2, 20, 24, 2)
    np.testing.assert_array_equal(got[..., 0], want[..., 0])
    np.testing.assert_array_equal(got[..., 0], got[..., 1])


def test_slices_without_enhancement_come_at_the_size_of_the_network():
    assert slice_size(config()) == (20, 24)
    assert slice_size(config(enhance="paper_text")) == (40, 48)
