"""Augmentation: exact flips, image and mask that move together, and keys that belong to a
sample.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.interpolate import BSpline
from scipy.special import betainc

from covjax.errors import InputError
from covjax.fields import read_section, to_dict
from covjax.preprocess.augment import (
    WARP_FIELDS,
    _blurred,
    _key_of,
    augment,
    augment_batch,
    mix_pairs,
)
from covjax.preprocess.settings import Augmentation
from covjax.preprocess.warp import draw_warp

OPERATIONS = ("flip", "warp", "intensity", "noise", "cutout", "mixup")  # with a key each
run = jax.jit(augment, static_argnums=3)
run_batch = jax.jit(augment_batch, static_argnums=3)
GEOMETRY = {"rotation": 40.0, "scale": 0.25, "translation": 0.1, "shear": 10.0, "elastic": 0.1}
GREY = {"intensity": 0.2, "gamma": 0.5, "noise": 0.05, "blur": 1.0}
EVERYTHING = Augmentation(flip=True, **GEOMETRY, **GREY, cutout=0.3)


def keys(n, seed=0):
    return jax.random.split(jax.random.PRNGKey(seed), n)


def noise(n, size=(12, 15), seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *size), np.uint8), rng.choice([0, 1, 255], (n, *size)).astype(
        np.uint8
    )


def blob(size):
    """A tilted ellipse off the centre of the unit square, 200 on 0, as an image and as its mask."""
    y, x = ((np.indices(size) + 0.5) / np.array(size)[:, None, None]) - 0.5
    inside = ((x - 0.1 + 0.5 * y) / 0.22) ** 2 + ((y + 0.08) / 0.13) ** 2 < 1
    return 200 * inside.astype(np.uint8), inside.astype(np.uint8)


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


def test_mask_of_another_size_follows_the_image():
    n = 24
    how = Augmentation(flip=True, **GEOMETRY)
    mask_size = (192, 120)
    image = blob((96, 96))[0]
    mask = blob(mask_size)[1]
    images, masks = run(keys(n), np.stack([image] * n), np.stack([mask] * n), how)
    moved = 0
    for warped, warped_mask in zip(np.asarray(images), np.asarray(masks), strict=True):
        zoomed = ndimage.zoom(
            warped, np.array(mask_size) / 96, order=1, grid_mode=True, mode="grid-constant"
        )
        a = zoomed > 100
        b = warped_mask == 1
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.95
        moved += 2 * (b & (mask == 1)).sum() / (b.sum() + mask.sum()) < 0.8
    assert moved > n / 2  # else the test says nothing


def test_a_warp_against_scipy():
    """Pixel by pixel in float64, from the same draws; what is outside is black, and 255.

    7 nodes of a cubic spline lie at -1/4, 0, .. 5/4 of a side.
    """
    size = (41, 33)
    image = ndimage.gaussian_filter(noise(1, size)[0][0].astype(float), 1.5).astype(np.uint8)
    mask = noise(1, size, seed=1)[1][0]
    how = Augmentation(**GEOMETRY)
    images, masks = run(keys(8), np.stack([image] * 8), np.stack([mask] * 8), how)
    rows, columns = np.indices(size).astype(float)
    rows, columns = ((p - (n - 1) / 2) / n for p, n in zip((rows, columns), size, strict=True))
    basis = [
        BSpline.design_matrix((np.arange(n) + 0.5) / n * 4, np.arange(-3.0, 8), 3).toarray()
        for n in size
    ]
    for key, got, got_mask in zip(keys(8), np.asarray(images), np.asarray(masks), strict=True):
        measures = {field: getattr(how, field) for field in WARP_FIELDS}
        drawn = draw_warp(_key_of(key, "warp"), size, **measures)
        matrix, shift, nodes = (np.asarray(x, np.float64) for x in drawn)
        assert np.abs(nodes).max() <= 0.1 and np.abs(shift).max() <= 0.1
        turned = np.linalg.inv(matrix)
        # as of pixels: only the sides' ratio cancels
        assert 0.75 <= np.sqrt(np.linalg.det(turned)) <= 1.25
        where = [
            (
                matrix[k, 0] * rows
                + matrix[k, 1] * columns
                + shift[k]
                + basis[0] @ nodes[k] @ basis[1].T
            )
            * n
            + (n - 1) / 2
            for k, n in enumerate(size)
        ]
        want = ndimage.map_coordinates(image.astype(float), where, order=1, mode="grid-constant")
        np.testing.assert_allclose(got, want, atol=0.1)
        want_mask = ndimage.map_coordinates(mask, where, order=0, mode="grid-constant", cval=255)
        # midway between two pixels, either is the nearest
        assert (got_mask != want_mask).sum() <= 2


SIDES = [(192, 288), (160, 160), (300, 90)]


def line(size, angle):
    """A bright, soft line through the middle, `angle` degrees from the horizontal."""
    down, right = (np.indices(size) - (np.array(size)[:, None, None] - 1) / 2).astype(float)
    distance = down * np.cos(np.deg2rad(angle)) - right * np.sin(np.deg2rad(angle))
    return np.round(255 * np.exp(-(distance**2) / 18)).astype(np.uint8)


def direction(picture):
    """Degrees from the horizontal of the line in a picture, in -90..90, by its moments within a
    soft circle.
    """
    down, right = (
        np.indices(picture.shape) - (np.array(picture.shape)[:, None, None] - 1) / 2
    ).astype(float)
    weight = (
        picture * np.maximum(1 - (down**2 + right**2) / (0.45 * min(picture.shape)) ** 2, 0) ** 2
    )
    xx, yy, xy = ((weight * product).sum() for product in (right**2, down**2, right * down))
    return np.rad2deg(np.arctan2(2 * xy, xx - yy) / 2)


def between(a, b):
    """Degrees from line a to line b, in -90..90."""
    return (b - a + 90) % 180 - 90


@pytest.mark.parametrize("size", SIDES, ids=str)
def test_a_rotation_turns_every_line_of_the_picture_alike(size):
    """Horizontals, verticals and diagonals by the same angle, in pixels, whatever the sides; masks
    of any size too.
    """
    how = Augmentation(rotation=25.0)
    n = 12
    turned = {}
    for start in (0, 90, 45):
        images, _ = run(keys(n), np.stack([line(size, start)] * n), None, how)
        turned[start] = np.array([between(start, direction(np.asarray(image))) for image in images])
    for start in (90, 45):
        np.testing.assert_allclose(turned[start], turned[0], atol=0.4)
    assert np.abs(turned[0]).max() > 15 and np.abs(turned[0]).max() < 25.4
    mask = ndimage.zoom(
        (line(size, 0) > 100).astype(np.uint8), 0.5, order=0, grid_mode=True, mode="grid-constant"
    )
    _, masks = run(keys(n), np.stack([line(size, 0)] * n), np.stack([mask] * n), how)
    got = [between(0, direction(np.where(np.asarray(m) == 1, 255, 0))) for m in masks]
    np.testing.assert_allclose(got, turned[0], atol=1.5)


@pytest.mark.parametrize("size", SIDES, ids=str)
def test_a_shear_leans_the_verticals_of_the_picture_by_its_angle(size):
    how = Augmentation(shear=20.0)
    n = 24
    leaned = {}
    for start in (0, 90):
        images = run(keys(n), np.stack([line(size, start)] * n), None, how)[0]
        leaned[start] = np.array([between(start, direction(np.asarray(image))) for image in images])
    np.testing.assert_allclose(leaned[0], 0, atol=0.3)
    assert 16 < np.abs(leaned[90]).max() < 20.5
    square = np.stack([line((160, 160), 90)] * n)
    want = [
        between(90, direction(np.asarray(image))) for image in run(keys(n), square, None, how)[0]
    ]
    # the same draw leans alike, whatever the sides
    np.testing.assert_allclose(leaned[90], want, atol=0.5)


MOVES = [
    {"rotation": 15.0, "scale": 0.15},
    {"translation": 0.3},
    {"shear": 30.0},
    {"elastic": 0.12},
    GEOMETRY,
]


@pytest.mark.parametrize("moves", MOVES, ids=lambda moves: "+".join(moves))
@pytest.mark.parametrize(
    ("size", "body"), [((160, 160), (100, 100)), ((90, 130), (90, 130))], ids=["margin", "full"]
)
def test_what_a_warp_brings_in_counts_nowhere(moves, size, body):
    """Each counted pixel comes from the slice: it was brighter than the black around it, and no
    other class appears.
    """
    top, left = ((whole - side) // 2 for whole, side in zip(size, body, strict=True))
    image = np.zeros(size, np.uint8)
    mask = np.full(size, 255, np.uint8)
    image[top : top + body[0], left : left + body[1]] = 200
    mask[top : top + body[0], left : left + body[1]] = np.arange(body[1]) % 2
    n = 16
    images, masks = (
        np.asarray(x)
        for x in run(keys(n), np.stack([image] * n), np.stack([mask] * n), Augmentation(**moves))
    )
    counted = masks != 255
    assert counted.any((1, 2)).all() and (images[counted] > 0).all()
    # and what is still there counts, but for rounding in the tests
    assert ((images == 200) & ~counted).sum() <= 2
    if "translation" in moves:
        assert (counted.sum((1, 2)) < np.prod(size)).all()


def test_a_classifier_gets_the_same_image_with_and_without_a_mask():
    images, masks = noise(8, (40, 60))
    with_mask, alone = (run(keys(8), images, m, Augmentation(**GEOMETRY))[0] for m in (masks, None))
    np.testing.assert_array_equal(with_mask, alone)


def test_intensity_and_gamma_stay_within_their_shares():
    image = np.full((32, 8, 8), 100, np.uint8)
    mask = blob((8, 8))[1]
    got, got_mask = run(keys(32), image, np.stack([mask] * 32), Augmentation(intensity=0.1))
    np.testing.assert_array_equal(got_mask, np.stack([mask] * 32))
    levels = np.asarray(got)[:, 0, 0]
    assert np.ptp(np.asarray(got), axis=(1, 2)).max() < 1e-3
    assert 100 - 35.5 <= levels.min() < 95 and 105 < levels.max() <= 100 + 35.5
    levels = np.asarray(run(keys(32), image, None, Augmentation(gamma=0.5))[0])[:, 0, 0]
    exponents = np.log(levels / 255) / np.log(100 / 255)
    assert 1 / 1.5 <= exponents.min() < 0.8 and 1.25 < exponents.max() <= 1.5


def test_a_blur_against_scipy():
    image = noise(1, (20, 31))[0][0].astype(np.float32)
    for deviation in (0.0, 0.8, 1.5):
        want = ndimage.gaussian_filter(image, deviation, mode="nearest", radius=6)
        np.testing.assert_allclose(_blurred(jnp.asarray(image), deviation, 6), want, atol=1e-3)


def test_noise_has_the_deviation_that_was_drawn():
    got = np.asarray(
        run(keys(64), np.full((64, 32, 32), 128, np.uint8), None, Augmentation(noise=0.1))[0]
    )
    deviations = got.std((1, 2)) / 255
    assert (
        deviations.max() < 0.105 and 0.04 < deviations.mean() < 0.06 and abs(got.mean() - 128) < 1
    )
    assert np.abs(np.corrcoef(got.reshape(64, -1))[np.triu_indices(64, 1)]).max() < 0.2


def test_a_cutout_blanks_the_same_square_of_image_and_mask():
    images = noise(32, (40, 60))[0]
    masks = np.zeros((32, 20, 30), np.uint8)
    got, got_masks = (np.asarray(x) for x in run(keys(32), images, masks, Augmentation(cutout=0.5)))
    areas = []
    for image, changed, mask in zip(images, got, got_masks, strict=True):
        blank = mask.repeat(2, 0).repeat(2, 1) == 255
        inside = ndimage.binary_erosion(blank, iterations=2)
        outside = ~ndimage.binary_dilation(blank, iterations=2)
        np.testing.assert_allclose(changed[inside], image.mean(), rtol=1e-5)
        np.testing.assert_array_equal(changed[outside], image[outside])
        areas.append((mask == 255).mean())
    assert (
        max(areas) <= 0.26
        and min(areas) > 0.05
        and np.mean(areas) == pytest.approx(0.4375**2, abs=0.03)
    )


def batch_of(n, valid=None):
    images, masks = noise(n, seed=3)
    # pairs of the same class, of the other one after swapping ends
    label = np.arange(n, dtype=np.int32) // 2 % 2
    label[::4] = 1 - label[::4]
    return {
        "image": images,
        "mask": masks,
        "label": label,
        "valid": np.ones(n, bool) if valid is None else valid,
    }


def test_mixup_mixes_neighbours_and_their_labels_alike():
    n = 256
    valid = np.ones(256, bool)
    valid[5] = False
    batch = batch_of(n, valid)
    key = jax.random.PRNGKey(1)
    got = run_batch(key, jnp.arange(n), batch, Augmentation(mixup=0.4))
    image = np.asarray(got["image"])
    label = np.asarray(got["label"])
    np.testing.assert_array_equal(got["mask"], batch["mask"])
    np.testing.assert_allclose(label.sum(1), 1, atol=1e-6)
    partner = np.arange(n) ^ 1
    own = []
    for k in range(n):
        if batch["label"][k] == batch["label"][partner[k]]:
            assert label[k, batch["label"][k]] == 1
            continue
        weight = label[k, batch["label"][k]]
        want = weight * batch["image"][k].astype(float) + (1 - weight) * batch["image"][partner[k]]
        np.testing.assert_allclose(image[k], want, atol=0.01)
        own.append(weight)
    # a sample is not mixed with padding
    assert batch["label"][4] != batch["label"][5] and own.pop(2) == 1
    # Quantiles of the larger of w and 1 - w, w from Beta(0.4, 0.4), are spread evenly.
    quantiles = np.sort(2 * betainc(0.4, 0.4, np.array(own)) - 1)
    assert (
        len(own) >= 100
        and np.abs(quantiles - (np.arange(len(own)) + 0.5) / len(own)).max() < 1.6 / len(own) ** 0.5
    )


def test_mixup_of_shares_of_a_batch_is_that_of_the_batch():
    key = jax.random.PRNGKey(0)
    how = Augmentation(mixup=1.0, flip=True)
    batch = batch_of(8)
    whole = run_batch(key, jnp.arange(8), batch, how)
    for first in range(0, 8, 2):
        share = {name: values[first : first + 2] for name, values in batch.items()}
        part = run_batch(key, first + jnp.arange(2), share, how)
        for name in batch:
            np.testing.assert_allclose(part[name], whole[name][first : first + 2], atol=1e-4)
    with pytest.raises(InputError, match="a device gets 3 slices, use an even batch_size"):
        mix_pairs(keys(3), jnp.zeros((3, 4, 4)), jnp.zeros(3, int), jnp.ones(3, bool), 1.0)


def test_a_sample_does_not_depend_on_its_batch_and_is_reproducible():
    images, masks = noise(8)
    whole, again = (run(keys(8), images, masks, EVERYTHING) for _ in range(2))
    for k in range(2):
        np.testing.assert_array_equal(whole[k], again[k])
    turned = run(keys(8)[::-1], images[::-1], masks[::-1], EVERYTHING)
    alone = run(keys(8), np.stack([images[2]] * 8), np.stack([masks[2]] * 8), EVERYTHING)
    for k in range(2):
        np.testing.assert_allclose(whole[k], turned[k][::-1], atol=1e-3)
        np.testing.assert_allclose(whole[k][2], alone[k][2], atol=1e-3)
    other = run(keys(8, seed=1), images, masks, EVERYTHING)[0]
    assert all(np.abs(a - b).max() > 1 for a, b in zip(whole[0], other, strict=True))
    assert set(np.unique(whole[1])) <= {0, 1, 255} and whole[1].dtype == jnp.uint8
    assert whole[0].min() >= 0 and whole[0].max() <= 255 and whole[0].dtype == jnp.float32
    some = Augmentation(flip=True, noise=0.1)
    np.testing.assert_allclose(
        run(keys(8), images, None, some)[0], run(keys(8), images, masks, some)[0], atol=1e-3
    )


def test_fields_that_cannot_be_used():
    fields = to_dict(Augmentation(flip=True))
    read_section(Augmentation(), fields | {"rotation": 180.0, "elastic": 0.12}, "s.augment")
    for field, value, words in (
        ("elastic", 0.2, r"s\.augment\.elastic: 0.2 must be 0 \(off\) to 0.12"),
        ("noise", -0.1, "noise: -0.1 must be"),
        ("blur", float("nan"), "blur: nan must be"),
        ("rotatoin", 1.0, "did you mean 'rotation'"),
    ):
        with pytest.raises(InputError, match=words):
            read_section(Augmentation(), fields | {field: value}, "s.augment")


def test_no_two_operations_draw_from_one_key():
    """Folding in 1 gives what `split` gives second: mixing drew from the warp's key."""
    key = jax.random.PRNGKey(3)
    own = {name: jax.random.key_data(_key_of(key, name)).tobytes() for name in OPERATIONS}
    others = {jax.random.fold_in(key, k).tobytes() for k in range(64)}
    others |= {one.tobytes() for count in range(1, 9) for one in jax.random.split(key, count)}
    for parent in (_key_of(key, name) for name in OPERATIONS):
        others |= {one.tobytes() for one in jax.random.split(parent)}
    assert len(set(own.values())) == len(own) and not set(own.values()) & others
