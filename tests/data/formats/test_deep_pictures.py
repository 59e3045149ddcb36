"""Pictures of more than 8 bits: HU where declared, grey levels where they use their bits, else
refused.
"""

import itertools
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from covjax.data.formats.hounsfield import OFFSETS
from covjax.data.formats.images import read_image, read_picture
from covjax.data.intensity import WINDOWS, eight_bit
from covjax.data.sources.registry import open_source
from covjax.errors import InputError
from covjax.screening.inputs import find_screened
from tests.data.formats.test_hounsfield import PADDING, PIXELS, check, stored
from tests.data.formats.test_images import chunk
from tests.data.masks import read_mask
from tests.data.sources.test_registry import config

FORMATS = {"i": 2, "u": 1, "f": 3}  # TIFF's numbers of what samples are
BITS = re.compile(r"--bits=(\d+) \(in training --config\.data\.bits=(\d+)\)")


def write_tiff(path, values):
    """Writes one plane of any dtype, which Pillow does of few."""
    height, width = values.shape
    body = np.ascontiguousarray(values).tobytes()
    tags = {
        256: width,
        257: height,
        258: values.itemsize * 8,
        259: 1,
        262: 1,
        273: 8,
        277: 1,
        278: height,
        279: len(body),
        339: FORMATS[values.dtype.kind],
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<I", 8 + len(body))
    path.write_bytes(head + body + struct.pack("<H", len(tags)) + entries + bytes(4))
    return path


def write(path, values):
    if path.suffix == ".tif":
        return write_tiff(path, values)
    Image.fromarray(values).save(path)
    return path


def pixels(path, declared="auto", bits=0):
    picture = read_picture(path, declared, bits)
    return eight_bit(picture.values, WINDOWS["lung"] if picture.intensity == "hu" else None)


CASES = [
    (suffix, dtype, offset, padding)
    for suffix, dtype in (
        (".tif", np.int16),
        (".tif", np.uint16),
        (".tif", np.float32),
        (".png", np.uint16),
    )
    for offset, padding in itertools.product((0, 1024, 32768), PADDING)
    if stored(dtype, offset, padding) is not None
]


@pytest.mark.parametrize("suffix, dtype, offset, padding", CASES)
def test_hu_in_pictures_are_read_where_declared_and_refused_else(
    tmp_path, suffix, dtype, offset, padding
):
    values = stored(dtype, offset, padding)
    for k in (0, 2, 4):
        path = write(tmp_path / f"a{suffix}", values[k])

        def read(declared, path=path, k=k):
            whole = PIXELS.copy()  # of which `check` compares all
            whole[k] = pixels(path, declared)
            return whole

        assert check(read, offset) == "refused"


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_grey_levels_are_scaled_where_they_use_their_bits(tmp_path, suffix):
    full = write(tmp_path / f"full{suffix}", PIXELS[2].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(full), PIXELS[2])
    black = write(tmp_path / f"black{suffix}", np.zeros((20, 20), np.uint16))
    assert not read_image(black).any()
    for factor, bits in ((16, 12), (1, None)):
        path = write(tmp_path / f"{factor}{suffix}", PIXELS[2].astype(np.uint16) * factor)
        with pytest.raises(InputError) as caught:
            read_image(path)
        text = str(caught.value)
        if bits:
            assert (str(bits), str(bits)) in BITS.findall(text)
            np.testing.assert_allclose(read_image(path, bits), PIXELS[2], atol=1)
        else:
            assert "--intensity=8bit" in text
            np.testing.assert_array_equal(read_picture(path, "8bit").values, PIXELS[2])
        assert ("16", "16") in BITS.findall(text) and read_image(path, 16).max() <= 16


def test_colour_of_16_bits_is_read_where_it_uses_them(tmp_path):
    for factor in (257, 16):
        rows = np.repeat(PIXELS[2].astype(np.uint16)[..., None] * factor, 3, -1).astype(">u2")
        lines = b"".join(b"\0" + row.tobytes() for row in rows)
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", *rows.shape[1::-1], 16, 2, 0, 0, 0))
        path = tmp_path / f"{factor}.png"
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + header
            + chunk(b"IDAT", zlib.compress(lines))
            + chunk(b"IEND", b"")
        )
        if factor == 257:
            np.testing.assert_array_equal(read_image(path), PIXELS[2])
            continue
        with pytest.raises(InputError, match="16.png: 16-bit colour.*save it as 16-bit grey"):
            read_image(path)


