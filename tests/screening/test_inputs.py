"""What is screened of a folder: scans and pictures, but not the masks beside them."""

from pathlib import Path

import numpy as np
import pytest

from covjax.data.listing import stop
from covjax.data.sources.scans import ENDINGS
from covjax.errors import InputError
from covjax.screening.inputs import find_screened
from tests.data.written import scan, write_nifti, write_series
from tests.screening.by_hand import write_picture

VALUES = scan((3, 40, 50))
MARKED = (VALUES > 0).astype(np.uint8)
PLACES = [f"{{name}}{ending}" for ending in ENDINGS[1:]]
PLACES += [f"{folder}/{{name}}{ending}" for folder in ("masks", "lungs") for ending in ENDINGS]


def written(folder, kind, name):
    """Writes a scan, or a picture, and returns the name by which it is screened and what writes its
    mask.
    """
    if kind == "picture":
        write_picture(
            folder / f"{name}.png", np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
        )
        return lambda path: write_picture(path.with_name(path.name + ".png"), MARKED[0] * 255)
    if kind == "dicom":
        write_series(folder / name, VALUES)
    else:
        write_nifti(folder / f"{name}.nii", VALUES)
    return lambda path: write_nifti(path.with_name(path.name + ".nii.gz"), MARKED)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["nifti", "dicom", "picture"])
@pytest.mark.parametrize("home", ["", "images", "deep/er"])
def test_a_mask_is_no_scan(tmp_path, kind, place, home):
    write_mask = written(tmp_path / home, kind, "a.1")
    alone, _ = find_screened(tmp_path, "auto", 0, stop)
    path = place.format(name="a.1")
    if "/" in path and home == "deep/er":
        path = path.replace("/", "/deep/er/")
    elif "/" not in path:
        path = (Path(home) / path).as_posix()
    write_mask(tmp_path / path)
    found, left_out = find_screened(tmp_path, "auto", 0, stop)
    assert found.keys() == alone.keys()
    (one,) = left_out
    assert "mask of " in one.reason and one.file.startswith(path)
    assert len(find_screened(tmp_path / one.file, "auto", 0, stop)[0]) == 1  # the remedy


def test_what_only_looks_like_a_mask_is_screened(tmp_path):
    write_nifti(tmp_path / "b_seg.nii", VALUES)  # without b
    write_nifti(tmp_path / "masks" / "c.nii", VALUES)  # without c
    write_series(tmp_path / "d_mask", VALUES)
    write_nifti(tmp_path / "d.nii", VALUES)
    found, left_out = find_screened(tmp_path, "auto", 0, stop)
    assert found.keys() == {"b_seg", "masks/c", "d", "d_mask"} and not left_out


def test_a_name_of_which_no_masks_name_can_be_made_is_refused_first(tmp_path):
    write_nifti(tmp_path / f"{'b' * 233}.nii", VALUES)
    assert find_screened(tmp_path, "auto", 0, stop)[0].keys() == {"b" * 233}
    write_nifti(tmp_path / "ä" / f"{'ü' * 117}.nii", VALUES)
    with pytest.raises(InputError, match="ü: names of files are made of it, shorten .* 233 bytes"):
        find_screened(tmp_path, "auto", 0, stop)


@pytest.mark.parametrize("damaged", [0, 1, 2])
def test_a_damaged_picture_of_hu_does_not_take_its_folder_along(tmp_path, damaged):
    for k in range(3):
        write_picture(tmp_path / f"{k}.tif", (VALUES[k] + 1024).astype(np.uint16))
    (tmp_path / f"{damaged}.tif").write_bytes(b"not a picture")
    found, _ = find_screened(tmp_path, "hu_plus_1024", 0, stop)
    (opened,) = (opener() for opener in found.values())
    assert opened.intensity == "hu" and len(opened) == 3
    for k in {0, 1, 2} - {damaged}:
        np.testing.assert_array_equal(opened.read(k), VALUES[k])
