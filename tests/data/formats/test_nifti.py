"""NIfTI volumes: every orientation reads alike, masks come back where the volume is, bad files are
named.
"""

import gzip
import itertools
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from covjax.data.formats import nifti
from covjax.data.formats.geometry import is_sheared
from covjax.data.formats.nifti import open_nifti, write_mask
from covjax.data.formats.scans import find_scans
from covjax.errors import InputError
from tests.data.written import SPACING, scan, write_nifti
from tests.limits import files_up_to

ORIENTATIONS = [
    "".join(p)
    for codes in itertools.product("LR", "AP", "SI")
    for p in itertools.permutations(codes)
]
SAMPLES = Path(nibabel.__file__).parent / "tests" / "data"


def fails(path, *words, declared="auto"):
    with pytest.raises(InputError) as caught:
        volume = open_nifti(path, declared)
        assert volume.intensity
        for k in range(len(volume)):
            volume.read(k)
    message = str(caught.value)
    assert (
        "\n" not in message and str(path) in message and all(word in message for word in words)
    ), message


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_orientation_reads_alike_and_takes_its_mask_back(tmp_path, suffix):
    values = scan()
    for codes in ORIENTATIONS:
        path = tmp_path / f"{codes} %ü{suffix}"
        out = tmp_path / f"mask {codes}{suffix}"
        write_nifti(path, values, codes)
        volume = open_nifti(path)
        assert volume.shape == values.shape and volume.intensity == "hu" and volume.geometry.known
        np.testing.assert_allclose(volume.spacing, SPACING, rtol=1e-6)
        np.testing.assert_array_equal([volume.read(k) for k in range(len(volume))], values)
        write_mask(out, (np.uint8(values[k] > 0) for k in range(len(volume))), volume)
        stored = nibabel.load(path)
        back = nibabel.load(out)
        np.testing.assert_array_equal(np.asarray(back.dataobj), np.asarray(stored.dataobj) > 0)
        np.testing.assert_array_equal(back.affine, stored.affine)
        for code in ("sform_code", "qform_code"):
            assert back.header[code] == stored.header[code]
        assert back.get_data_dtype() == np.uint8


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, ">i2"])
def test_types_scaling_and_headers(tmp_path, kind, dtype):
    values = scan(low=0, high=255).astype(dtype)
    image = kind(values.transpose(2, 1, 0), None)
    image.header.set_slope_inter(2, -1100)
    image.to_filename(tmp_path / "a.nii")
    volume = open_nifti(tmp_path / "a.nii")
    stored = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj)
    # Without an orientation NIfTI means left, front, head.
    np.testing.assert_array_equal(volume.read(2), stored[:, ::-1, 2].T)
    assert volume.intensity == "hu" and not volume.geometry.known
    write_mask(tmp_path / "m.nii.gz", [np.uint8(volume.read(k) > -900) for k in range(5)], volume)
    mask = nibabel.load(tmp_path / "m.nii.gz")
    assert isinstance(mask, kind)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), stored > -900)


def test_an_oblique_volume_is_read_along_its_nearest_axes(tmp_path):
    values = scan()
    angle = np.deg2rad(12)
    tilt = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    affine = np.eye(4)
    affine[:3, :3] = tilt @ np.diag([-0.7, -0.8, 2.5])
    write_nifti(tmp_path / "a.nii", values.transpose(2, 1, 0), affine=affine)
    volume = open_nifti(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.spacing, SPACING, rtol=1e-6)
    np.testing.assert_array_equal(volume.read(3), values[3])


def test_two_axes_are_one_slice_and_a_fourth_of_one_volume_is_dropped(tmp_path):
    values = scan()
    affine = np.diag([-1.0, -1, 1, 1])
    write_nifti(tmp_path / "flat.nii.gz", values[0].T, affine=affine)
    write_nifti(tmp_path / "long.nii", values.transpose(2, 1, 0)[..., None], affine=affine)
    flat = open_nifti(tmp_path / "flat.nii.gz")
    long = open_nifti(tmp_path / "long.nii")
    np.testing.assert_array_equal(flat.read(0), values[0])
    np.testing.assert_array_equal(long.read(4), values[4])
    for volume in (flat, long):
        write_mask(
            tmp_path / "m.nii",
            (np.ones(volume.shape[1:], np.uint8) for _ in range(len(volume))),
            volume,
        )
        assert nibabel.load(tmp_path / "m.nii").shape == nibabel.load(volume.path).shape
    with pytest.raises(InputError, match="4 of 5 slices"):
        write_mask(tmp_path / "m.nii", [np.ones((18, 20), np.uint8)] * 4, long)
    assert not list(tmp_path.glob("*.partial"))


