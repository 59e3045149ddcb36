"""Values as files of all kinds hold them: read as what they are, or refused with a remedy that
works.
"""

import itertools
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covjax.data.formats.hounsfield import AIR, OFFSETS, decide, looks_like
from covjax.data.formats.scans import find_scans
from covjax.data.intensity import WINDOWS, eight_bit
from covjax.data.phantom.picture import phantom_slice
from covjax.errors import InputError
from tests.data.written import dicom_slice, save, write_nifti, write_series

OFFERED = re.compile(r"--intensity=(\w+) \(in training --config\.data\.intensity=(\w+)\)")
PADDING = (None, -2000, -3024, 63536)
TYPES = (np.int16, np.uint16, np.float32)


def chest(slices=5, size=64):
    """Returns HU [slices, size, size], air and body, and where a scanner measures nothing: out of a
    circle.
    """
    pictures = [
        phantom_slice(0, k, slices_per_patient=slices, size=size, seed=0)[0] for k in range(slices)
    ]
    hu = np.rint(np.stack(pictures) * (1500 / 255) - 1350).clip(-1024)
    side = np.linspace(-1, 1, size)
    outside = np.broadcast_to(np.hypot(side, side[:, None]) > 1, hu.shape)
    return np.where(outside, AIR, hu), outside


BASE, OUTSIDE = chest()
PIXELS = eight_bit(BASE, WINDOWS["lung"])


def stored(dtype, offset, padding):
    """Returns the chest as files hold it; None where the type cannot. Signed values in an unsigned
    type wrap.
    """
    values = BASE + offset
    if padding is not None:
        values = np.where(OUTSIDE, padding, values)
    if dtype == np.int16:
        values = np.where(values == 63536, -2000, values)  # the same 16 bits
        return values.astype(dtype) if values.max() < 2**15 else None
    return (values % 65536).astype(dtype) if dtype == np.uint16 else values.astype(dtype)


def pixels(path, declared="auto"):
    (opener,) = find_scans(path, declared).values()
    volume = opener()
    hu = np.stack([volume.read(k) for k in range(len(volume))])
    assert volume.intensity == "hu"
    return eight_bit(hu, WINDOWS["lung"])


def check(read, offset):
    """Asserts that `read(declared)` gives the chest, or refuses with remedies of which the true one
    gives it.
    """
    try:
        found = read("auto")
    except InputError as error:
        offered = {one for one, other in OFFERED.findall(str(error)) if one == other}
        true = [kind for kind in offered if OFFSETS[kind] == offset]
        assert len(true) == 1 and "\n" not in str(error), error
        np.testing.assert_array_equal(read(true[0]), PIXELS)
        return "refused"
    np.testing.assert_array_equal(found, PIXELS)
    return "read"


@pytest.mark.parametrize(
    "dtype, offset, padding", list(itertools.product(TYPES, (0, 1024, 32768), PADDING))
)
def test_nifti(tmp_path, dtype, offset, padding):
    values = stored(dtype, offset, padding)
    if values is not None:
        write_nifti(tmp_path / "a.nii", values, "RAS")
        outcome = check(lambda declared: pixels(tmp_path / "a.nii", declared), offset)
        assert outcome == ("read" if offset == 0 and dtype != np.uint16 else "refused")


@pytest.mark.parametrize(
    "tags", [{}, {"RescaleType": "HU"}, {"PixelPaddingValue": ...}], ids=["bare", "hu", "padding"]
)
@pytest.mark.parametrize(
    "dtype, offset, padding", list(itertools.product(TYPES[:2], (0, 1024, 32768), PADDING))
)
def test_dicom(tmp_path, dtype, offset, padding, tags):
    values = stored(dtype, offset, padding)
    if values is None:
        return
    signed = dtype == np.int16
    if "PixelPaddingValue" in tags and padding is not None:
        tags = {"PixelPaddingValue": int(values[0, 0, 0])}
    tags = {name: value for name, value in tags.items() if value is not ...}

    def change(data, k):
        data.PixelData = values[k].tobytes()

    write_series(
        tmp_path, BASE, change, RescaleIntercept=0, PixelRepresentation=int(signed), **tags
    )
    outcome = check(lambda declared: pixels(tmp_path, declared), offset)
    assert outcome == ("read" if offset == 0 and signed else "refused")


