"""Nothing in a folder vanishes: it is read, refused, or listed as left out with the reason."""

import os
import socket
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    RTDoseStorage,
    SecondaryCaptureImageStorage,
    XRayRadiationDoseSRStorage,
)

from covjax.data.formats.dicom_kinds import is_dicom
from covjax.data.formats.scans import find_scans
from covjax.data.listing import LeftOuts, list_files, stop
from covjax.errors import InputError
from covjax.screening.inputs import find_screened
from tests.data.written import dicom_slice, save, scan, write_nifti, write_series


def found_in(folder):
    """Returns the scans below a folder, opened, and {file: reason} of what was left out."""
    scans, left_out = find_screened(folder, "auto", 16, stop)
    volumes = {}
    assert find_scans(
        folder, leave=lambda path, why: volumes.update({path.relative_to(folder).as_posix(): why})
    )
    assert volumes.keys() == {one.file for one in left_out}
    return {name: opener() for name, opener in scans.items()}, dict(left_out)


def without_picture(storage):
    def change(data):
        data.SOPClassUID = storage
        del data.Rows, data.Columns, data.PixelData

    return change


def tagged(**tags):
    return lambda data: [setattr(data, name, value) for name, value in tags.items()]


def captured_frames(data):
    data.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    del data.ImageOrientationPatient, data.ImagePositionPatient


