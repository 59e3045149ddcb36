"""What the Python door takes as a slice, and what it says of everything else."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from covjax.data.intensity import WINDOWS, eight_bit
from covjax.errors import InputError
from covjax.screening.slice_values import slices_of, window_of

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 24), np.uint8)
HU = RNG.integers(-1024, 1500, (20, 24)).astype(np.int16)


def taken(images, window=None, bits=0):
    return list(slices_of(images, "images", window, bits))


def refused(images, window=None):
    with pytest.raises(InputError) as error:
        taken(images, window)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "form",
    [
        lambda x: [x],
        lambda x: x,
        lambda x: x[..., None],
        lambda x: [x[..., None]],
        lambda x: x[None],
        lambda x: x[None, ..., None],
        lambda x: (one for one in (x,)),
        lambda x: jnp.asarray(x),
        lambda x: Image.fromarray(x),
        lambda x: {"a": x}.values(),
    ],
)
def test_every_form_of_one_grey_slice_is_taken_as_it_is(form):
    (found,) = taken(form(GREY))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, GREY)


def test_stacks_and_lists_keep_their_order():
    stack = np.stack([GREY, 255 - GREY, GREY // 2])
    for form in (stack, list(stack), iter(stack), stack[..., None]):
        np.testing.assert_array_equal(np.stack(taken(form)), stack)


def test_picture_files_are_read_and_others_are_named(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path)
    for form in (path, str(path), [path], [Image.open(path)]):
        np.testing.assert_array_equal(taken(form)[0], GREY)
        assert "leave out window=" in refused(form, "lung")
    for name in ("scan.nii.gz", "slice.dcm", "folder"):
        message = refused([path, tmp_path / name])
        assert message.startswith("images[1]: ") and "covjax.framework.screen" in message
    assert "cannot be read" in refused(str(tmp_path / "absent.png"))


def test_files_of_16_bits_hold_hu_where_a_window_is_given(tmp_path):
    hu = np.where(GREY > 99, 40, -900).astype(np.int16)
    path = tmp_path / "a.tif"
    Image.fromarray(hu.astype(np.int32)).save(path)
    np.testing.assert_array_equal(taken(path, "lung")[0], taken(hu, "lung")[0])
    assert "window='lung'" in refused(path)


def test_colour_pictures_become_luminance_as_from_a_file(tmp_path):
    colour = Image.fromarray(RNG.integers(0, 256, (20, 24, 3), np.uint8))
    colour.save(tmp_path / "a.png")
    np.testing.assert_array_equal(taken(colour)[0], taken(tmp_path / "a.png")[0])


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(
        [np.int8, np.uint16, np.int16, np.int32, np.int64, np.float16, np.float32, np.float64]
    ),
    low=st.integers(-3000, 3000),
    span=st.integers(0, 4000),
)
def test_all_but_uint8_need_a_window(kind, low, span):
    values = np.linspace(low, low + span, 20 * 24).reshape(20, 24)
    with np.errstate(all="ignore"):
        values = values.astype(kind)
    assert refused([GREY, values]).startswith("images[1]: ")


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from([np.int16, np.int32, np.int64, np.float32, np.float64]),
    window=st.sampled_from(["lung", "mediastinum", "-500,1400", (-500, 1400)]),
    padding=st.sampled_from([None, -2000, -3024]),
)
def test_hu_go_through_the_window(kind, window, padding):
    values = HU.astype(kind)
    if padding is not None:
        values[:3] = padding
    (found,) = taken([values], window)
    expected = np.where(values < -1500, -1000, values)  # what was not measured is air
    np.testing.assert_array_equal(found, eight_bit(expected, WINDOWS.get(window, (-500, 1400))))


@settings(max_examples=60, deadline=None)
@given(
    offset=st.sampled_from([1024, 32768]),
    kind=st.sampled_from([np.int32, np.uint16, np.float32]),
    padding=st.sampled_from([None, -2000, -3024, 63536]),
)
def test_values_with_an_offset_are_never_taken_as_hu(offset, kind, padding):
    values = HU.astype(np.int64) + offset
    if padding is not None and not (kind == np.uint16 and padding < 0):
        values[:3] = padding
    message = refused([values.astype(kind)], "lung")
    assert message.startswith("images[0]: ") and "subtract" in message


@settings(max_examples=40, deadline=None)
@given(
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
    window=st.sampled_from([None, "lung"]),
    place=st.integers(0, 479),
    index=st.integers(0, 5),
)
def test_what_is_no_number_is_refused_by_slice(bad, window, place, index):
    stack = np.stack([HU] * 6).astype(np.float32)
    stack[index].reshape(-1)[place] = bad
    slices = [*(HU if window else GREY for _ in range(index)), stack[index]]
    assert f"images[{index}]: 1 of 480 pixels are NaN or infinite" in refused(slices, window)


@pytest.mark.parametrize("window", [None, "lung"])
@pytest.mark.parametrize("values", [RNG.random((20, 24)), RNG.random((20, 24)) * 2 - 1, GREY > 127])
def test_shares_and_truths_are_no_grey_levels(values, window):
    assert re.search("0..1|bool", refused([values], window))


def test_the_remedies_work():
    shares = RNG.random((20, 24))
    assert "(255 * image).round().astype(np.uint8)" in refused([shares])
    assert taken([(255 * shares).round().astype(np.uint8)])[0].dtype == np.uint8
    assert "window='lung'" in refused([HU])
    assert taken([HU], "lung")
    assert "image[..., 0]" in refused([np.stack([GREY] * 3, -1)])
    assert taken([np.stack([GREY] * 3, -1)[..., 0]])
    assert "image[0]" in refused([np.stack([GREY] * 3)])
    assert taken([np.stack([GREY] * 3)[0]])
    assert "leave out window=" in refused([GREY], "lung")


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((20, 24, 3), "[H, W, C]"),
        ((20, 24, 4), "[H, W, C]"),
        ((3, 20, 24), "[C, H, W]"),
        ((1, 20, 24), "[C, H, W]"),
    ],
)
def test_axes_are_named(shape, axes):
    assert f"is {axes}" in refused([np.zeros(shape, np.uint8)])


def test_a_colour_picture_as_array_is_not_taken_for_a_stack():
    assert "is [H, W, C]" in refused(np.zeros((20, 24, 3), np.uint8))


@pytest.mark.parametrize(
    "nothing",
    [
        None, 3, np.uint8(3), [None], ["x"], [np.zeros((0, 20), np.uint8)],
        [np.zeros((2, 2), np.uint8)],
        [[[1, 2], [3]]], np.zeros(20, np.uint8), [np.zeros(20, np.uint8)],
         [np.array([["a"] * 20] * 20)],
        [np.zeros((20, 20), complex)], [np.zeros((20, 20), object)],
         [np.zeros((2, 20, 20, 3), np.uint8)],
    ],
)  # fmt: skip
def test_whatever_is_no_slice_gets_one_line(nothing):
    assert refused(nothing).startswith("images")


@pytest.mark.parametrize("window", ["lun", "1", "as_is", (1,), (0, 0), (np.nan, 1), 7, "0,-1"])
def test_what_is_no_window(window):
    with pytest.raises(InputError, match="window"):
        window_of(window)


def test_nothing_gives_nothing():
    assert taken([]) == [] and taken(np.zeros((0, 20, 24), np.uint8)) == []
