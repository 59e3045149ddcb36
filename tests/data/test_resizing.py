"""Slices at one physical scale: sizes, alignment of masks, antialiasing, the same from every format, bad input."""

import numpy as np
import pytest

from configs import common, framework
from covjax.config import check_config
from covjax.data.intensity import eight_bit
from covjax.data.loader import SliceReader, SliceSizes
from covjax.data.resizing import check_fits, padded, scaled_shape, unpadded
from covjax.data.sources import open_source
from covjax.errors import InputError
from tests.data.written import SPACING, write_nifti, write_series

ROWS, COLUMNS = SPACING[1:]


def disc(centre, radius, shape):
    """Returns where pixels of SPACING lie within `radius` mm of `centre` mm, bool [*shape]."""
    y, x = np.indices(shape) + 0.5
    return (y * ROWS - centre[0]) ** 2 + (x * COLUMNS - centre[1]) ** 2 < radius**2


MASK = np.stack([disc((12 + 2 * k, 25 - 3 * k), 6 + k, (45, 60)) for k in range(3)]).astype(np.uint8)
VALUES = np.where(MASK, 100, -1000).astype(np.int16)


def source(path, kind="nifti", **fields):
    data = common.run().data
    data.update(dict(source=kind, path=str(path)) | fields)
    return open_source(data)