CORONAL = dict(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
SAGITTAL = dict(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
# What certainly is no axial CT: how a slice becomes it, and the word that names it.
NO_CT = {
    "dose_report": (without_picture(XRayRadiationDoseSRStorage), "Radiation Dose SR"),
    "dose_screen": (
        tagged(ImageType=["DERIVED", "SECONDARY", "OTHER", "DOSE_INFO"]),
        "dose report",
    ),
    "rt_dose": (tagged(SOPClassUID=RTDoseStorage, Modality="RTDOSE"), "RT Dose"),
    "capture": (tagged(SOPClassUID=SecondaryCaptureImageStorage), "Secondary Capture"),
    "captured_frames": (captured_frames, "Secondary Capture"),
    "capture_modality": (tagged(Modality="SC"), "modality SC"),
    "localizer": (tagged(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localizer"),
    "coronal": (tagged(SeriesInstanceUID="1.7", **CORONAL), "coronal"),
    "sagittal": (tagged(SeriesInstanceUID="1.7", **SAGITTAL), "sagittal"),
    "coronal_of_the_series": (tagged(**CORONAL), "coronal"),
    "magnetic": (tagged(Modality="MR"), "modality MR"),
    "colour": (tagged(SamplesPerPixel=3), "colour"),
    "palette": (tagged(PhotometricInterpretation="PALETTE COLOR"), "PALETTE COLOR"),
}


@pytest.mark.parametrize("kind", NO_CT)
def test_what_is_no_axial_ct_is_listed_and_never_screened(tmp_path, kind):
    change, word = NO_CT[kind]
    write_series(tmp_path / "a", scan())
    other = dicom_slice(scan(), 2, SOPInstanceUID="1.2.99")
    change(other)
    save(other, tmp_path / "a" / "other")
    scans, left_out = found_in(tmp_path)
    assert [len(one) for one in scans.values()] == [5] and list(left_out) == ["a/other"]
    assert word in left_out["a/other"]
    # alone it is refused, by its file or in a folder
    for path in (tmp_path / "a" / "other", tmp_path / "b"):
        (tmp_path / "b").mkdir(exist_ok=True)
        save(other, tmp_path / "b" / "other")
        with pytest.raises(InputError, match=f"other.*{word}"):
            find_screened(path, "auto", 16, stop)


SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


@given(
    syntax=st.sampled_from(SYNTAXES),
    forms=st.lists(st.sampled_from(["whole", "no preamble", "no header"]), min_size=5, max_size=5),
    suffix=st.sampled_from(["", ".1", ".img", ".dcm", ".bin"]),
)
@settings(max_examples=25, deadline=None)
def test_no_slice_is_lost_for_want_of_a_preamble(tmp_path_factory, syntax, forms, suffix):
    folder = tmp_path_factory.mktemp("bare")
    values = scan()
    for k, form in enumerate(forms):
        data = dicom_slice(values, k)
        path = folder / f"IM{k}{suffix}"
        data.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            data["PixelData"].VR = "OW"
            data.PixelData = np.frombuffer(data.PixelData, np.uint16).byteswap().tobytes()
        if form == "no header":
            del data.file_meta
            data.save_as(
                path,
                implicit_vr=syntax == ImplicitVRLittleEndian,
                little_endian=syntax != SYNTAXES[2],
            )
            continue
        save(data, path)
        if form == "no preamble":
            path.write_bytes(path.read_bytes()[132:])
    scans, left_out = found_in(folder)
    (one,) = scans.values()
    assert not left_out
    np.testing.assert_array_equal(np.stack([one.read(k) for k in range(len(one))]), values)


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_other_files_are_not_taken_for_dicom(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "anything"
    path.write_bytes(content)
    assert is_dicom(path) == (content[128:132] == b"DICM")


def test_texts_are_not_taken_for_dicom(tmp_path):
    for path in Path(__file__).parent.glob("*.py"):
        assert not is_dicom(path)


def test_copies_of_slices_count_once(tmp_path):
    values = scan()
    write_series(tmp_path / "a", values)
    write_series(tmp_path / "again" / "deep", values)  # the whole series
    resent = dicom_slice(values, 2, InstitutionName="elsewhere")  # the same picture, other bytes
    save(resent, tmp_path / "z.dcm")
    scans, left_out = found_in(tmp_path)
    (one,) = scans.values()
    np.testing.assert_array_equal(np.stack([one.read(k) for k in range(len(one))]), values)
    assert (
        len(left_out) == 6
        and all("copy" in why for why in left_out.values())
        and "z.dcm" in left_out
    )
    save(dicom_slice(values + 1, 2), tmp_path / "y.dcm")  # another picture at the same place
    with pytest.raises(InputError, match="lies where"):
        for opener in find_scans(tmp_path).values():
            opener()


def test_everything_that_is_not_read_is_listed(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    write_nifti(folder / "a.nii.gz", scan())
    elsewhere = tmp_path / "elsewhere"
    write_nifti(elsewhere / "b.nii.gz", scan())
    (folder / "out.nii.gz").symlink_to(elsewhere / "b.nii.gz")
    (folder / "folder_out").symlink_to(elsewhere)
    (folder / "sub").mkdir()
    (folder / "folder_in").symlink_to(folder / "sub")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "c.nii.gz").write_bytes(b"")
    (folder / ".DS_Store").write_bytes(b"")
    (folder / "notes.txt").write_text("hello")
    for output, file in (("screened", "screening.json"), ("run", "splits.json")):
        (folder / output / "overlays").mkdir(parents=True)
        (folder / output / file).write_text("{}")
        (folder / output / "overlays" / "a.png").write_bytes(b"")
    (folder / "run" / "config.json").write_text("{}")
    (folder / "DICOMDIR").write_bytes(bytes(200))
    os.mkfifo(folder / "pipe")
    monkeypatch.chdir(folder)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.dcm")
        scans, left_out = found_in(folder)
    assert list(scans) == ["a"]
    words = {
        "out.nii.gz": "link out", "folder_out": "link to a folder elsewhere",
        "folder_in": "where it lies",
        ".hidden": "hidden folder", ".DS_Store": "hidden file", "notes.txt": ".txt", "pipe": "pipe",
        "screened": "results of a screening", "run": "folder of a run", "socket.dcm": "socket",
        "DICOMDIR": "index of a DICOM medium",
    }  # fmt: skip
    assert left_out.keys() == words.keys()
    assert all(word in left_out[name] for name, word in words.items()), left_out


@given(
    st.recursive(
        st.sampled_from(["file", "link", "pipe"]),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=12,
    )
)
@settings(max_examples=40, deadline=None)
def test_every_entry_is_read_entered_or_listed(tmp_path_factory, tree):
    outside = tmp_path_factory.mktemp("outside") / "file"
    outside.write_text("")
    root = tmp_path_factory.mktemp("tree")
    entries = set()

    def grow(place, what):
        for k, one in enumerate(what if isinstance(what, list) else [what]):
            path = place / f"{'.' * (k == 3)}{k}"
            if isinstance(one, list):
                path.mkdir()
                grow(path, one)
                continue
            entries.add(path)
            if one == "file":
                path.write_text("")
            elif one == "link":
                path.symlink_to(outside)
            else:
                os.mkfifo(path)

    grow(root, tree)
    left_out = LeftOuts(root)
    files = set(list_files(root, leave=left_out))
    named = {root / one.file for one in left_out.listed()}
    assert not files & named
    assert all(path in files or named & {path, *path.parents} for path in entries)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    write_nifti(tmp_path / "a.nii.gz", scan())
    (tmp_path / "locked").mkdir()
    real = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match="locked: cannot be read"):
        find_scans(tmp_path)


def test_scans_in_other_formats_are_named_and_their_remedy_works(tmp_path, monkeypatch):
    values = scan()
    write_nifti(tmp_path / "a.nii", values)
    pair = nibabel.Nifti1Pair(values.transpose(2, 1, 0), np.diag([-0.7, -0.8, 2.5, 1]))
    nibabel.save(pair, tmp_path / "pair.img")
    analyze = nibabel.Spm2AnalyzeImage(values.transpose(2, 1, 0), np.diag([-0.7, 0.8, 2.5, 1]))
    nibabel.save(analyze, tmp_path / "old.img")
    for name in ("m.mha", "m.mhd", "n.nrrd", "n.nhdr", "alone.hdr", "alone.img"):
        (tmp_path / name).write_bytes(b"text")
    _, left_out = found_in(tmp_path)
    for stem, suffixes, what in (("m", ".mha .mhd", "MetaImage"), ("n", ".nrrd .nhdr", "NRRD")):
        for suffix in suffixes.split():
            reason = left_out[f"{stem}{suffix}"]
            assert what in reason and f"SimpleITK.ReadImage('{stem}{suffix}')" in reason
    for name in ("pair.hdr", "pair.img", "old.hdr", "old.img"):
        assert "Analyze or NIfTI pair" in left_out[name]
    assert "Analyze" not in left_out.get("readme.hdr", "")
    with pytest.raises(InputError, match="pair.hdr.*convert it"):
        find_screened(tmp_path / "pair.hdr", "auto", 16, stop)
    monkeypatch.chdir(tmp_path)
    remedy = left_out["pair.hdr"].split("convert it: ")[1]
    exec(remedy, {"nibabel": nibabel})
    converted = find_scans(tmp_path / "pair.nii.gz")["pair"]()
    np.testing.assert_array_equal(
        np.stack([converted.read(k) for k in range(len(converted))]), values
    )


def test_a_medium_lists_what_is_no_ct(tmp_path):
    write_series(tmp_path / "A", scan())
    save(
        dicom_slice(scan(), 0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        tmp_path / "A" / "SCOUT",
    )
    medium = pydicom.Dataset()
    medium.file_meta = pydicom.dataset.FileMetaDataset()
    medium.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    medium.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    medium.SOPClassUID = "1.2.840.10008.1.3.10"
    medium.SOPInstanceUID = "1.2.3"
    medium.DirectoryRecordSequence = []
    for path in sorted((tmp_path / "A").iterdir()):
        record = pydicom.Dataset()
        record.ReferencedFileID = ["A", path.name]
        medium.DirectoryRecordSequence.append(record)
    save(medium, tmp_path / "DICOMDIR")
    scans, left_out = find_screened(tmp_path / "DICOMDIR", "auto", 16, stop)
    assert len(scans) == 1 and [one.file for one in left_out] == ["A/SCOUT"]


def test_a_folder_of_scans_with_a_list_of_splits_is_no_run(tmp_path):
    write_nifti(tmp_path / "others" / "a.nii", scan((2, 20, 24)))
    (tmp_path / "others" / "splits.json").write_text("{}")
    found, left_out = found_in(tmp_path)
    assert found.keys() == {"others/a"} and left_out == {
        "others/splits.json": "no picture or scan (.json)"
    }
