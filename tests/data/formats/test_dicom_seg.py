"""Masks as DICOM segmentations: those of every source picture, whatever its orientation, read with
plain pydicom.
"""

import numpy as np
import pydicom
import pytest

from covjax.data.formats import dicom_seg
from covjax.data.formats.dicom_seg import check_installed, read_sources, write_segmentation
from covjax.data.formats.scans import find_scans
from covjax.errors import InputError
from tests.data.written import scan, write_frames, write_series

pytest.importorskip("highdicom", reason="pip install -e '.[seg]'")
VALUES = scan((5, 18, 20))
TAGS = {
    "SpecificCharacterSet": "ISO_IR 100",
    "PatientName": "Müller^Jörg",
    "PatientBirthDate": "19600101",
}
# Directions of rows and columns, and mm from slice to slice: as most scanners have it, feet first,
# mirrored both ways, with a tilted gantry.
TURNED = {
    "usual": ([1, 0, 0, 0, 1, 0], [0, 0, 2.5]), "feet first": ([1, 0, 0, 0, 1, 0], [0, 0, -2.5]),
    "left to right": ([-1, 0, 0, 0, 1, 0], [0, 0, 2.5]),
    "prone": ([-1, 0, 0, 0, -1, 0], [0, 0, -2.5]),
    "swapped": ([0, 1, 0, 1, 0, 0], [0, 0, 2.5]), "tilted": ([1, 0, 0, 0, 1, 0], [0, 0.75, 2.5]),
}  # fmt: skip


def volume(path):
    (opener,) = find_scans(path).values()
    return opener()


def written(path, folder, masks):
    scanned = volume(folder)
    write_segmentation(path, masks(scanned), scanned, read_sources(scanned), "run")
    return pydicom.dcmread(path)


