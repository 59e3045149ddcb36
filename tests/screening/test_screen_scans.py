"""Scans are screened in their own geometry."""

import json

import nibabel
import numpy as np
import pydicom
import pytest

from covjax.data.formats.nifti import open_labels
from covjax.data.formats.volumes import canonical
from covjax.errors import InputError
from covjax.report import build_screening
from covjax.screening.screen import screen
from tests.data.written import SPACING, save, write_nifti, write_series
from tests.result_files import read_csv
from tests.screening.by_hand import VALUES, by_hand

pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.mark.parametrize("codes", ["RAS", "PIR"])
def test_a_nifti_scan_gives_a_mask_in_its_own_geometry(trained, tmp_path, codes):
    path = tmp_path / "a b.nii.gz"
    output = tmp_path / "out"
    write_nifti(path, VALUES, codes)
    screen(trained[0], path, output, window="lung")
    given = nibabel.load(path)
    found = nibabel.load(output / "masks" / "a b.nii.gz")
    assert given.shape == found.shape and np.array_equal(given.affine, found.affine)
    expected = by_hand(trained[0], VALUES)
    labels = open_labels(output / "masks" / "a b.nii.gz")
    rows = read_csv(output / "predictions.csv")
    pixel = SPACING[1] * SPACING[2]
    mask = canonical(labels.stored[..., 0], labels.geometry)
    for k, (row, one) in enumerate(zip(rows, expected, strict=True)):
        np.testing.assert_array_equal(mask[k], one.mask)
        assert row["id"] == f"a b/{k:04d}" and float(row["probability_infected"]) == pytest.approx(
            one.probability
        )
        assert float(row["infected_mm2"]) == pytest.approx(one.mask.sum() * pixel, rel=1e-5)
    (summed,) = read_csv(output / "scans.csv")
    ml = sum(one.mask.sum() for one in expected) * np.prod(SPACING) / 1000
    assert float(summed["infected_ml"]) == pytest.approx(ml, rel=1e-5)
    assert summed["window"] == "-600,1500" and summed["spacing_mm"] == "2.5x0.8x0.7"


def test_a_dicom_medium_gives_what_the_nifti_of_the_same_scan_does(trained, tmp_path):
    write_series(tmp_path / "cd" / "SERIES", VALUES)
    files = sorted((tmp_path / "cd" / "SERIES").iterdir())
    medium = pydicom.Dataset()
    medium.file_meta = pydicom.dcmread(files[0]).file_meta
    medium.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    medium.SOPClassUID = "1.2.840.10008.1.3.10"
    medium.SOPInstanceUID = "1.2.3"
    medium.DirectoryRecordSequence = [pydicom.Dataset() for _ in files]
    for record, file in zip(medium.DirectoryRecordSequence, files, strict=True):
        record.ReferencedFileID = ["SERIES", file.name]
    save(medium, tmp_path / "cd" / "DICOMDIR")
    write_nifti(tmp_path / "SERIES.nii", VALUES, "RAS")
    for name, path in (("medium", "cd/DICOMDIR"), ("folder", "cd"), ("nifti", "SERIES.nii")):
        screen(trained[0], tmp_path / path, tmp_path / name, window="lung")
    tables = [
        read_csv(tmp_path / name / "predictions.csv") for name in ("medium", "folder", "nifti")
    ]
    columns = ("id", "probability_infected", "infected_pixels", "infected_share_of_lung")
    one, two, three = ([[row[column] for column in columns] for row in table] for table in tables)
    assert one == two == three and [row["file"] for row in tables[2]] == ["SERIES.nii"] * 5
    areas = [[float(row["infected_mm2"]) for row in table] for table in tables]
    np.testing.assert_allclose(areas[0], areas[2], rtol=1e-5)
    files[0].unlink()
    with pytest.raises(InputError, match="which is not there; copy the whole medium"):
        screen(trained[0], tmp_path / "cd" / "DICOMDIR", tmp_path / "out")
    medium.DirectoryRecordSequence[0].ReferencedFileID = ["..", "SERIES.nii"]
    save(medium, tmp_path / "cd" / "DICOMDIR")
    with pytest.raises(InputError, match="outside its folder"):
        screen(trained[0], tmp_path / "cd" / "DICOMDIR", tmp_path / "out")


