"""Pictures and runs of one stage screened; what is drawn of them."""

import numpy as np
import pytest
from PIL import Image

from covjax.errors import InputError
from covjax.report import build_screening
from covjax.screening.overlays import overlay
from covjax.screening.screen import screen
from covjax.screening.screener import Screener
from tests.data.written import write_nifti
from tests.result_files import read_csv
from tests.screening.by_hand import VALUES, write_picture

pytestmark = pytest.mark.usefixtures("loaded_once")


def test_folder_of_pictures(trained, pictures, tmp_path):
    output = tmp_path / "out"
    summary = screen(trained[0], pictures, output)
    rows = read_csv(output / "predictions.csv")
    assert [r["id"] for r in rows] == ["a b", "c", "sub/ü%20"]
    assert [r["file"] for r in rows] == ["a b.png", "c.jpg", "ü%20.png"]
    assert "screened 3 slices of 2 scans" in summary
    for row in rows:
        mask = np.asarray(Image.open(output / row["mask"]))
        picture = pictures / row["id"]
        assert mask.shape == np.asarray(Image.open(picture.with_name(row["file"]))).shape
        assert set(np.unique(mask)) <= {0, 255}
        assert int(row["infected_pixels"]) / mask.size == pytest.approx(
            float(row["infected_share"]), abs=1e-6
        )
        marked = int(row["infected_pixels"]) + int(row["infected_outside_lung_pixels"])
        assert marked == (mask > 0).sum() and row["infected_mm2"] == ""
        assert (output / "overlays" / f"{row['id']}.png").is_file()
    assert [
        (r["scan"], r["slices"], r["values"], r["window"]) for r in read_csv(output / "scans.csv")
    ] == [
        ("new slices", "2", "8bit", "as_is"),
        ("sub", "1", "8bit", "as_is"),
    ]
    assert not output.with_name("out.partial").exists()


def test_scans_and_pictures_of_one_name_are_told_apart(trained, tmp_path):
    write_nifti(tmp_path / "in" / "a.nii", VALUES)
    write_picture(tmp_path / "in" / "a" / "1.png", np.uint8(VALUES[0] % 256))
    screen(trained[0], tmp_path / "in", tmp_path / "out", window="lung")
    ids = [row["id"] for row in read_csv(tmp_path / "out" / "predictions.csv")]
    assert ids == [*(f"a/{k:04d}" for k in range(5)), "a_pictures/1"]
    write_picture(tmp_path / "in" / "a" / "1.jpg", np.uint8(VALUES[0] % 256))
    with pytest.raises(InputError, match="same name without its suffix"):
        screen(trained[0], tmp_path / "in", tmp_path / "other", window="lung")


@pytest.mark.parametrize("stages", [("classifier",), ("segmenter",)])
def test_runs_of_one_stage(trained, tmp_path, monkeypatch, stages):
    write_nifti(tmp_path / "a.nii", VALUES[:1])
    both = Screener.from_workdir(trained[0])
    one = Screener({name: both.stages[name] for name in stages}, both.variables)
    monkeypatch.setattr(Screener, "from_workdir", lambda *arguments: one)
    screen(trained[0], tmp_path / "a.nii", tmp_path / "out", window="lung")
    (row,), (summed,) = (
        read_csv(tmp_path / "out" / f"{name}.csv") for name in ("predictions", "scans")
    )
    masks = "segmenter" in stages
    assert (
        (row["mask"] != "")
        == masks
        == (tmp_path / "out" / "masks").exists()
        == (summed["infected_ml"] != "")
    )
    assert (
        (row["probability_infected"] != "")
        == ("classifier" in stages)
        == (summed["highest_probability"] != "")
    )
    assert (tmp_path / "out" / "overlays" / "a" / "0000.png").is_file()
    assert build_screening(tmp_path / "out").is_file()


def test_overlay_draws_the_contour_only():
    image = np.full((5, 5), 100, np.uint8)
    mask = np.zeros((5, 5), np.uint8)
    mask[1:4, 1:4] = 1
    changed = (overlay(image, mask) != 100).any(-1)
    assert changed.sum() == 8 and not changed[2, 2]
