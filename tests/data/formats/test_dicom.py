"""DICOM series and multi-frame files: sorted by position, in HU, odd tags survived, bad files
named.
"""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.pixels import get_decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from covjax.data.formats import packed
from covjax.data.formats.nifti import write_mask
from covjax.data.formats.scans import find_scans
from covjax.errors import InputError
from tests import places
from tests.data.written import SPACING, dicom_slice, save, scan, write_frames, write_series

REAL = places.REAL / "dicom"


def only(path, declared="auto"):
    (opener,) = find_scans(path, declared).values()
    return opener()


def slices(volume):
    return np.stack([volume.read(k) for k in range(len(volume))])


def fails(path, *words):
    with pytest.raises(InputError) as caught:
        slices(only(path))
    message = str(caught.value)
    assert (
        "\n" not in message and str(path) in message and all(word in message for word in words)
    ), message


def compress(syntax):
    return lambda data, k: data.compress(syntax, generate_instance_uid=False)


def drop(*names):
    return lambda data, k: [delattr(data, name) for name in names]


@pytest.mark.parametrize(
    "change",
    [
        lambda data, k: None,
        compress(RLELossless),
        drop("Modality", "InstanceNumber", "PatientID", "StudyInstanceUID", "SliceThickness"),
        drop("SeriesInstanceUID"),
        lambda data, k: setattr(
            data.file_meta, "TransferSyntaxUID", DeflatedExplicitVRLittleEndian
        ),
    ],
)
def test_a_series_reads_back_equal(tmp_path, change):
    values = scan()
    write_series(tmp_path, values, change)
    volume = only(tmp_path)
    assert volume.intensity == "hu" and volume.spacing == SPACING
    np.testing.assert_array_equal(slices(volume), values)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_codecs_that_are_plugins(tmp_path, syntax):
    values = scan((2, 64, 64))
    try:
        write_series(tmp_path, values, compress(syntax))
    except (RuntimeError, NotImplementedError):
        pytest.skip(f"no encoder for {syntax.name} is installed")
    np.testing.assert_array_equal(slices(only(tmp_path)), values)


def test_a_missing_decoder_is_named(tmp_path, monkeypatch):
    write_series(tmp_path, scan((2, 16, 16)), compress(RLELossless))
    monkeypatch.setattr(
        type(get_decoder(RLELossless)), "is_available", property(lambda self: False)
    )
    fails(tmp_path, "RLE Lossless", " -m pip install -e '", "[dicom]'")


def test_rows_and_columns_may_run_any_way(tmp_path):
    """A patient lying on the belly, and columns stored as rows, both with slices counted from the
    head.
    """
    values = scan()
    slice_mm, row_mm, column_mm = SPACING
    _, height, width = values.shape
    prone = tmp_path / "prone"
    turned = tmp_path / "turned"
    for k in range(len(values)):
        data = dicom_slice(values[:, ::-1, ::-1], k, ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])
        data.ImagePositionPatient = [
            10 + (width - 1) * column_mm,
            20 + (height - 1) * row_mm,
            30 + k * slice_mm,
        ]
        save(data, prone / f"{9 - k}.dcm")
        data = dicom_slice(values.transpose(0, 2, 1), k, ImageOrientationPatient=[0, 1, 0, 1, 0, 0])
        data.PixelSpacing = [column_mm, row_mm]
        save(data, turned / f"{k}.dcm")
    for folder in (prone, turned):
        volume = only(folder)
        assert volume.spacing == SPACING
        np.testing.assert_array_equal(slices(volume), values)


def test_masks_are_written_where_the_patient_lies(tmp_path):
    values = scan()
    write_series(tmp_path / "series", values)
    volume = only(tmp_path / "series")
    write_mask(
        tmp_path / "mask.nii.gz", (np.uint8(values[k] > 0) for k in range(len(volume))), volume
    )
    mask = nibabel.load(tmp_path / "mask.nii.gz")
    k = 3
    row = 11
    column = 4
    x, y, z = mask.affine @ [column, row, k, 1] @ np.eye(4)[:, :3]
    # DICOM's mm
    np.testing.assert_allclose(
        [-x, -y, z], [10 + column * 0.7, 20 + row * 0.8, 30 + k * 2.5], rtol=1e-6
    )
    np.testing.assert_array_equal(np.asarray(mask.dataobj).transpose(2, 1, 0), values > 0)


def test_multi_frame(tmp_path):
    values = scan()
    write_frames(tmp_path / "enhanced.dcm", values)
    volume = only(tmp_path / "enhanced.dcm")
    assert volume.spacing == SPACING and volume.intensity == "hu" and volume.patient == "Doe^Jane 7"
    np.testing.assert_array_equal(slices(volume), values)


