"""Labels are read where they lie, refused where they contradict their image, and noted where they
lie elsewhere.
"""

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

from covjax.data.formats.alignment import IN_ORDER, UNSAID, UNSIZED
from covjax.data.formats.label_volumes import label_notes, read_labels
from covjax.data.formats.nifti import mask_files, open_nifti, write_mask
from covjax.data.formats.scans import find_scans
from covjax.data.sources.registry import open_source
from covjax.errors import InputError
from covjax.settings import default_config
from tests.data.written import SPACING, scan, write_nifti, write_series

VALUES = scan()
MASK = (VALUES > 350).astype(np.uint8)
AFFINE = np.array([[-0.7, 0, 0, 90], [0, -0.8, 0, 80], [0, 0, 2.5, -40], [0, 0, 0, 1]])
settings.register_profile("files", max_examples=60, deadline=None)
QUICK = settings.get_profile("files")


def written(folder, affine, image=AFFINE, mask=MASK):
    """Writes a scan and a mask of another affine; returns the volume and the mask's file."""
    for name, values, where in (("a.nii", VALUES, image), ("m.nii", mask, affine)):
        nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), where), folder / name)
    return open_nifti(folder / "a.nii", "hu"), folder / "m.nii"


def labels(path, volume, by="file"):
    return np.stack([read_labels(path, volume, k, by) for k in range(len(volume))])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("alignment")


@given(
    axis=st.integers(0, 2), share=st.floats(-0.3, 0.3).filter(lambda s: abs(abs(s) - 0.01) > 1e-4)
)
@QUICK
def test_voxels_of_another_size_are_refused(folder, axis, share):
    affine = AFFINE.copy()
    affine[:3, axis] *= 1 + share
    volume, path = written(folder, affine)
    if abs(share) > 0.01:
        with pytest.raises(
            InputError,
            match=r"m.nii: voxels of .* mm, but its image .*a.nii.*data.mask_geometry=image",
        ):
            read_labels(path, volume, 0)
    np.testing.assert_array_equal(
        labels(path, volume, "image" if abs(share) > 0.01 else "file"), MASK
    )


@given(
    axis=st.sampled_from(np.eye(3).tolist()),
    degrees=st.floats(-8, 8).filter(lambda d: abs(abs(d) - 0.5) > 1e-2),
)
@QUICK
def test_directions_that_differ_are_refused(folder, axis, degrees):
    affine = AFFINE.copy()
    affine[:3, :3] = (
        Rotation.from_rotvec(np.deg2rad(degrees) * np.array(axis)).as_matrix() @ AFFINE[:3, :3]
    )
    volume, path = written(folder, affine)
    if abs(degrees) > 0.5:
        with pytest.raises(
            InputError, match="turned by .* degrees against its image .*data.mask_geometry=image"
        ):
            read_labels(path, volume, 0)
    np.testing.assert_array_equal(
        labels(path, volume, "image" if abs(degrees) > 0.5 else "file"), MASK
    )


@given(
    voxels=st.lists(
        st.floats(-9, 9).filter(lambda v: abs(abs(v) - 0.5) > 1e-3), min_size=3, max_size=3
    )
)
@QUICK
def test_labels_half_a_voxel_away_are_noted(folder, voxels):
    affine = AFFINE.copy()
    affine[:3, 3] = apply_affine(AFFINE, voxels)
    volume, path = written(folder, affine)
    np.testing.assert_array_equal(labels(path, volume), MASK)
    notes = label_notes(path, volume)
    assert bool(notes) == (max(map(abs, voxels)) >= 0.5)
    distance = np.linalg.norm(np.array(voxels) * SPACING[::-1])
    assert not notes or f"up to {distance:.3g} mm" in notes[0]


@given(codes=st.sampled_from(["LPS", "RAS", "PIR", "IPL"]), seed=st.integers(0, 10**6))
@QUICK
def test_labels_stored_in_another_order_lie_where_they_say(folder, codes, seed):
    turn = np.eye(4)
    turn[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    turn[:3, :3] = Rotation.from_rotvec(
        Rotation.from_matrix(turn[:3, :3]).as_rotvec() / 8
    ).as_matrix()
    volume, path = written(folder, turn @ AFFINE, turn @ AFFINE)
    mask = nibabel.load(path)
    other = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(mask.affine), nibabel.orientations.axcodes2ornt(codes)
    )
    mask.as_reoriented(other).to_filename(folder / "turned.nii")
    np.testing.assert_array_equal(labels(folder / "turned.nii", volume), MASK)
    assert label_notes(folder / "turned.nii", volume) == ()


def test_at_45_degrees_rounding_decides_nothing(folder):
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec([0, 0, np.pi / 4]).as_matrix()
    for nudge in (-1e-5, 1e-5):
        other = np.eye(4)
        other[:3, :3] = Rotation.from_rotvec([0, 0, nudge]).as_matrix() @ turn[:3, :3]
        volume, path = written(folder, other @ AFFINE, turn @ AFFINE)
        seen = np.stack([volume.read(k) > 350 for k in range(len(volume))])
        np.testing.assert_array_equal(labels(path, volume), seen)


def test_units_of_a_mask(folder):
    volume, path = written(folder, np.diag([1e-3, 1e-3, 1e-3, 1]) @ AFFINE)
    image = nibabel.load(path)
    image.header.set_xyzt_units("meter")
    image.to_filename(folder / "metres.nii")
    np.testing.assert_array_equal(labels(folder / "metres.nii", volume), MASK)
    assert label_notes(folder / "metres.nii", volume) == ()
    with pytest.raises(InputError, match="voxels of 0.0025x"):
        read_labels(path, volume, 0)


