"""Pictures of every kind that users have, and every way they can be no pictures."""

import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from covjax.data.formats.images import SUFFIXES, list_images, read_image
from covjax.errors import InputError
from tests.data.masks import read_mask

GREY = np.random.default_rng(0).integers(0, 256, (20, 24), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (20, 24, 3), np.uint8)
LUMA = np.array([299, 587, 114]) / 1000  # ITU-R 601-2


def save(path, pixels, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def fails(path, *words, read=read_image, **options):
    with pytest.raises(InputError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".PNG", ".TIFF"])
def test_grey_is_read_as_it_is(tmp_path, suffix):
    read = read_image(save(tmp_path / f"a{suffix}", GREY))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, GREY)


def test_colour_becomes_luminance(tmp_path):
    np.testing.assert_allclose(read_image(save(tmp_path / "a.png", COLOUR)), COLOUR @ LUMA, atol=1)


def test_jpeg_is_close(tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(48)).astype(np.uint8)
    read = read_image(save(tmp_path / "a.JPG", smooth, quality=95)).astype(int)
    assert np.abs(read - smooth).max() <= 4


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_becomes_black(tmp_path, mode):
    image = Image.fromarray(GREY).convert(mode)
    alpha = np.zeros_like(GREY)
    alpha[:10] = 255
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(read[:10], GREY[:10])
    assert not read[10:].any()


@pytest.mark.parametrize("transparency", [None, 7, bytes([255] * 7 + [0])])
def test_palette(tmp_path, transparency):
    indices = np.arange(20 * 24, dtype=np.uint8).reshape(20, 24) % 16
    colours = np.random.default_rng(2).integers(0, 256, (16, 3), np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(colours.tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "a.png", **options)
    expected = (colours @ LUMA)[indices]
    if transparency is not None:
        expected[indices == 7] = 0
    np.testing.assert_allclose(read_image(tmp_path / "a.png"), expected, atol=1)


def test_one_bit(tmp_path):
    bits = GREY > 127
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", bits)), bits * 255)


def test_grey_with_a_transparent_value(tmp_path):
    save(tmp_path / "a.png", GREY, transparency=int(GREY[0, 0]))
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.png"), np.where(GREY[0, 0] == GREY, 0, GREY)
    )


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [12, 16])
def test_sixteen_bit(tmp_path, suffix, bits):
    values = np.random.default_rng(3).integers(0, 2**bits, (20, 24)).astype(np.uint16)
    values[0, :2] = 0, 2**bits - 1
    read = read_image(save(tmp_path / f"a{suffix}", values), bits)
    np.testing.assert_allclose(read, values / (2**bits - 1) * 255, atol=0.51)
    assert read[0, 0] == 0 and read[0, 1] == 255


def test_big_endian_tiff(tmp_path):
    values = (np.arange(480).reshape(20, 24) * 100).astype(np.uint16)
    tags = [
        (256, 4, 24),
        (257, 4, 20),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (278, 4, 20),
        (279, 4, 960),
    ]
    entries = b"".join(
        struct.pack(">HHI", tag, kind, 1)
        + (struct.pack(">HH", v, 0) if kind == 3 else struct.pack(">I", v))
        for tag, kind, v in tags
    )
    body = values.astype(">u2").tobytes()
    header = b"MM\0*" + struct.pack(">I", 8 + len(body))
    (tmp_path / "a.tif").write_bytes(
        header + body + struct.pack(">H", len(tags)) + entries + bytes(4)
    )
    np.testing.assert_allclose(read_image(tmp_path / "a.tif"), values / 65535 * 255, atol=0.51)


def test_sixteen_bit_values_that_do_not_fit(tmp_path):
    values = np.full((20, 24), 5000, np.uint16)
    fails(save(tmp_path / "a.png", values), "5000", "12 bits", "--config.data.bits=16", bits=12)
    fails(save(tmp_path / "b.tif", np.full((20, 24), -1000, np.int32)), "-1000", "--intensity=hu ")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_checksums_of_png_are_compared(tmp_path):
    path = save(tmp_path / "a.png", np.zeros((64, 64), np.uint8))
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 20] ^= 1
    path.write_bytes(content)
    fails(path, "damaged")


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path):
    # beyond Pillow's own limit, and only beyond ours
    for width, height in ((20000, 20000), (9000, 9000)):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
        data = chunk(b"IDAT", zlib.compress(bytes(1000)))
        path = tmp_path / f"{width}.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b""))
        fails(path, "64,000,000 pixels")  # decoding would say: truncated