def test_monochrome1_turns_windowed_values_only(tmp_path):
    values = scan(low=0, high=255)
    plain = dict(RescaleIntercept=0, PhotometricInterpretation="MONOCHROME1", PixelRepresentation=1)
    write_series(tmp_path / "hu", scan() - 1024, **plain)  # what is stored, 1024 more, is HU
    write_series(tmp_path / "windowed", values - 1024, **plain)
    np.testing.assert_array_equal(slices(only(tmp_path / "hu")), scan())
    np.testing.assert_array_equal(slices(only(tmp_path / "windowed")), 255 - values)


def test_series_are_told_apart_and_other_objects_left_out(tmp_path):
    write_series(tmp_path / "a", scan())
    for k in range(2):
        save(dicom_slice(scan(), k, SeriesInstanceUID="1.9"), tmp_path / "a" / f"other{k}.dcm")
    save(
        dicom_slice(scan(), 0, SeriesInstanceUID="1.8", ImageType=["ORIGINAL", "LOCALIZER"]),
        tmp_path / "a" / "scout.dcm",
    )
    for name in ("DICOMDIR", "readme.txt"):
        (tmp_path / name).write_bytes(bytes(200))
    (tmp_path / "report.dcm").write_bytes(Path(get_testdata_file("reportsi.dcm")).read_bytes())
    found = find_scans(tmp_path)
    assert list(found) == ["a_1", "a_2"] and [len(opener()) for opener in found.values()] == [5, 2]
    (tmp_path / "bad.dcm").write_bytes(bytes(300))
    skipped = []
    assert len(find_scans(tmp_path, skip=skipped.append)) == 2 and "bad.dcm" in str(skipped[0])
    fails(tmp_path, "bad.dcm")


@pytest.mark.parametrize(
    "tags",
    [
        {"PatientID": "Roe^Richard"},
        {"StudyInstanceUID": "1.2.44"},
        {"SeriesInstanceUID": "1.2.55"},
        {"ImageOrientationPatient": [0.99, 0.141067, 0, -0.141067, 0.99, 0]},
        {"Rows": 8, "PixelData": bytes(2 * 8 * 20)},
    ],
)
def test_a_series_is_of_one_patient_study_size_and_orientation(tmp_path, tags):
    """Numbers of series are at times given twice; whatever else differs tells them apart."""
    for name, more in (("P1", {}), ("P2", tags)):
        for k in range(5):
            data = dicom_slice(scan(), k, **more)
            data.ImagePositionPatient = [10, 20, 200 * len(more) + 2.5 * k]
            save(data, tmp_path / name / f"{k}")
    found = {name: opener() for name, opener in find_scans(tmp_path).items()}
    assert [len(volume) for volume in found.values()] == [5, 5] and list(found) == ["P1", "P2"]
    assert all(
        volume.spacing[0] == pytest.approx(2.5) and not volume.notes for volume in found.values()
    )