def tilted(data, k):
    data.ImagePositionPatient = [0, 1.5 * k, 4 * k]


def test_a_sheared_scan_keeps_its_grid_and_says_who_refuses_it(trained, tmp_path):
    write_series(tmp_path / "tilted", VALUES, tilted)
    affine = np.array([[-0.7, 0, 0, 9], [0, -0.8, 1, 8], [0, 0, 2.5, -700], [0, 0, 0, 1]])
    write_nifti(tmp_path / "sheared.nii", VALUES.transpose(2, 1, 0), affine=affine)
    for name, advice in (
        ("tilted", "with --masks=dicom_seg"),
        ("sheared.nii", "screen the DICOM scan with"),
    ):
        output = tmp_path / f"out {name}"
        screen(trained[0], tmp_path / name, output, window="lung")
        (row,) = read_csv(output / "scans.csv")
        told = json.loads((output / "screening.json").read_text())
        (note,) = (note for note in told["notes"][row["scan"]] if "SimpleITK" in note)
        assert (
            note in row["notes"]
            and "SimpleITK) refuse" in note
            and advice in note
            and "dicom_seg" in note
        )
        assert advice in build_screening(output).read_text()
        mask = nibabel.load(output / row["mask"])
        voxel = abs(np.linalg.det(mask.affine[:3, :3]))
        assert voxel == pytest.approx(0.56 * (4 if name == "tilted" else 2.5), rel=1e-6)
        assert float(row["infected_ml"]) == pytest.approx(
            np.asarray(mask.dataobj).sum() * voxel / 1000, rel=1e-6
        )
    pytest.importorskip("highdicom", reason="pip install -e '.[seg]'")
    screen(trained[0], tmp_path / "tilted", tmp_path / "seg", window="lung", masks="dicom_seg")
    (row,) = read_csv(tmp_path / "seg" / "scans.csv")
    assert row["mask"] == "masks/tilted.dcm" and "SimpleITK" not in row["notes"]
    assert float(row["infected_ml"]) == pytest.approx(
        float(read_csv(tmp_path / "out tilted" / "scans.csv")[0]["infected_ml"])
    )


def test_even_runs_of_a_series_get_a_mask_each(trained, tmp_path):
    write_series(
        tmp_path / "in",
        VALUES,
        lambda data, k: setattr(data, "ImagePositionPatient", [0, 0, k + k**2 // 3]),
    )
    screen(trained[0], tmp_path / "in", tmp_path / "out", window="lung")
    (row,) = read_csv(tmp_path / "out" / "scans.csv")
    slices = read_csv(tmp_path / "out" / "predictions.csv")
    files = row["mask"].split("; ")
    assert (
        files == [f"masks/in.{k}of{len(files)}.nii.gz" for k in range(1, len(files) + 1)]
        and len(files) > 1
    )
    assert (
        f"in {len(files)} files" in row["notes"]
        and list(dict.fromkeys(r["mask"] for r in slices)) == files
    )
    ml = 0
    for file in files:
        mask = nibabel.load(tmp_path / "out" / file)
        ml += np.asarray(mask.dataobj).sum() * abs(np.linalg.det(mask.affine[:3, :3])) / 1000
    assert ml == pytest.approx(float(row["infected_ml"]), rel=1e-6)
    assert sum(
        float(r["infected_mm2"]) * float(r["extent_mm"]) for r in slices
    ) / 1000 == pytest.approx(ml, rel=1e-6)
    assert build_screening(tmp_path / "out").is_file()