def test_what_the_values_are(tmp_path):
    for name, low, high, dtype, found in [
        ("windowed", 0, 255, np.int16, "8bit"),
        ("bytes", 0, 255, np.uint8, "8bit"),
        ("float", 0, 255, np.float64, "8bit"),
        ("hu", -1024, 100, np.float32, "hu"),
    ]:
        write_nifti(tmp_path / f"{name}.nii", scan(low=low, high=high).astype(dtype))
        assert open_nifti(tmp_path / f"{name}.nii").intensity == found
    # no air, some bone: no chest, but it may be HU
    write_nifti(tmp_path / "soft.nii", scan(low=-100, high=800))
    fails(tmp_path / "soft.nii", "neither HU", "--intensity=hu ", "--config.data.intensity=hu")
    assert open_nifti(tmp_path / "soft.nii", declared="hu").intensity == "hu"
    write_nifti(tmp_path / "unit.nii", np.float32(scan(low=0, high=100)) / 100)
    fails(tmp_path / "unit.nii", "0..0.99")


@pytest.mark.parametrize("sides", [(0, 0, 0), (0.7, 0.8, 0), (0, 0.8, 2.5)])
def test_a_header_without_sizes(tmp_path, sides):
    """What is 0 in a header is not known; nibabel makes it 1."""
    write_nifti(tmp_path / "a.nii", scan())
    header = bytearray((tmp_path / "a.nii").read_bytes())
    header[80:92] = np.float32(sides).tobytes()
    (tmp_path / "sform.nii").write_bytes(header)
    assert open_nifti(tmp_path / "sform.nii").spacing == pytest.approx(SPACING)
    header[252:256] = bytes(4)  # neither qform nor sform
    (tmp_path / "none.nii").write_bytes(header)
    volume = open_nifti(tmp_path / "none.nii")
    assert (
        volume.spacing is None
        and volume.voxel_mm3(0) is None
        and "size of its voxels" in volume.notes[0]
    )
    header[80:92] = np.float32(SPACING[::-1]).tobytes()
    (tmp_path / "sizes.nii").write_bytes(header)
    assert open_nifti(tmp_path / "sizes.nii").spacing == pytest.approx(SPACING)