@pytest.mark.parametrize(
    "bits, padding", list(itertools.product((12, 16), (None, -2000, -3024, 63536, 65535, 0)))
)
def test_dicom_rescaled_with_padding_in_bits_that_do_not_count(tmp_path, bits, padding):
    values = (BASE + 1024).astype(np.int64)
    # 0 is stored for what is air, too
    values = np.where(OUTSIDE, 24 if padding is None else padding, values)

    def change(data, k):
        data.PixelData = (values[k] % 65536).astype(np.uint16).tobytes()
        data.BitsStored = bits
        data.HighBit = bits - 1
        if padding == 0:
            data.PixelPaddingValue = 0

    write_series(tmp_path, BASE, change)
    found = pixels(tmp_path)
    if padding == 0:  # air that measured no more than padding becomes air, too
        assert np.abs(found.astype(int) - PIXELS).max() <= 5
    else:
        np.testing.assert_array_equal(found, PIXELS)


def test_padding_ranges_and_padding_that_is_tissue(tmp_path):
    values = (BASE + 1024).astype(np.int64)
    ring = np.where(OUTSIDE, -2000 + np.arange(64) % 7, values)

    def change(data, k):
        data.PixelData = (ring[k]).astype(np.int16).tobytes()

    limits = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1994}
    write_series(tmp_path / "range", BASE, change, PixelRepresentation=1, **limits)
    np.testing.assert_array_equal(pixels(tmp_path / "range"), PIXELS)
    # what the body holds is none
    write_series(tmp_path / "water", BASE, PixelPaddingValue=1024 + 40)
    np.testing.assert_array_equal(pixels(tmp_path / "water"), PIXELS)


@pytest.mark.parametrize("shades", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("tags", [{}, {"PixelPaddingValue": -2000}])
def test_padding_of_8_bit_values_is_black_whatever_white_is(tmp_path, shades, tags):
    grey = np.random.default_rng(0).integers(10, 250, (2, 40, 40)).astype(float)
    padded = np.where(np.arange(40) < 9, -2000, grey)
    for k in range(2):
        data = dicom_slice(
            padded,
            k,
            RescaleIntercept=0,
            PixelRepresentation=1,
            PhotometricInterpretation=shades,
            **tags,
        )
        data.PixelData = padded[k].astype(np.int16).tobytes()
        save(data, tmp_path / f"{k}.dcm")
    (volume,) = (opener() for opener in find_scans(tmp_path, "8bit").values())
    expected = 255 - grey if shades == "MONOCHROME1" else grey
    np.testing.assert_array_equal(volume.read(1), np.where(np.arange(40) < 9, 0, expected[1]))


def test_overlays_in_unused_bits_are_no_values(tmp_path):
    values = (BASE + 1024).astype(np.uint16)
    drawn = values | np.uint16(0x8000) * (np.arange(64) % 9 == 0)

    def change(data, k):
        data.PixelData = drawn[k].astype(np.uint16).tobytes()
        data.BitsStored = 12
        data.HighBit = 11

    write_series(tmp_path, BASE, change)
    np.testing.assert_array_equal(pixels(tmp_path), PIXELS)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([0, 1024, 32768]),
    st.one_of(st.none(), st.integers(-32768, -1600), st.integers(2**16 - 3000, 2**16 - 1)),
    st.floats(0.0, 40.0),
    st.integers(0, 2**32 - 1),
)
def test_any_padding_and_noise(offset, padding, noise, seed):
    values = BASE + offset + np.random.default_rng(seed).normal(0, noise, BASE.shape)
    truth = eight_bit(
        np.where(OUTSIDE & (padding is not None), AIR, values - offset), WINDOWS["lung"]
    )
    if padding is not None:
        values = np.where(OUTSIDE, padding, values)

    def read(declared):
        return eight_bit(decide(Path("a"), values, declared).convert(values), WINDOWS["lung"])

    try:
        found = read("auto")
    except InputError as error:
        offered = [kind for kind, _ in OFFERED.findall(str(error)) if OFFSETS[kind] == offset]
        found = read(offered[0])
    assert np.abs(found.astype(int) - truth).max() <= 1


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([k for k in OFFSETS]), st.sampled_from([0, 1024, 32768]))
def test_what_is_declared_is_not_believed_against_the_values(declared, offset):
    values = BASE + offset
    if OFFSETS[declared] == offset:
        assert decide(Path("a"), values, declared).intensity == "hu"
        return
    with pytest.raises(InputError, match=f"cannot be what --intensity={declared} says"):
        decide(Path("a"), values, declared)