def test_a_mask_that_does_not_say_where_it_lies(folder):
    volume, path = written(folder, None)
    np.testing.assert_array_equal(labels(path, volume), MASK)
    assert label_notes(path, volume) == (UNSAID,)
    volume, path = written(folder, None, None)
    assert label_notes(path, volume) == () and "does not say" in volume.notes[0]


def config(path, source, **fields):
    data = default_config().data
    data.update(dict(source=source, path=str(path), prepared_dir=str(path / "prepared")) | fields)
    return data


def loaded(path, source="nifti", **fields):
    opened = open_source(config(path, source, **fields))
    return [opened.load(i) for i in range(len(opened.ids))]


def test_an_identity_affine_is_refused_and_the_remedy_works(tmp_path):
    """A mask saved from an array, without the affine of its scan."""
    write_nifti(tmp_path / "images" / "a.nii.gz", VALUES.transpose(2, 1, 0), affine=AFFINE)
    write_nifti(tmp_path / "masks" / "a.nii.gz", MASK.transpose(2, 1, 0), affine=np.eye(4))
    with pytest.raises(
        InputError,
        match="voxels of 1x1x1 mm, but its image .* has 2.5x0.8x0.7 mm.*mask_geometry=image",
    ):
        loaded(tmp_path)
    for s, truth in zip(loaded(tmp_path, mask_geometry="image"), MASK, strict=True):
        np.testing.assert_array_equal(s.mask, truth)
        assert s.notes == ()


def test_sizes_that_a_scan_does_not_say_contradict_nothing(tmp_path):
    write_series(tmp_path / "images" / "a", VALUES, PixelSpacing=None)
    write_nifti(tmp_path / "masks" / "a.nii", MASK)
    for s, truth in zip(loaded(tmp_path, "dicom"), MASK, strict=True):
        np.testing.assert_array_equal(s.mask, truth)
        assert UNSIZED in " ".join(s.notes)


def test_the_other_way_round(tmp_path):
    """Stored in another order, a mask cannot be taken as its scan is, and the error says what to
    set.
    """
    write_nifti(tmp_path / "images" / "a.nii", VALUES, "LPS")
    write_nifti(tmp_path / "masks" / "a.nii", MASK, "SPL")
    with pytest.raises(InputError, match="not stored alike; set data.mask_geometry=file"):
        loaded(tmp_path, mask_geometry="image")
    for s, truth in zip(loaded(tmp_path), MASK, strict=True):
        np.testing.assert_array_equal(s.mask, truth)


def test_masks_that_lie_elsewhere_are_noted_on_every_slice(tmp_path):
    shifted = AFFINE.copy()
    shifted[2, 3] += 15
    write_nifti(tmp_path / "images" / "a.nii", VALUES.transpose(2, 1, 0), affine=AFFINE)
    write_nifti(tmp_path / "masks" / "a.nii", MASK.transpose(2, 1, 0), affine=shifted)
    write_nifti(tmp_path / "lungs" / "a.nii", MASK.transpose(2, 1, 0), affine=shifted)
    (first, second), *others = {s.notes for s in loaded(tmp_path)}
    assert (
        not others
        and "its mask lies up to 15 mm (6 voxels) away" in first
        and "its lung mask lies up" in second
    )


def series(folder, places):
    def move(data, k):
        data.ImagePositionPatient = [10.0, 20.0, 30 + places[k]]

    write_series(folder / "images" / "a", VALUES, move)
    (opener,) = find_scans(folder / "images" / "a").values()
    return opener()


@pytest.mark.parametrize("places", [[0, 5, 10, 40, 45], [0, 5, 40, 45, 50]])
def test_masks_of_a_series_with_a_gap(tmp_path, places):
    """A mask with the slices that are missing, as screening writes it, or one with a slice for
    each.
    """
    volume = series(tmp_path, places)
    (tmp_path / "masks").mkdir()
    write_mask(tmp_path / "masks" / "a.nii.gz", MASK, volume)
    assert nibabel.load(tmp_path / "masks" / "a.nii.gz").shape == (20, 18, places[-1] // 5 + 1)
    for s, truth in zip(loaded(tmp_path, "dicom"), MASK, strict=True):
        np.testing.assert_array_equal(s.mask, truth)
        assert "5 to" in s.notes[0] and len(s.notes) == 1
    write_nifti(tmp_path / "masks" / "a.nii.gz", MASK, "RAS")
    for s, truth in zip(loaded(tmp_path, "dicom"), MASK, strict=True):
        np.testing.assert_array_equal(s.mask, truth)
        assert s.notes[1:] == (IN_ORDER,)


def test_masks_of_a_series_of_several_runs(tmp_path):
    volume = series(tmp_path, [0, 2, 4, 9, 14])
    (tmp_path / "masks").mkdir()
    path = tmp_path / "masks" / "a.nii.gz"
    write_mask(path, MASK, volume)
    assert [nibabel.load(file).shape[2] for file in mask_files(path, volume)] == [3, 2]
    mask_files(path, volume)[0].rename(path)
    mask_files(path, volume)[1].unlink()
    with pytest.raises(InputError, match="3, 18, 20.* a slice for each"):
        loaded(tmp_path, "dicom")
    write_nifti(path, MASK, "RAS")
    for s, truth in zip(loaded(tmp_path, "dicom"), MASK, strict=True):
        np.testing.assert_array_equal(s.mask, truth)
        assert s.notes[1:] == (IN_ORDER,)