@pytest.mark.parametrize("lean", [0.0, 0.4])
def test_headers_of_masks(tmp_path, lean):
    """A sheared grid is in the sform alone; the mask of a DICOM scan says as much of where it lies
    as a scan's own.
    """
    affine = np.array([[-0.7, 0, 0, 9], [0, -0.8, lean, 8], [0, 0, 2.5, -700], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(scan().transpose(2, 1, 0), affine)
    image.to_filename(tmp_path / "a.nii")
    volume = open_nifti(tmp_path / "a.nii")
    assert is_sheared(volume.geometry) == (lean > 0)
    for name, of in (("own", volume), ("made", replace(volume, header=None))):
        write_mask(tmp_path / f"{name}.nii", np.ones((5, 18, 20), np.uint8), of)
        header = nibabel.load(tmp_path / f"{name}.nii").header
        np.testing.assert_allclose(header.get_best_affine(), affine, rtol=1e-6)
        np.testing.assert_allclose(
            header.get_zooms(), np.linalg.norm(affine[:3, :3], axis=0), rtol=1e-6
        )
    assert (
        header.get_xyzt_units()[0] == "mm"
        and header["sform_code"] == 1
        and header["qform_code"] == (lean == 0)
    )


def damage(tmp_path, change, suffix=".nii"):
    path = tmp_path / f"bad{suffix}"
    write_nifti(path, scan())
    path.write_bytes(change(path.read_bytes()))
    return path


@pytest.mark.parametrize(
    "suffix, change, words",
    [
        (".nii", lambda b: b"", ("empty",)),
        (".nii", lambda b: b[:200], ("not NIfTI",)),
        (".nii", lambda b: b"\x89PNG" + b[4:], ("not NIfTI",)),
        (".nii", lambda b: b[:-1], ("truncated",)),
        (".nii", lambda b: b[:42] + b"\xff\x7f" * 3 + b[48:], ("(32767, 32767, 32767)", "damaged")),
        (".nii", lambda b: b[:40] + b"\x09\x00" + b[42:], ("damaged",)),
        (".nii", lambda b: b[:70] + b"\x63\x00" + b[72:], ("damaged",)),
        (".nii", lambda b: b[:280] + np.float32([np.nan] * 4).tobytes() + b[296:], ("affine",)),
        (".nii", lambda b: b[:280] + bytes(48) + b[328:], ("affine",)),
        (".nii", lambda b: b[:344] + b"ni1\0" + b[348:], ("pair",)),
        (".nii.gz", lambda b: b[:-20], ("truncated",)),
        (".nii.gz", lambda b: b[:900] + bytes([b[900] ^ 255]) + b[901:], ("damaged",)),
        (".nii.gz", lambda b: b[:-8] + bytes(8), ("CRC",)),
        (".nii.gz", lambda b: gzip.compress(gzip.decompress(b)[:-100]), ("holds",)),
    ],
)
def test_bad_files_are_named(tmp_path, suffix, change, words):
    fails(damage(tmp_path, change, suffix), *words)


def test_values_and_shapes_that_are_no_ct(tmp_path):
    values = scan().astype(np.float32)
    values[3, 2, 1] = np.nan
    write_nifti(tmp_path / "nan.nii", values)
    fails(tmp_path / "nan.nii", "slice 3 holds NaN", declared="hu")
    fails(tmp_path / "none.nii", "No such file")
    write_nifti(tmp_path / "c.nii", np.ones((4, 4, 4), np.complex64))
    fails(tmp_path / "c.nii", "complex64")
    fails(SAMPLES / "example4d.nii.gz", "4-D")
    fails(SAMPLES / "resampled_anat_moved.nii", "NaN")
    anatomical = open_nifti(SAMPLES / "anatomical.nii")
    np.testing.assert_array_equal(
        anatomical.raw(7),
        nibabel.as_closest_canonical(nibabel.load(anatomical.path)).get_fdata()[::-1, ::-1, 7].T,
    )


def test_finds_scans_below_a_folder(tmp_path):
    for name in ("b/c.nii.gz", "a.x.nii", ".hidden/d.nii"):
        write_nifti(tmp_path / name, scan())
    (tmp_path / "notes.txt").write_text("no scan")
    assert list(find_scans(tmp_path)) == ["a.x", "b/c"] and list(
        find_scans(tmp_path / "a.x.nii")
    ) == ["a.x"]
    write_nifti(tmp_path / "a.x.nii.gz", scan())
    for path, word in (
        (tmp_path, "same name"),
        (tmp_path / "none", "no such"),
        (tmp_path / "notes.txt", "not a DICOM"),
    ):
        with pytest.raises(InputError, match=word):
            find_scans(path)


def test_unpacked_scans_are_private_and_leave_no_file(tmp_path, monkeypatch):
    write_nifti(tmp_path / "a.nii.gz", scan())
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    states = []
    real = tempfile.TemporaryFile

    def watched(*arguments, **fields):
        file = real(*arguments, **fields)
        states.append(os.fstat(file.fileno()))
        return file

    monkeypatch.setattr(tempfile, "TemporaryFile", watched)
    before = os.umask(0)
    try:
        volume = open_nifti(tmp_path / "a.nii.gz")
        volume.read(0)
    finally:
        os.umask(before)
    assert [(state.st_mode & 0o777, state.st_nlink) for state in states] == [(0o600, 0)]
    assert not list((tmp_path / "scratch").iterdir())


def test_no_room_for_temporary_files_is_said_before_anything_is_unpacked(tmp_path):
    path = tmp_path / "a.nii.gz"
    write_nifti(path, scan((8, 64, 64)))
    with files_up_to(10_000):
        fails(path, "a temporary file of 0 MB (File too large)", "set TMPDIR to a folder with more")
        mask = np.zeros((64, 64), np.uint8)
        with pytest.raises(InputError, match=rf"{path}: takes a temporary file"):
            write_mask(tmp_path / "m.nii", [mask] * 8, open_nifti(path))
    assert not (tmp_path / "m.nii").exists()


@pytest.mark.parametrize("there", [0, 999_999])
def test_a_header_that_promises_what_is_not_there(tmp_path, monkeypatch, there):
    """What packing could make so small is counted before it takes room."""
    path = tmp_path / "a.nii.gz"
    header = nibabel.Nifti1Header()
    header.set_data_shape((100, 100, 50))
    header.set_data_dtype(np.int16)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    content = header.binaryblock + bytes(4) + bytes(there)
    path.write_bytes(gzip.compress(content) + gzip.compress(b"") * 50)
    monkeypatch.setattr(nifti, "scratch", None)
    fails(path, f"holds {352 + there:,} of 1,000,352 bytes")