@given(
    seed=st.integers(0, 10**6), angle=st.floats(-0.5, 0.5), size=st.sampled_from([1e-6, 1e-5, 1e-4])
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_jitter_parts_no_series(tmp_path, seed, angle, size):
    """Rounding to any number of digits would tell some of these slices apart."""
    rng = np.random.default_rng(seed)
    shutil.rmtree(tmp_path / "in", ignore_errors=True)
    turn = np.array([np.cos(angle), np.sin(angle), 0, -np.sin(angle), np.cos(angle), 0])
    for k in range(3):
        data = dicom_slice(scan((3, 6, 7)), k)
        data.ImageOrientationPatient = [
            f"{part:.9f}" for part in turn + rng.uniform(-size, size, 6)
        ]
        data.PixelSpacing = [f"{side + rng.uniform(-size, size) / 2:.9f}" for side in (0.8, 0.7)]
        data.ImagePositionPatient = [
            f"{part:.7f}" for part in [10, 20, 30 + 2.5 * k] + rng.uniform(-size, size, 3)
        ]
        save(data, tmp_path / "in" / f"{k}")
    assert only(tmp_path / "in").spacing == pytest.approx(SPACING, rel=1e-3)


def test_sorting_without_positions(tmp_path):
    values = scan()
    write_series(tmp_path / "numbered", values, drop("ImagePositionPatient"))
    volume = only(tmp_path / "numbered")
    np.testing.assert_array_equal(slices(volume), values)
    assert volume.spacing is None and not volume.geometry.known and volume.extents is None
    assert "size" in volume.notes[0] and "where its slices lie" in volume.notes[1]
    write_series(tmp_path / "lost", values, drop("ImagePositionPatient", "InstanceNumber"))
    fails(tmp_path / "lost", "no positions")


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda data, k: setattr(data, "Modality", "MR"), "modality MR"),
        (lambda data, k: setattr(data, "SamplesPerPixel", 3), "colour"),
        (
            lambda data, k: setattr(data, "PhotometricInterpretation", "PALETTE COLOR"),
            "PALETTE COLOR",
        ),
        (lambda data, k: setattr(data, "ImagePositionPatient", [0, 0, 5 * (k // 2)]), "lies where"),
        (
            lambda data, k: setattr(data, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
            "right angles",
        ),
        (lambda data, k: setattr(data, "ImageOrientationPatient", [1, 0, 0, 0]), "6 numbers"),
        (lambda data, k: setattr(data, "PixelSpacing", [0.7, 0.8 + k]), "differs in spacing"),
        (lambda data, k: setattr(data, "PixelData", data.PixelData[:100]), "damaged or truncated"),
        (lambda data, k: setattr(data, "RescaleSlope", 0), "rescale slope"),
        (lambda data, k: setattr(data, "NumberOfFrames", 10**9), "frames"),
        (
            lambda data, k: [setattr(data, name, 60000) for name in ("Rows", "Columns")],
            "60000x60000",
        ),
        (drop("Rows"), "no size"),
        (drop("PixelData"), "damaged or truncated"),
    ],
)
def test_bad_series_are_named(tmp_path, change, word):
    write_series(tmp_path, scan((3, 16, 16)), change)
    fails(tmp_path, word)


def test_a_coronal_series_is_refused(tmp_path):
    for k in range(3):
        data = dicom_slice(
            scan(),
            k,
            ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
            ImagePositionPatient=[0, 3 * k, 0],
        )
        save(data, tmp_path / f"{k}.dcm")
    fails(tmp_path, "coronal")


def test_a_gap_is_noted(tmp_path):
    write_series(
        tmp_path,
        scan(),
        lambda data, k: setattr(data, "ImagePositionPatient", [0, 0, k + 3 * (k > 2)]),
    )
    assert len(only(tmp_path)) == 5 and "evenly" in only(tmp_path).notes[0]


def test_a_single_slice_is_as_thick_as_it_says(tmp_path):
    write_series(tmp_path / "thick", scan((1, 9, 8)), SliceThickness=1.25, SpacingBetweenSlices=5)
    assert only(tmp_path / "thick").spacing == (1.25, *SPACING[1:])
    write_series(tmp_path / "unsaid", scan((1, 9, 8)), SliceThickness=None)
    assert only(tmp_path / "unsaid").spacing is None


def test_sample_files():
    small = only(Path(get_testdata_file("CT_small.dcm")))
    data = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    np.testing.assert_array_equal(
        small.read(0), data.pixel_array + np.float32(data.RescaleIntercept)
    )
    assert small.intensity == "hu" and small.patient == "1CT1"
    tiny = only(Path(get_testdata_file("dicomdirtests/98892001/CT5N/2062")).parent)
    assert len(tiny) == 5 and tiny.spacing[0] == 2.5
    with pytest.raises(InputError, match="modality MR"):
        find_scans(Path(get_testdata_file("MR_truncated.dcm")))


@pytest.mark.skipif(not REAL.is_dir(), reason="no real DICOM slices (COVJAX_TEST_DATA)")
def test_real_slices_with_few_tags():
    volume = only(REAL)
    assert (
        volume.shape == (2, 512, 512)
        and volume.spacing == (1, 0.625, 0.625)
        and volume.intensity == "hu"
    )
    stored = pydicom.dcmread(REAL / "1.dcm").pixel_array
    # padding becomes air
    np.testing.assert_array_equal(volume.read(1), np.where(stored == -2048, -1000, stored))


def test_a_deflated_file_that_unpacks_to_far_more_than_ct_does(tmp_path, monkeypatch):
    data = dicom_slice(scan(), 0)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.add_new((0x0021, 0x1010), "OB", bytes(100_000))
    save(data, tmp_path / "a.dcm")
    assert only(tmp_path / "a.dcm").shape == (1, 18, 20)
    monkeypatch.setattr(packed, "LEAST", 50_000)
    with pytest.raises(InputError, match="a.dcm: .* unpack to more than 50,000, which no CT does"):
        only(tmp_path / "a.dcm")