def test_no_pictures(tmp_path):
    for name, content, word in (
        ("empty.png", b"", "empty"),
        ("text.png", b"patient 1: infected\n" * 50, "not a picture"),
        ("script.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", "not a picture"),
    ):
        (tmp_path / name).write_bytes(content)
        fails(tmp_path / name, word)
    save(tmp_path / "web.png", GREY, format="GIF")
    fails(tmp_path / "web.png", "not a picture")
    fails(tmp_path / "gone.png", "No such file")
    fails(save(tmp_path / "one.png", np.zeros((1, 1), np.uint8)), "1x1", "16x16")
    fails(save(tmp_path / "cmyk.jpg", COLOUR, "CMYK"), "CMYK")
    fails(save(tmp_path / "float.tif", GREY.astype(np.float32)), "--intensity=8bit")
    Image.fromarray(GREY).save(
        tmp_path / "stack.tif", save_all=True, append_images=[Image.fromarray(GREY)] * 2
    )
    fails(tmp_path / "stack.tif", "holds 3 pictures")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_truncated_anywhere(tmp_path, suffix):
    whole = save(tmp_path / f"a{suffix}", np.tile(COLOUR, (4, 4, 1))).read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for share in (0.02, 0.3, 0.6, 0.9):
        cut.write_bytes(whole[: int(len(whole) * share)])
        fails(cut)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([".png", ".jpg", ".tif", ".bmp"]), st.data())
def test_damage_gives_a_picture_or_one_clear_error(tmp_path_factory, suffix, data):
    path = tmp_path_factory.mktemp("damage") / f"a{suffix}"
    content = bytearray(save(path, COLOUR).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 400) - 1))] = data.draw(
            st.integers(0, 255)
        )
    path.write_bytes(content)
    try:
        assert read_image(path).ndim == 2
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("high", [1, 255])
@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P"])
def test_masks(tmp_path, high, mode):
    truth = GREY > 200
    if mode == "1" or (mode == "RGB" and high == 1):
        pixels = truth if mode == "1" else np.repeat((truth * 1).astype(np.uint8)[..., None], 3, -1)
    else:
        pixels = (truth * high).astype(np.uint8)
    path = tmp_path / "a.png"
    if mode == "P":  # class numbers with a palette in which 0 is not black
        image = Image.fromarray(pixels)
        image.putpalette(bytes([9, 9, 9] + [200, 0, 0] * 255))
        image.save(path)
    else:
        save(path, pixels, None if mode == "1" else mode)
    read = read_mask(path)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, truth)


def test_mask_values(tmp_path):
    path = save(tmp_path / "m.png", np.array([[0, 1, 2, 255] * 5] * 16, np.uint8))
    fails(path, "0, 1, 2, 255", "data.classes=1:infected,2:infected,255:infected", read=read_mask)
    fails(save(tmp_path / "s.png", GREY), ", ..", read=read_mask)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "t.png", GREY), 127), GREY > 127)
    fails(save(tmp_path / "w.png", GREY.astype(np.uint16)), "data.mask_threshold", read=read_mask)
    assert not read_mask(save(tmp_path / "z.png", np.zeros_like(GREY))).any()


NAMES = ["a b", "100%", "%s", "2020.01.24-p27", "läsion-影像", "nested/deep/x", "it's", "#1"]


def test_listing_names(tmp_path):
    for name in NAMES:
        save(tmp_path / f"{name}.PNG", GREY)
    (tmp_path / "notes.txt").write_text("no picture")
    for hidden in (".hidden.png", "._mac.png", ".cache/x.png"):
        save(tmp_path / hidden, GREY)
    found = list_images(tmp_path)
    assert set(found) == set(NAMES) and list(found) == sorted(found, key=lambda stem: found[stem])
    for path in found.values():
        np.testing.assert_array_equal(read_image(path), GREY)


def test_listing_every_suffix(tmp_path):
    for suffix in SUFFIXES:
        save(tmp_path / f"{suffix[1:]}{suffix}", GREY)
    assert len(list_images(tmp_path)) == len(SUFFIXES)


def test_listing_links(tmp_path):
    real = save(tmp_path / "elsewhere" / "a.png", GREY)
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "loop").symlink_to(folder)
    (folder / "self.png").symlink_to(real)
    assert list(list_images(folder)) == ["self"]
    (tmp_path / "link").symlink_to(folder)
    assert list(list_images(tmp_path / "link")) == ["self"]
    os.mkfifo(folder / "pipe.png")  # reading it would never end
    assert list(list_images(folder)) == ["self"]
    (folder / "gone.png").symlink_to(tmp_path / "nothing.png")
    with pytest.raises(InputError, match=r"gone\.png.*link to nothing"):
        list_images(folder)


def test_listing_refuses(tmp_path):
    with pytest.raises(InputError, match="holds no picture"):
        list_images(tmp_path)
    save(tmp_path / "a.png", GREY)
    save(tmp_path / "a.BMP", GREY)
    with pytest.raises(InputError, match=r"a\.png.*a\.BMP has the same name"):
        list_images(tmp_path)
