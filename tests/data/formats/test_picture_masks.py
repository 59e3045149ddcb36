"""Masks in pictures of every kind: read as what they mark, or refused with advice that works on the
whole set.
"""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from covjax.data.formats.picture_masks import MaskFiles
from covjax.data.sources.registry import open_source
from covjax.data.sources.scans import ENDINGS
from covjax.errors import InputError
from tests.data.formats.test_deep_pictures import write_tiff
from tests.data.masks import read_mask
from tests.data.sources.test_registry import config, picture

RNG = np.random.default_rng(0)
TRUTH = [np.zeros((20, 24), bool), RNG.random((20, 24)) > 0.7, RNG.random((20, 24)) > 0.9]
ADVICE = re.compile(r"--config\.data\.(mask_threshold|classes)=(\S+)")


def write_set(folder, masks, mode=None, suffix=".png"):
    """Writes a folder of slices with these masks."""
    for k, values in enumerate(masks):
        for name in ("images", "masks"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 255, (20, 24), np.uint8)).save(
            folder / "images" / f"{k}.png"
        )
        image = values if isinstance(values, Image.Image) else Image.fromarray(values)
        (image.convert(mode) if mode else image).save(folder / "masks" / f"{k}{suffix}")
    return folder


def masks_of(folder, **fields):
    source = open_source(config(folder, **fields))
    return [source.load(i).mask for i in range(len(source.ids))]


def follow(folder):
    """Returns the masks as the advice of the refusal has them read."""
    with pytest.raises(InputError) as caught:
        masks_of(folder)
    assert "\n" not in str(caught.value)
    ((field, value),) = ADVICE.findall(str(caught.value))
    return masks_of(folder, **{field: int(value) if field == "mask_threshold" else value})


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([np.uint8, np.uint16, np.int32]), st.integers(1, 255), st.booleans())
def test_two_values_that_are_the_same_in_all_masks_are_read(tmp_path_factory, dtype, value, wide):
    value = value * 257 if wide and dtype != np.uint8 else value
    suffix = ".tif" if dtype == np.int32 else ".png"
    folder = write_set(
        tmp_path_factory.mktemp("m"), [truth * dtype(value) for truth in TRUTH], suffix=suffix
    )
    for found, truth in zip(masks_of(folder), TRUTH, strict=True):
        np.testing.assert_array_equal(found, truth)


def test_red_on_black_and_transparent_is_read(tmp_path):
    red = [np.where(truth[..., None], np.uint8([255, 0, 0]), np.uint8(0)) for truth in TRUTH]
    clear = [
        np.dstack([np.full((20, 24, 3), 200, np.uint8), truth * np.uint8(255)]) for truth in TRUTH
    ]
    for name, masks in (("red", red), ("clear", clear)):
        for found, truth in zip(masks_of(write_set(tmp_path / name, masks)), TRUTH, strict=True):
            np.testing.assert_array_equal(found, truth)


def test_masks_of_different_values_are_refused_with_advice_for_all_of_them(tmp_path):
    values = (76, 255, 150)
    folder = write_set(tmp_path, [TRUTH[1] * np.uint8(value) for value in values])
    for found in follow(folder):
        np.testing.assert_array_equal(found, TRUTH[1])


@settings(max_examples=20, deadline=None)
@given(st.integers(40, 255), st.integers(0, 2**32 - 1))
def test_advice_for_noisy_masks_empties_none(tmp_path_factory, top, seed):
    rng = np.random.default_rng(seed)
    noisy = [
        np.where(
            truth,
            top - rng.integers(0, top // 8 + 1, truth.shape),
            rng.integers(0, top // 8 + 1, truth.shape),
        )
        for truth in TRUTH
    ]
    for found, truth in zip(
        follow(write_set(tmp_path_factory.mktemp("m"), map(np.uint8, noisy))), TRUTH, strict=True
    ):
        np.testing.assert_array_equal(found, truth)


def test_a_threshold_that_empties_all_masks_is_refused(tmp_path):
    folder = write_set(tmp_path, [truth * np.uint8(76) for truth in TRUTH])
    with pytest.raises(InputError, match="no mask of 3 holds more than 76.*mask_threshold=38"):
        masks_of(folder, mask_threshold=127)
    for found, truth in zip(masks_of(folder, mask_threshold=38), TRUTH, strict=True):
        np.testing.assert_array_equal(found, truth)
    deep = write_set(tmp_path / "deep", [truth * np.uint16(60000) for truth in TRUTH])
    for found, truth in zip(masks_of(deep, mask_threshold=127), TRUTH, strict=True):
        np.testing.assert_array_equal(found, truth)


def test_transparency_of_palettes_and_of_black(tmp_path):
    indices = np.where(TRUTH[2], 2, TRUTH[1]).astype(np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(bytes([9, 9, 9, 200, 0, 0, 0, 200, 0]))
    image.save(tmp_path / "p.png", transparency=2)
    found = read_mask(tmp_path / "p.png", classes={0: 0, 1: 1})
    np.testing.assert_array_equal(found, indices == 1)
    black = np.dstack([np.zeros((20, 24, 3), np.uint8), TRUTH[1] * np.uint8(255)])
    Image.fromarray(black).save(tmp_path / "black.png")
    with pytest.raises(InputError, match="black.png: black wherever it is not transparent"):
        read_mask(tmp_path / "black.png")


def test_floats_that_are_nearly_whole_are_whole(tmp_path):
    near = TRUTH[1] * np.float32(1.0000001) + np.float32(1e-4)
    np.testing.assert_array_equal(read_mask(write_tiff(tmp_path / "near.tif", near)), TRUTH[1])
    with pytest.raises(InputError, match="half.tif: holds fractions"):
        read_mask(write_tiff(tmp_path / "half.tif", TRUTH[1] * np.float32(0.5)))


def test_the_set_is_looked_at_once_and_only_where_it_must(tmp_path, monkeypatch):
    from covjax.data.formats import picture_masks

    read = []
    real = picture_masks.mask_values
    monkeypatch.setattr(picture_masks, "mask_values", lambda path: read.append(path) or real(path))
    for value, passes in ((255, 1), (76, 2)):
        folder = write_set(tmp_path / str(value), [truth * np.uint8(value) for truth in TRUTH])
        paths = sorted((folder / "masks").iterdir())
        read.clear()
        masks = MaskFiles(paths)
        for path in paths:
            masks.read(path)
        assert len(read) == passes * len(paths)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("place", ["masks", "images"])
def test_masks_may_have_the_endings_that_scans_may(tmp_path, place, ending):
    if place == "images" and not ending:
        return
    for k, truth in enumerate(TRUTH):
        picture(tmp_path / "images" / f"s{k}.png", RNG.integers(0, 255, truth.shape, np.uint8))
        picture(tmp_path / place / f"s{k}{ending}.png", truth * np.uint8(255))
    source = open_source(config(tmp_path))
    assert source.ids == ("s0", "s1", "s2")
    for i, truth in enumerate(TRUTH):
        np.testing.assert_array_equal(source.load(i).mask, truth)
    picture(tmp_path / "masks" / "s1_other.png", TRUTH[1] * np.uint8(255))
    with pytest.raises(InputError, match="s1_other.png: a mask without its image"):
        open_source(config(tmp_path))
    second = "s1_label.png" if ending == "_seg" else "s1_seg.png"
    (tmp_path / "masks" / "s1_other.png").rename(tmp_path / "masks" / second)
    with pytest.raises(InputError, match="s1 has another mask"):
        open_source(config(tmp_path))
