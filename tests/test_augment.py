"""Augmentation: exact flips, image and mask that move together, and keys that belong to a sample."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from covjax.augment import Augmentation, augment

run = jax.jit(augment, static_argnums=3)


def keys(n, seed=0):
    return jax.random.split(jax.random.PRNGKey(seed), n)


def noise(n, size=(12, 15), seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 255, (n, *size)).astype(np.float32), rng.choice([0, 1, 255], (n, *size)).astype(np.int32)


def blob(size):
    """A tilted ellipse off the centre of the unit square, 200 on 0, as an image and as its mask."""
    y, x = ((np.indices(size) + 0.5) / np.array(size)[:, None, None]) - 0.5
    inside = ((x - 0.1 + 0.5 * y) / 0.22) ** 2 + ((y + 0.08) / 0.13) ** 2 < 1
    return 200.0 * inside.astype(np.float32), inside.astype(np.int32)


def test_off_is_the_identity():
    images, masks = noise(3)
    got = augment(keys(3), jnp.asarray(images), jnp.asarray(masks), Augmentation())
    np.testing.assert_array_equal(got[0], images)
    np.testing.assert_array_equal(got[1], masks)


def test_flips_are_exact_and_all_four_occur():
    images, masks = noise(64)
    got_images, got_masks = run(keys(64), images, masks, Augmentation(flip=True))
    seen = set()
    for image, mask, got, got_mask in zip(images, masks, got_images, got_masks, strict=True):
        found = [(r, c) for r in (1, -1) for c in (1, -1) if np.array_equal(got, image[::r, ::c])]
        assert len(found) == 1
        r, c = found[0]
        np.testing.assert_array_equal(got_mask, mask[::r, ::c])
        seen.add(found[0])
    assert len(seen) == 4


@pytest.mark.parametrize("mask_size", [(96, 96), (48, 48), (192, 120)])
def test_mask_follows_the_image(mask_size):
    n, how = 24, Augmentation(flip=True, rotation=40.0, scale=0.25)
    image, mask = blob((96, 96))[0], blob(mask_size)[1]
    images, masks = run(keys(n), np.stack([image] * n), np.stack([mask] * n), how)
    moved = 0
    for warped, warped_mask in zip(np.asarray(images), np.asarray(masks), strict=True):
        zoomed = ndimage.zoom(warped, np.array(mask_size) / 96, order=1, grid_mode=True, mode="grid-constant")
        a, b = zoomed > 100, warped_mask == 1
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.95
        moved += 2 * (b & (mask == 1)).sum() / (b.sum() + mask.sum()) < 0.8
    assert moved > n / 2  # else the test says nothing


def test_rotation_and_scale_against_scipy():
    image = ndimage.gaussian_filter(noise(1, (41, 41))[0][0], 2)
    how = Augmentation(rotation=30.0, scale=0.2)
    for key in keys(6):
        got = np.asarray(run(key[None], image[None], None, how)[0][0])
        # The same draw as the code makes; what is tested is what becomes of angle and zoom.
        u = np.asarray(jax.random.uniform(jax.random.split(key, 3)[1], (2,), minval=-1.0, maxval=1.0), np.float64)
        angle, zoom = np.deg2rad(u[0] * 30), 1 + u[1] * 0.2
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
        want = ndimage.affine_transform(image, matrix, offset=20 - matrix @ [20, 20], order=1, mode="grid-constant")
        np.testing.assert_allclose(got, want, atol=0.02)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000))
def test_mask_values_are_kept_and_the_image_stays_in_range(seed):
    images, masks = noise(4, seed=seed)
    how = Augmentation(flip=True, rotation=90.0, scale=0.5, intensity=0.5)
    got_images, got_masks = run(keys(4, seed), images, masks, how)
    assert set(np.unique(got_masks)) <= {0, 1, 255} and got_masks.dtype == jnp.int32
    assert got_images.min() >= 0 and got_images.max() <= 255


def test_intensity_leaves_the_mask_and_stays_within_its_share():
    image, mask = np.full((32, 8, 8), 100, np.float32), blob((8, 8))[1]
    got, got_mask = run(keys(32), image, np.stack([mask] * 32), Augmentation(intensity=0.1))
    np.testing.assert_array_equal(got_mask, np.stack([mask] * 32))
    levels = np.asarray(got)[:, 0, 0]
    assert np.ptp(np.asarray(got), axis=(1, 2)).max() < 1e-3
    assert 100 - 35.5 <= levels.min() < 95 and 105 < levels.max() <= 100 + 35.5


def test_a_sample_does_not_depend_on_its_batch_and_is_reproducible():
    images, masks = noise(8)
    how = Augmentation(flip=True, rotation=20.0, scale=0.1, intensity=0.1)
    whole = run(keys(8), images, masks, how)
    again = run(keys(8), images, masks, how)
    parts = [run(keys(8)[k : k + 2], images[k : k + 2], masks[k : k + 2], how) for k in range(0, 8, 2)]
    for k in range(2):
        np.testing.assert_array_equal(whole[k], again[k])
        np.testing.assert_allclose(whole[k], np.concatenate([p[k] for p in parts]), atol=1e-4)
    other = run(keys(8, seed=1), images, masks, how)[0]
    assert all(np.abs(a - b).max() > 1 for a, b in zip(whole[0], other, strict=True))


def test_without_a_mask():
    images, masks = noise(4)
    how = Augmentation(flip=True, rotation=20.0, intensity=0.1)
    alone, none = run(keys(4), images, None, how)
    assert none is None
    np.testing.assert_allclose(alone, run(keys(4), images, masks, how)[0], atol=1e-4)
