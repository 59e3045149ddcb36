"""Screening new slices with a trained run."""

import csv

import numpy as np
import pytest
from PIL import Image

from covjax.config import write_json
from covjax.data import phantom
from covjax.data.lungs import lung_box
from covjax.errors import InputError
from covjax.framework import Screener, screen_folder
from covjax.framework.screener import overlay


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "new slices"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k, name in enumerate(("a b.png", "sub/ü%20.png", "c.jpg")):
        Image.fromarray(rng.integers(0, 256, (40 + k, 50), np.uint8)).save(folder / name)
    return folder


def test_masks_come_back_in_each_slice_s_own_size_and_order(trained):
    screener = Screener.from_workdir(trained[0], batch_size=2)
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (30 + k, 61 - k), np.uint8) for k in range(19)]
    found = list(screener.screen(images))
    assert [f.mask.shape for f in found] == [i.shape for i in images]
    for f in found:
        assert 0 <= f.probability <= 1
        assert f.infected == (f.probability >= 0.5)
        assert f.share == pytest.approx(f.mask.mean())
        assert f.infected or not f.mask.any()


def test_results_do_not_depend_on_the_batch_size(trained):
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 256, (48, 48), np.uint8) for _ in range(7)]
    one, many = (list(Screener.from_workdir(trained[0], n).screen(images)) for n in (1, 8))
    np.testing.assert_allclose([f.probability for f in one], [f.probability for f in many], atol=1e-5)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_array_equal(a.mask, b.mask)


def test_folder_of_pictures(trained, pictures, tmp_path):
    output = tmp_path / "out"
    summary = screen_folder(trained[0], pictures, output)
    with (output / "predictions.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [r["file"] for r in rows] == ["a b.png", "c.jpg", "sub/ü%20.png"]
    assert "screened 3 slices" in summary
    for row in rows:
        mask = np.asarray(Image.open(output / row["mask"]))
        assert mask.shape == np.asarray(Image.open(pictures / row["file"])).shape
        assert set(np.unique(mask)) <= {0, 255}
        assert (mask > 0).mean() == pytest.approx(float(row["infected_share"]), abs=1e-6)
        assert (output / "overlays" / f"{row['id']}.png").is_file()
    assert not output.with_name("out.partial").exists()


def test_a_damaged_picture_leaves_no_output(trained, pictures, tmp_path):
    (pictures / "z.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match="z.png"):
        screen_folder(trained[0], pictures, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


def test_nothing_is_overwritten(trained, pictures, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="--output"):
        screen_folder(trained[0], pictures, tmp_path / "out")
    with pytest.raises(InputError, match="--input"):
        screen_folder(trained[0], tmp_path / "nowhere", tmp_path / "other")


def test_slices_are_cropped_to_the_lungs_and_masks_put_back(trained):
    images = [phantom.phantom_slice(1, k, slices_per_patient=12, size=96)[0] for k in (3, 6)]
    plain = Screener.from_workdir(trained[0], batch_size=2)
    cropping = Screener(plain.stages, plain.variables, 2, lung_crop=True)
    by_hand = list(plain.screen([image[lung_box(image)] for image in images]))
    for image, whole, part in zip(images, cropping.screen(images), by_hand, strict=True):
        assert whole.mask.shape == image.shape and whole.probability == pytest.approx(part.probability, abs=1e-6)
        np.testing.assert_array_equal(whole.mask[lung_box(image)], part.mask)
        assert whole.mask.sum() == part.mask.sum() and whole.share == pytest.approx(whole.mask.mean())


def test_pictures_are_refused_by_a_run_that_saw_hu(trained, pictures, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.json", "checkpoints", *(path.name for path in trained[0].glob("statistics_*.json"))):
        (run / name).symlink_to(trained[0] / name)
    write_json(run / "intensity.json", {"values": ["hu"], "window": [-600, 1500]})
    with pytest.raises(InputError, match="--window=as_is"):
        screen_folder(run, pictures, tmp_path / "out")
    assert "screened 3" in screen_folder(run, pictures, tmp_path / "out", window="as_is")
    (run / "intensity.json").write_text("[1]")
    with pytest.raises(InputError, match="intensity.json: damaged"):
        screen_folder(run, pictures, tmp_path / "other")


def test_overlay_draws_the_contour_only():
    image, mask = np.full((5, 5), 100, np.uint8), np.zeros((5, 5), np.uint8)
    mask[1:4, 1:4] = 1
    changed = (overlay(image, mask) != 100).any(-1)
    assert changed.sum() == 8 and not changed[2, 2]