@pytest.mark.parametrize(
    "values, declared, words",
    [
        (
            np.where(OUTSIDE, -1000, PIXELS.astype(int)),
            "auto",
            ("--intensity=hu ", "--intensity=8bit"),
        ),
        (PIXELS, "hu_plus_1024", ("8-bit", "--intensity=8bit")),
        (BASE, "8bit", ("HU", "--intensity=hu ")),
        (BASE - 1024, "auto", ("neither",)),  # rescaled twice
        (BASE - 1024, "hu", ("neither",)),
        (PIXELS / 255, "auto", ("neither",)),
        (PIXELS / 255, "8bit", ("neither",)),
    ],
)
def test_refused(values, declared, words):
    with pytest.raises(InputError) as caught:
        decide(Path("a.nii"), np.float32(values), declared)
    assert all(word in str(caught.value) for word in ("a.nii: values", *words)), caught.value
    for kind, _ in OFFERED.findall(str(caught.value)):
        assert decide(Path("a.nii"), np.float32(values), kind)


def test_hu_that_the_file_declares_are_no_8_bit_values(tmp_path):
    values = PIXELS.astype(np.int16)

    def change(data, k):
        data.PixelData = values[k].tobytes()

    write_series(tmp_path, BASE, change, RescaleIntercept=0, RescaleType="HU")
    with pytest.raises(InputError, match="may be HU or 8-bit.*--intensity=hu or --intensity=8bit"):
        pixels(tmp_path)
    (opener,) = find_scans(tmp_path, "8bit").values()
    np.testing.assert_array_equal(opener().read(2), PIXELS[2])


def test_scans_of_a_chest_cut_out_of_its_surroundings_are_hu():
    for background in (-1024, -1000, -2000, 0):
        values = np.where(OUTSIDE | (BASE < -990), background, BASE)
        assert decide(Path("a"), values).intensity == "hu"
    assert looks_like(BASE) == ("hu",)


def test_two_values_may_be_padding():
    values = np.where(OUTSIDE, -2000, BASE)
    values[:, :9] = -3024
    assert set(decide(Path("a"), values).assumed) == {(-2000.0, -2000.0), (-3024.0, -3024.0)}
    expected = np.where(values < -1500, AIR, BASE)
    np.testing.assert_array_equal(decide(Path("a"), values).convert(values), expected)


def test_bytes_stay_bytes(tmp_path):
    for values in (PIXELS, np.where(PIXELS > 100, 255, 0).astype(np.uint8)):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
        (opener,) = find_scans(tmp_path / "a.nii").values()
        assert opener().intensity == "8bit"


def test_notes_say_what_was_assumed_and_what_was_declared():
    values = np.where(OUTSIDE, -2000, BASE + 1024)
    (offset, padding) = decide(Path("a"), values, "hu_plus_1024").notes
    assert offset == "values taken as HU + 1024, as declared"
    assert padding == "-2000, alone far from the rest, taken for padding, shown as air"
    assert decide(Path("a"), BASE).notes == ()
    assert (
        decide(Path("a"), np.where(OUTSIDE, -2000, BASE), padding=((-2000.0, -2000.0),)).notes == ()
    )
