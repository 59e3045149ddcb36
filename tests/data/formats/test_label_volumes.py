"""Label volumes: numbers that are nearly whole, and masks of classes on a fourth axis."""

import tracemalloc

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covjax.data.formats.label_volumes import label_notes, read_labels
from covjax.data.formats.nifti import open_nifti
from covjax.errors import InputError
from tests.data.written import scan, write_nifti

SHAPE = (4, 20, 24)


def written(folder, labels):
    """Returns the scan and the path of its labels, [4, 20, 24] or one such per class on a last
    axis.
    """
    write_nifti(folder / "a.nii", scan(SHAPE))
    affine = nibabel.load(folder / "a.nii").affine
    axes = (2, 1, 0, *range(3, labels.ndim))
    write_nifti(folder / "a_mask.nii", labels.transpose(axes), affine=affine)
    return open_nifti(folder / "a.nii"), folder / "a_mask.nii"


def labels_of(folder, labels):
    volume, path = written(folder, labels)
    return np.stack([read_labels(path, volume, k) for k in range(len(volume))])


def classes_of(seed):
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2], SHAPE, p=[0.9, 0.06, 0.04])
    truth[0] = 0  # a healthy slice
    return truth, rng


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3), st.booleans())
def test_the_whole_volume_says_whether_the_background_has_a_mask(
    tmp_path_factory, seed, missing, with_background
):
    truth, rng = classes_of(seed)
    planes = np.stack([truth == k for k in range(3)], -1).astype(np.uint8)
    for _ in range(missing):  # voxels that no mask marks are background
        planes[tuple(rng.integers(0, n) for n in SHAPE)][0] = 0
    planes = planes if with_background else planes[..., 1:]
    np.testing.assert_array_equal(labels_of(tmp_path_factory.mktemp("m"), planes), truth)


@pytest.mark.parametrize(
    "kind", ["no background and nothing unmarked", "background on others", "much unmarked"]
)
def test_what_is_not_clear_is_refused(tmp_path, kind):
    truth, rng = classes_of(0)
    planes = np.stack([truth == k for k in range(3)], -1).astype(np.uint8)
    if kind == "no background and nothing unmarked":
        planes = planes[..., [1, 0, 2]]
    elif kind == "background on others":
        planes[..., 0] = 1
    else:
        planes[..., 0] &= rng.random(SHAPE) > 0.3
    with pytest.raises(
        InputError,
        match="a_mask.nii: whether the first of its 3 masks is the background is not clear",
    ):
        labels_of(tmp_path, planes)


def test_a_voxel_of_two_classes_is_refused(tmp_path):
    truth, _ = classes_of(4)
    planes = np.stack([truth == k for k in (1, 2)], -1).astype(np.uint8)
    planes[3, 7, 7] = 1
    with pytest.raises(
        InputError, match="a_mask.nii: slice 3 has voxels in several of its 2 masks"
    ):
        labels_of(tmp_path, planes)


@settings(max_examples=15, deadline=None)
@given(st.floats(-9e-4, 9e-4), st.integers(1, 9))
def test_numbers_that_are_nearly_whole_are_whole(tmp_path_factory, error, value):
    truth, _ = classes_of(1)
    found = labels_of(tmp_path_factory.mktemp("m"), (truth * value + error).astype(np.float32))
    np.testing.assert_array_equal(found, truth * value)


def test_bytes_with_a_slope_are_the_numbers_that_they_mean(tmp_path):
    truth, _ = classes_of(2)
    volume, path = written(tmp_path, np.uint8(truth > 0) * np.uint8(255))
    content = bytearray(path.read_bytes())
    content[112:116] = np.float32(1 / 255).tobytes()
    path.write_bytes(content)
    assert nibabel.load(path).get_fdata().max() != 1
    found = np.stack([read_labels(path, volume, k) for k in range(len(volume))])
    np.testing.assert_array_equal(found, truth > 0)


@pytest.mark.parametrize("slope", [1, 1 / 255])
def test_reading_a_slice_does_not_load_the_volume(tmp_path, slope):
    labels = np.zeros((60, 64, 64), np.uint8)
    write_nifti(tmp_path / "a.nii", scan(labels.shape))
    write_nifti(tmp_path / "a_mask.nii", labels)
    volume = open_nifti(tmp_path / "a.nii")
    path = tmp_path / "a_mask.nii"
    content = bytearray(path.read_bytes())
    content[112:116] = np.float32(slope).tobytes()
    path.write_bytes(content)
    read_labels(path, volume, 0)  # what is kept from the first call on
    tracemalloc.start()
    read_labels(path, volume, 1)
    label_notes(path, volume)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * labels.nbytes


def test_fractions_are_refused(tmp_path):
    truth, _ = classes_of(3)
    with pytest.raises(InputError, match="no whole numbers"):
        labels_of(tmp_path, truth * np.float32(0.99))