def test_fractions(tmp_path):
    unit = write_tiff(tmp_path / "unit.tif", (PIXELS[2] / 255).astype(np.float32))
    for declared in ("auto", "8bit"):
        with pytest.raises(InputError, match=r"unit.tif: values 0\..*\.\.1 "):
            read_picture(unit, declared)
    floats = write_tiff(tmp_path / "floats.tif", PIXELS[2].astype(np.float32))
    np.testing.assert_array_equal(read_picture(floats, "8bit").values, PIXELS[2])
    holes = np.where(PIXELS[2] > 100, np.nan, 0).astype(np.float32)
    with pytest.raises(InputError, match="NaN"):
        read_picture(write_tiff(tmp_path / "nan.tif", holes), "8bit")


def test_every_declared_kind_names_a_picture_that_is_none_of_it(tmp_path):
    path = write(tmp_path / "a.tif", stored(np.uint16, 1024, None)[2])
    for declared in OFFSETS:
        if declared != "hu_plus_1024":
            with pytest.raises(
                InputError, match=f"a.tif: .*cannot be what --intensity={declared} says"
            ):
                read_picture(path, declared)


def test_folders_of_pictures_to_screen_are_of_one_kind(tmp_path):
    for k in (1, 2):
        write(tmp_path / f"{k}.tif", stored(np.uint16, 1024, 63536)[k])
    found, _ = find_screened(tmp_path, "hu_plus_1024", 0, pytest.fail)
    (scan,) = (opener() for opener in found.values())
    assert scan.intensity == "hu"
    for k in (1, 2):
        np.testing.assert_array_equal(eight_bit(scan.read(k - 1), WINDOWS["lung"]), PIXELS[k])
    assert scan.notes == [
        "values taken as HU + 1024, as declared",
        "63536, alone far from the rest, taken for padding, shown as air",
    ]
    Image.fromarray(PIXELS[0]).save(tmp_path / "0.png")
    (scan,) = (
        opener() for opener in find_screened(tmp_path, "hu_plus_1024", 0, pytest.fail)[0].values()
    )
    assert scan.intensity == "8bit" and not (scan.read(0) != PIXELS[0]).any()
    with pytest.raises(InputError, match="1.tif: a picture of more bits.*screen it apart"):
        scan.read(1)


def turned(pixels, orientation):
    """Returns what a camera stores so that a viewer that follows the orientation shows `pixels`."""
    undo = {
        1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1], 5: pixels.T,
        6: np.rot90(pixels), 7: pixels[::-1, ::-1].T, 8: np.rot90(pixels, -1),
    }  # fmt: skip
    return np.ascontiguousarray(undo[orientation])


def save_turned(path, pixels, orientation, **options):
    exif = Image.Exif()
    exif[274] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(turned(pixels, orientation)).save(path, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_pictures_and_masks_are_read_upright(tmp_path, suffix, orientation):

    image = PIXELS[2][:50]
    mask = np.uint8(image > 120) * 255
    options = {"quality": 100} if suffix == ".jpg" else {}
    save_turned(tmp_path / "images" / f"a{suffix}", image, orientation, **options)
    save_turned(tmp_path / "masks" / "a.png", mask, orientation)
    near = 3 if suffix == ".jpg" else 0
    assert np.abs(read_image(tmp_path / "images" / f"a{suffix}").astype(int) - image).max() <= near
    np.testing.assert_array_equal(read_mask(tmp_path / "masks" / "a.png"), mask > 0)
    found = open_source(config(tmp_path)).load(0)  # of training and audit
    assert np.abs(found.image.astype(int) - image).max() <= near and np.array_equal(
        found.mask, mask > 0
    )
    assert not found.notes
    # upright, but drawn on which of the two pictures?
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    found = open_source(config(tmp_path)).load(0)
    assert len(found.notes) == (orientation != 1) and np.array_equal(found.mask, mask > 0)
    (scan,) = (
        opener()
        for opener in find_screened(tmp_path / "images", "auto", 0, pytest.fail)[0].values()
    )
    assert np.abs(scan.read(0).astype(int) - image).max() <= near
    save_turned(tmp_path / "deep.png", image.astype(np.uint16) * 257, orientation)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), image)


def test_folders_of_hu_to_train_on_are_refused_and_read_with_the_field_that_the_refusal_names(
    tmp_path,
):
    for k in (1, 2):
        (tmp_path / "images").mkdir(exist_ok=True)
        write(tmp_path / "images" / f"{k}.tif", stored(np.int16, 1024, -2000)[k])
    (tmp_path / "index.csv").write_text("id,label\n1,0\n2,0\n")
    with pytest.raises(InputError) as caught:
        open_source(config(tmp_path)).load(0)
    (declared,) = re.findall(r"--config\.data\.intensity=(\w+)", str(caught.value))
    source = open_source(config(tmp_path, intensity=declared))
    for i, k in enumerate((1, 2)):
        found = source.load(i)
        assert found.values == "hu" and found.notes[0] == "values taken as HU + 1024, as declared"
        np.testing.assert_array_equal(found.image, PIXELS[k])
    assert source.fingerprint != open_source(config(tmp_path)).fingerprint