def fails(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Folders of one scan: nifti, in an orientation of its own, and dicom."""
    folder = tmp_path_factory.mktemp("scans")
    write_nifti(folder / "nifti" / "images" / "a.nii", VALUES, "PIR")
    write_series(folder / "dicom" / "images" / "a", VALUES)
    for kind in ("nifti", "dicom"):
        write_nifti(folder / kind / "masks" / "a.nii", MASK, "RAS")
    return folder


@pytest.mark.parametrize("spacing", [0.4, 1.1])
def test_images_and_masks_have_one_scale_and_stay_aligned(scans, spacing):
    opened = source(scans / "nifti", spacing=spacing)
    for k in range(3):
        found, truth = opened.load(k), MASK[k]
        assert found.image.shape == found.mask.shape == (round(45 * ROWS / spacing), round(60 * COLUMNS / spacing))
        assert found.spacing == (spacing, spacing) and set(np.unique(found.mask)) == {0, 1}
        assert found.mask.sum() * spacing**2 == pytest.approx(truth.sum() * ROWS * COLUMNS, rel=0.07)
        middles = [
            (np.argwhere(mask).mean(0) + 0.5) * step for mask, step in ((found.mask, spacing), (truth, (ROWS, COLUMNS)))
        ]
        np.testing.assert_allclose(*middles, atol=0.2)
        height, width = np.ptp(np.argwhere(found.mask), axis=0) + 1  # a disc stays one
        assert abs(height - width) * spacing <= max(spacing, ROWS)
        bright = found.image > 128
        assert (bright != found.mask).mean() < 0.02 and (bright == found.mask)[found.mask == 1].mean() > 0.85


def test_a_fine_pattern_becomes_grey_and_no_coarse_one(tmp_path):
    stripes = np.where(np.arange(60) % 2, 400, -1000) * np.ones((2, 45, 1))
    write_nifti(tmp_path / "a.nii", stripes.astype(np.int16))
    write_nifti(tmp_path / "a_mask.nii", MASK[:2])
    image = source(tmp_path, spacing=2.1).load(0).image[:, 1:-1].astype(float)  # three stripes a pixel
    stored = eight_bit(stripes[0], (-600, 1500))
    assert np.ptp(image) < 0.15 * np.ptp(stored) and abs(image.mean() - stored.mean()) < 4


def test_dicom_and_nifti_of_one_scan_give_the_same_slices(scans):
    nifti, dicom = (source(scans / kind, kind, spacing=0.9) for kind in ("nifti", "dicom"))
    for k in range(3):
        one, two = nifti.load(k), dicom.load(k)
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.mask, two.mask)
    assert scaled_shape("a", (45, 45), (0.7, 0.7), 1) == scaled_shape("a", (45, 45), np.float32([0.7, 0.7]), 1)


def test_prepared_data_are_told_apart_by_their_spacing(scans):
    stored, coarse, coarser = (source(scans / "nifti", spacing=s).fingerprint for s in (0.0, 1.0, 1.5))
    assert len({stored, coarse, coarser}) == 3
    cropped = source(scans / "nifti", spacing=1.0, lung_crop=True).load(0)
    assert cropped.image.shape == cropped.mask.shape


def test_scans_without_usable_spacing(scans, tmp_path):
    write_series(tmp_path / "images" / "a", VALUES, PixelSpacing=None)
    write_nifti(tmp_path / "masks" / "a.nii", MASK)
    source(tmp_path, "dicom").load(0)
    fails(lambda: source(tmp_path, "dicom", spacing=1.0).load(0), f"{tmp_path}/images/a", "data.spacing=1", "Pixel")
    fails(lambda: source(scans / "nifti", spacing=5.0).load(0), "a.nii", "45x60", "(7x8 at", "data.spacing")
    fails(lambda: scaled_shape("a.nii", (512, 512), (1000.0, 1000.0), 0.1), "a.nii", "correct its spacing")


@pytest.mark.parametrize("kind, spacing, word", [
    ("folder", 1.0, "data.source=folder hold no spacing"), ("phantom", 1.0, "phantom hold no"),
    ("nifti", 0.01, "0.1 to 10"), ("nifti", -1.0, "0.1 to 10"), ("nifti", float("nan"), "0.1 to 10"),
])  # fmt: skip
def test_spacings_that_cannot_be(kind, spacing, word):
    config = framework.get_config()
    config.data.update(source=kind, path=".", spacing=spacing)
    fails(lambda: check_config(config), "data.spacing", word)


def test_padding_centres_and_comes_off_again():
    rng = np.random.default_rng(0)
    for shape in ((7, 9), (8, 9), (12, 13), (1, 12)):
        pixels = rng.integers(1, 256, shape, np.uint8)
        whole = padded(pixels, (12, 13), 0)
        assert whole.shape == (12, 13) and whole.sum() == pixels.sum()
        np.testing.assert_array_equal(unpadded(whole, shape), pixels)
    with pytest.raises(ValueError, match="do not fit"):
        padded(np.zeros((13, 3), np.uint8), (12, 13), 0)


def test_what_is_larger_than_the_network_takes_is_refused_rather_than_cut():
    check_fits("a_0001", (304, 200), (304, 304), 1.0, "segmenter.input.size")
    fails(
        lambda: check_fits("a_0001", (350, 320), (304, 304), 1.0, "segmenter.input.size"),
        "a_0001", "350x320", "segmenter.input.size=(304, 304)", "data.spacing=1.16 or more",
    )  # fmt: skip


class Two:
    """Prepared slices of two sizes."""

    labels = np.array([0, 1], np.int32)

    def decode(self, i):
        return np.full((10 + i, 8), 100, np.uint8), np.full((10 + i, 8), i, np.uint8)


def test_batches_keep_the_scale_and_count_no_padding():
    reader = SliceReader(Two(), np.arange(2), SliceSizes((16, 12), (16, 12), stretched=False), cache=False)
    for k in range(2):
        item = reader[k]
        assert item["image"].shape == item["mask"].shape == (16, 12)
        assert (item["image"] == 100).sum() == (item["mask"] == k).sum() == (10 + k) * 8
        assert (item["mask"][item["image"] == 0] == 255).all()
    smaller = SliceReader(Two(), np.arange(2), SliceSizes((16, 12), (8, 6), stretched=False), cache=False)[0]
    assert smaller["image"].shape == (16, 12) and (smaller["mask"] != 255).sum() == 20
