"""Slices at one physical scale: sizes, alignment of masks, antialiasing, the same from every
format, bad input.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from covjax.configs import framework
from covjax.data.intensity import eight_bit
from covjax.data.loader import SliceReader
from covjax.data.resizing import check_fits, padded, scaled_shape
from covjax.data.sources.registry import open_source
from covjax.data.views import ViewSettings, make_view, whole_box
from covjax.errors import InputError
from covjax.settings import default_config, read_settings
from tests.data.sizes import unpadded
from tests.data.written import SPACING, write_nifti, write_series

ROWS, COLUMNS = SPACING[1:]


def disc(centre, radius, shape):
    """Returns where pixels of SPACING lie within `radius` mm of `centre` mm, bool [*shape]."""
    y, x = np.indices(shape) + 0.5
    return (y * ROWS - centre[0]) ** 2 + (x * COLUMNS - centre[1]) ** 2 < radius**2


MASK = np.stack([disc((12 + 2 * k, 25 - 3 * k), 6 + k, (45, 60)) for k in range(3)]).astype(
    np.uint8
)
VALUES = np.where(MASK, 100, -1000).astype(np.int16)


def source(path, kind="nifti", **fields):
    data = default_config().data
    data.update(dict(source=kind, path=str(path), intensity="hu") | fields)
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


def shown(found, spacing, size=(150, 150)):
    """Returns image and mask of a slice as a network sees them at `spacing` mm, without what is
    around.
    """
    settings = ViewSettings(size, size, spacing)
    view = make_view(
        found.id, found.image.shape, whole_box(found.image.shape), found.spacing, settings
    )
    both = view.picture(found.image), view.truth(found.mask, size)
    assert (both[1][both[0] == 0] == 255).mean() > 0.9
    return tuple(unpadded(pixels, view.shape) for pixels in both)


@pytest.mark.parametrize("spacing", [0.4, 1.1])
def test_images_and_masks_have_one_scale_and_stay_aligned(scans, spacing):
    opened = source(scans / "nifti")
    for k in range(3):
        truth = MASK[k]
        given = opened.load(k)
        assert given.image.shape == truth.shape and given.spacing == pytest.approx((ROWS, COLUMNS))
        found = SimpleNamespace(**dict(zip(("image", "mask"), shown(given, spacing), strict=True)))
        assert (
            found.image.shape
            == found.mask.shape
            == (round(45 * ROWS / spacing), round(60 * COLUMNS / spacing))
        )
        assert set(np.unique(found.mask)) == {0, 1}
        assert found.mask.sum() * spacing**2 == pytest.approx(
            truth.sum() * ROWS * COLUMNS, rel=0.07
        )
        middles = [
            (np.argwhere(mask).mean(0) + 0.5) * step
            for mask, step in ((found.mask, spacing), (truth, (ROWS, COLUMNS)))
        ]
        np.testing.assert_allclose(*middles, atol=0.2)
        height, width = np.ptp(np.argwhere(found.mask), axis=0) + 1  # a disc stays one
        assert abs(height - width) * spacing <= max(spacing, ROWS)
        bright = found.image > 128
        assert (bright != found.mask).mean() < 0.02 and (bright == found.mask)[
            found.mask == 1
        ].mean() > 0.85


def test_a_fine_pattern_becomes_grey_and_no_coarse_one(tmp_path):
    stripes = np.where(np.arange(60) % 2, 400, -1000) * np.ones((2, 45, 1))
    write_nifti(tmp_path / "a.nii", stripes.astype(np.int16))
    write_nifti(tmp_path / "a_mask.nii", MASK[:2])
    image = shown(source(tmp_path).load(0), 2.1)[0][:, 1:-1].astype(float)  # three stripes a pixel
    stored = eight_bit(stripes[0], (-600, 1500))
    assert np.ptp(image) < 0.15 * np.ptp(stored) and abs(image.mean() - stored.mean()) < 4


def test_dicom_and_nifti_of_one_scan_give_the_same_slices(scans):
    nifti, dicom = (source(scans / kind, kind) for kind in ("nifti", "dicom"))
    for k in range(3):
        for one, two in zip(shown(nifti.load(k), 0.9), shown(dicom.load(k), 0.9), strict=True):
            np.testing.assert_array_equal(one, two)
    assert scaled_shape("a", (45, 45), (0.7, 0.7), 1) == scaled_shape(
        "a", (45, 45), np.float32([0.7, 0.7]), 1
    )


def test_slices_are_prepared_whole_whatever_networks_see_of_them(scans):
    plain = source(scans / "nifti")
    for fields in (dict(spacing=1.0), dict(lung_crop=True), dict(spacing=1.5, lung_crop=True)):
        other = source(scans / "nifti", **fields)
        assert other.fingerprint == plain.fingerprint
        np.testing.assert_array_equal(other.load(1).image, plain.load(1).image)
        np.testing.assert_array_equal(other.load(1).mask, MASK[1])


def test_scans_without_usable_spacing(scans, tmp_path):
    write_series(tmp_path / "images" / "a", VALUES, PixelSpacing=None)
    write_nifti(tmp_path / "masks" / "a.nii", MASK)
    source(tmp_path, "dicom").load(0)
    unknown = source(tmp_path, "dicom", spacing=1.0)
    fails(lambda: unknown.load(0), f"{tmp_path}/images/a", "data.spacing=1", "Pixel")
    fails(
        lambda: source(scans / "nifti", spacing=5.0).load(0),
        "a.nii",
        "45x60",
        "(7x8 at",
        "data.spacing",
    )
    fails(
        lambda: scaled_shape("a.nii", (512, 512), (1000.0, 1000.0), 0.1),
        "a.nii",
        "correct its spacing",
    )


@pytest.mark.parametrize("kind, spacing, word", [
    ("folder", 1.0, "data.source=folder hold no spacing"), ("phantom", 1.0, "phantom hold no"),
    ("nifti", 0.01, "0.1 to 10"), ("nifti", -1.0, "0.1 to 10"),
    ("nifti", float("nan"), "0.1 to 10"),
])  # fmt: skip
def test_spacings_that_cannot_be(kind, spacing, word):
    config = framework.get_config()
    config.data.update(source=kind, path=".", spacing=spacing)
    fails(lambda: read_settings(config), "data.spacing", word)


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
    ids = "ab"
    spacings = [(2.0, 2.0)] * 2

    def decode(self, i):
        return np.full((20 + 2 * i, 16), 100, np.uint8), np.full((20 + 2 * i, 16), i, np.uint8)


def test_batches_keep_the_scale_and_count_no_padding():
    reader = SliceReader(
        Two(), np.arange(2), ViewSettings((32, 24), (32, 24), spacing=2.0), cache=False
    )
    for k in range(2):
        item = reader[k]
        assert item["image"].shape == item["mask"].shape == (32, 24)
        assert (item["image"] == 100).sum() == (item["mask"] == k).sum() == (20 + 2 * k) * 16
        assert (item["mask"][item["image"] == 0] == 255).all()
    smaller = SliceReader(
        Two(), np.arange(2), ViewSettings((32, 24), (16, 12), spacing=2.0), cache=False
    )[0]
    assert smaller["image"].shape == (32, 24) and (smaller["mask"] != 255).sum() == 80
