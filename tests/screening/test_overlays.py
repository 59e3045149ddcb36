"""Masks of DICOM scans as DICOM segmentations where asked, beside what screening writes in any
case.
"""

import numpy as np
import pydicom
import pytest

from covjax.data.formats.nifti import open_labels
from covjax.data.formats.volumes import canonical
from covjax.errors import InputError
from covjax.screening.screen import screen
from covjax.screening.screener import Screener
from tests.data.written import scan, write_nifti, write_series
from tests.result_files import read_csv

pytest.importorskip("highdicom", reason="pip install -e '.[seg]'")
VALUES = scan((5, 40, 50))


@pytest.fixture(scope="module", autouse=True)
def loaded_once(trained):
    """Screeners compile anew each time they are loaded."""
    with pytest.MonkeyPatch.context() as patch:
        loaded = Screener.from_workdir(trained[0])
        patch.setattr(Screener, "from_workdir", lambda *arguments: loaded)
        yield


def test_a_segmentation_holds_what_the_nifti_mask_does(trained, tmp_path):
    write_series(tmp_path / "in" / "SERIES", VALUES)
    write_nifti(tmp_path / "in" / "scan.nii", VALUES)
    for masks in ("nifti", "dicom_seg"):
        screen(trained[0], tmp_path / "in", tmp_path / masks, window="lung", masks=masks)
    seg = pydicom.dcmread(tmp_path / "dicom_seg" / "masks" / "SERIES.dcm")
    labels = open_labels(tmp_path / "nifti" / "masks" / "SERIES.nii.gz")
    expected = canonical(labels.stored[..., 0], labels.geometry)
    # empty ones are left out
    masks = dict.fromkeys((f"1.2.3.{k}" for k in range(5)), np.zeros((40, 50), np.uint8))
    for frame, mask in zip(
        seg.PerFrameFunctionalGroupsSequence, seg.pixel_array.reshape(-1, 40, 50), strict=True
    ):
        masks[frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID] = (
            mask
        )
    np.testing.assert_array_equal(list(masks.values()), expected)
    assert expected.any()
    names = {row["scan"]: row["mask"] for row in read_csv(tmp_path / "dicom_seg" / "scans.csv")}
    assert names == {"SERIES": "masks/SERIES.dcm", "scan": "masks/scan.nii.gz"}
    tables = [read_csv(tmp_path / masks / "predictions.csv") for masks in ("nifti", "dicom_seg")]
    one, two = ([{**row, "mask": ""} for row in table] for table in tables)
    assert one == two
    told = [
        path
        for path in (tmp_path / "dicom_seg").rglob("*")
        if path.is_file() and b"Doe" in path.read_bytes()
    ]
    assert told == [tmp_path / "dicom_seg" / "masks" / "SERIES.dcm"]
    assert not any(
        b"Doe" in path.read_bytes() for path in (tmp_path / "nifti").rglob("*") if path.is_file()
    )


def test_scans_that_no_segmentation_can_refer_to(trained, tmp_path):
    write_series(tmp_path / "in" / "a", VALUES[:2], SeriesInstanceUID="1.2.7")
    write_series(tmp_path / "in" / "b", VALUES[:2], FrameOfReferenceUID=None)
    with pytest.raises(
        InputError, match=r"in/b/IM.*lacks FrameOfReferenceUID.*--masks=nifti.*--on_error=skip"
    ):
        screen(trained[0], tmp_path / "in", tmp_path / "out", window="lung", masks="dicom_seg")
    summary = screen(
        trained[0],
        tmp_path / "in",
        tmp_path / "out",
        window="lung",
        masks="dicom_seg",
        on_error="skip",
    )
    assert "2 slices of 1 scans" in summary and "skipped 1" in summary
    assert [path.name for path in (tmp_path / "out" / "masks").iterdir()] == ["a.dcm"]
    with pytest.raises(InputError, match="--masks: 'dicom' is unknown.*did you mean 'dicom_seg'"):
        screen(trained[0], tmp_path / "in", tmp_path / "other", window="lung", masks="dicom")