def found(segmentation):
    """Returns {(SOPInstanceUID, frame or None) of a source picture: mask} of the frames of a
    segmentation.
    """
    pixels = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    masks = {}
    for frame, mask in zip(segmentation.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        masks[source.ReferencedSOPInstanceUID, source.get("ReferencedFrameNumber")] = mask
    return masks


def fails(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


@pytest.mark.parametrize("gap", [0, 30, 31.3])
@pytest.mark.parametrize("turned", TURNED)
def test_every_mask_lies_on_its_own_picture(tmp_path, turned, gap):
    orientation, step = TURNED[turned]

    def place(k):
        return tuple(
            np.round([10.0, 20.0, 30.0] + np.multiply(step, k + gap * (k > 2)), 6).tolist()
        )

    def turn(data, k):
        data.ImageOrientationPatient = orientation
        data.ImagePositionPatient = list(place(k))

    write_series(tmp_path / "in", VALUES, turn, **TAGS)
    seg = written(
        tmp_path / "a.dcm", tmp_path / "in", lambda v: [np.uint8(v.read(k) > 300) for k in range(5)]
    )
    masks = found(seg)
    assert len(masks) == 5 and seg.file_meta.MediaStorageSOPClassUID.name == "Segmentation Storage"
    for path in (tmp_path / "in").iterdir():
        source = pydicom.dcmread(path)
        mask = masks[source.SOPInstanceUID, None]
        np.testing.assert_array_equal(mask, source.pixel_array.astype(int) - 1024 > 300)
    places = {
        tuple(frame.PlanePositionSequence[0].ImagePositionPatient)
        for frame in seg.PerFrameFunctionalGroupsSequence
    }
    assert places == {place(k) for k in range(5)}
    shared = seg.SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == orientation
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.8, 0.7]


def test_what_it_says_of_itself_and_its_patient(tmp_path):
    write_series(tmp_path / "in", VALUES, **TAGS)
    seg = written(
        tmp_path / "a.dcm", tmp_path / "in", lambda v: [np.uint8(v.read(k) > 300) for k in range(5)]
    )
    (segment,) = seg.SegmentSequence
    coded = {
        name: (
            getattr(segment, f"{name}CodeSequence")[0].CodeValue,
            getattr(segment, f"{name}CodeSequence")[0].CodeMeaning,
        )
        for name in ("SegmentedPropertyCategory", "SegmentedPropertyType")
    }
    assert coded == {
        "SegmentedPropertyCategory": ("49755003", "Morphologically Abnormal Structure"),
        "SegmentedPropertyType": ("52988006", "Lesion"),
    }
    assert segment.AnatomicRegionSequence[0].CodeValue == "39607008"
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (segment.SegmentAlgorithmType, algorithm.AlgorithmName, seg.SegmentationType) == (
        "AUTOMATIC",
        "covjax",
        "BINARY",
    )
    assert str(seg.PatientName) == "Müller^Jörg" and seg.PatientBirthDate == "19600101"
    assert (seg.StudyInstanceUID, seg.FrameOfReferenceUID, seg.Modality) == (
        "1.2.4",
        "1.2.6",
        "SEG",
    )
    assert seg.SeriesInstanceUID != "1.2.5" and seg.DeviceSerialNumber == "run"
    referred = seg.ReferencedSeriesSequence[0]
    assert referred.SeriesInstanceUID == "1.2.5" and len(referred.ReferencedInstanceSequence) == 5


def test_classes_are_segments_of_their_own(tmp_path):
    write_series(tmp_path / "in", VALUES, **TAGS)
    scanned = volume(tmp_path / "in")
    masks = [np.uint8(scanned.read(k) > 0) + np.uint8(scanned.read(k) > 300) for k in range(5)]
    write_segmentation(
        tmp_path / "a.dcm",
        masks,
        scanned,
        read_sources(scanned),
        "run",
        ("ground_glass", "effusion"),
    )
    seg = pydicom.dcmread(tmp_path / "a.dcm")
    assert [s.SegmentLabel for s in seg.SegmentSequence] == ["ground_glass", "effusion"]
    again = np.zeros((5, 18, 20), np.uint8)
    uids = {
        pydicom.dcmread(path).SOPInstanceUID: pydicom.dcmread(path)
        for path in (tmp_path / "in").iterdir()
    }
    heights = sorted(data.ImagePositionPatient[2] for data in uids.values())
    for frame, mask in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        place = heights.index(uids[source.ReferencedSOPInstanceUID].ImagePositionPatient[2])
        again[place] += mask * np.uint8(
            frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        )
    np.testing.assert_array_equal(again, masks)
    assert set(np.unique(again)) == {0, 1, 2}


def test_empty_slices_are_left_out_unless_all_are(tmp_path):
    write_series(tmp_path / "in", VALUES)
    one = np.zeros(VALUES.shape, np.uint8)
    one[3, 4:7, 5:9] = 1
    masks = found(written(tmp_path / "a.dcm", tmp_path / "in", lambda v: one))
    assert list(masks) == [("1.2.3.3", None)]
    np.testing.assert_array_equal(masks["1.2.3.3", None], one[3])
    masks = found(written(tmp_path / "b.dcm", tmp_path / "in", lambda v: np.zeros_like(one)))
    assert len(masks) == 5 and not any(mask.any() for mask in masks.values())


@pytest.mark.parametrize("step", [1, -1])
def test_frames_of_one_file(tmp_path, step):
    write_frames(tmp_path / "a.dcm", VALUES)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    for k, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
        frame.PlanePositionSequence[0].ImagePositionPatient = [10.0, 20.0, 30 + 2.5 * step * k]
    data.save_as(tmp_path / "a.dcm")
    seg = written(
        tmp_path / "seg.dcm",
        tmp_path / "a.dcm",
        lambda v: [np.uint8(v.read(k) > 300) for k in range(5)],
    )
    masks = found(seg)
    assert sorted(frame for _, frame in masks) == [1, 2, 3, 4, 5]
    for (_, frame), mask in masks.items():
        np.testing.assert_array_equal(mask, VALUES[frame - 1] > 300)


@pytest.mark.parametrize(
    "tag", ["StudyInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient", "PixelSpacing"]
)
def test_scans_that_lack_what_is_needed(tmp_path, tag):
    write_series(tmp_path / "in", VALUES, **{tag: None})
    fails(
        lambda: read_sources(volume(tmp_path / "in")),
        str(tmp_path / "in" / "IM"),
        f"lacks {tag}",
        "--masks=nifti",
    )


def test_tags_that_do_no_harm(tmp_path):
    write_series(tmp_path / "in", VALUES, PatientID=None, SliceThickness=None)
    seg = written(tmp_path / "a.dcm", tmp_path / "in", lambda v: np.ones(VALUES.shape, np.uint8))
    assert seg.PatientID in (None, "") and seg.PatientName == ""
    assert seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 2.5


@pytest.mark.filterwarnings("ignore:Invalid value")
@pytest.mark.parametrize(
    "tag, value",
    [
        ("PatientSex", "X"),
        ("PatientBirthDate", "19601345"),
        ("StudyTime", "99x"),
        ("SOPClassUID", "1.2.99.7"),
    ],
)
def test_tags_that_do_not_fit_are_named_but_not_told(tmp_path, tag, value):
    write_series(tmp_path / "in", VALUES, **{tag: value})
    with pytest.raises(InputError, match=f"IM.*its {tag} .*--masks=nifti") as caught:
        read_sources(volume(tmp_path / "in"))
    assert value not in str(caught.value).replace(str(tmp_path), "").replace("--masks", "")


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_what_the_library_refuses_is_one_line(tmp_path):
    write_series(tmp_path / "in", VALUES)
    scanned = volume(tmp_path / "in")
    sources = read_sources(scanned)
    sources[0].SpecificCharacterSet = "Doe"
    ones = np.ones(VALUES.shape, np.uint8)
    fails(
        lambda: write_segmentation(tmp_path / "a.dcm", ones, scanned, sources, "run"),
        str(tmp_path / "in"),
        "refer",
    )
    assert not list(tmp_path.glob("a.dcm*"))


def test_what_writes_them_is_an_extra(monkeypatch):
    check_installed()
    monkeypatch.setattr(dicom_seg, "find_spec", lambda name: None)
    fails(check_installed, "--masks", " -m pip install -e '", "[seg]'")
