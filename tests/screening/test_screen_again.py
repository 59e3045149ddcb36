"""A screening that stopped goes on with what it had not done."""

import json

import numpy as np
import pydicom
import pytest
from PIL import Image

from covjax.errors import InputError
from covjax.screening import inputs
from covjax.screening import screen as screening
from covjax.screening.screen import screen
from tests.data.written import dicom_slice, save, write_nifti, write_series
from tests.result_files import read_csv
from tests.screening.by_hand import VALUES

pytestmark = pytest.mark.usefixtures("loaded_once")


def test_a_slice_that_changed_since_a_stop_is_screened_again(trained, tmp_path):
    write_series(tmp_path / "in" / "a", VALUES)
    write_nifti(tmp_path / "in" / "b.nii", VALUES)
    whole = (tmp_path / "in" / "b.nii").read_bytes()
    (tmp_path / "in" / "b.nii").write_bytes(whole[:2000])
    with pytest.raises(InputError, match="1 scans are done and kept"):
        screen(trained[0], tmp_path / "in", tmp_path / "out", window="lung")
    (tmp_path / "in" / "b.nii").write_bytes(whole)
    changed = next(
        path
        for path in (tmp_path / "in" / "a").iterdir()
        if pydicom.dcmread(path).InstanceNumber == 3
    )
    save(dicom_slice(VALUES * 0 - 500, 2), changed)
    screen(trained[0], tmp_path / "in", tmp_path / "out", window="lung")
    screen(trained[0], tmp_path / "in", tmp_path / "straight", window="lung")
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == (
        tmp_path / "straight" / "predictions.csv"
    ).read_bytes()


def test_scans_that_are_done_are_kept_and_not_screened_again(trained, tmp_path, monkeypatch):
    for name in "abc":
        write_nifti(tmp_path / "in" / f"{name}.nii", VALUES + ord(name))
    whole = (tmp_path / "in" / "b.nii").read_bytes()
    screen(trained[0], tmp_path / "in", tmp_path / "straight", window="lung")
    (tmp_path / "in" / "b.nii").write_bytes(whole[:2000])
    with pytest.raises(InputError, match="1 scans are done and kept"):
        screen(trained[0], tmp_path / "in", tmp_path / "out", window="lung")
    (tmp_path / "in" / "b.nii").write_bytes(whole)
    screened = []
    real = screening.screen_scan
    monkeypatch.setattr(
        screening, "screen_scan", lambda job, scan: screened.append(scan.name) or real(job, scan)
    )
    screen(trained[0], tmp_path / "in", tmp_path / "out", window="lung")
    assert screened == ["b", "c"]
    for name in ("predictions.csv", "scans.csv", "masks/a.nii.gz", "masks/b.nii.gz"):
        assert (tmp_path / "out" / name).read_bytes() == (
            tmp_path / "straight" / name
        ).read_bytes(), name
    assert not (tmp_path / "out" / "done").exists()


def test_pictures_that_are_done_are_kept_and_not_screened_again(trained, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for k in range(20):
        picture = Image.fromarray(rng.integers(0, 256, (48, 48), dtype=np.uint8))
        picture.save(tmp_path / "in" / f"{k:02}.png")
    (tmp_path / "in" / "03.png").write_bytes(b"damaged")

    def screened(name):
        out = tmp_path / name
        screen(trained[0], tmp_path / "in", out, batch_size=1, on_error="skip")
        return {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}

    read_picture = inputs.images.read_picture
    done = []

    def stopped(path, *options):
        done.append(path.stem)
        if path.stem == "17":
            raise KeyboardInterrupt
        return read_picture(path, *options)

    monkeypatch.setattr(inputs.images, "read_picture", stopped)
    with pytest.raises(KeyboardInterrupt):
        screened("out")
    monkeypatch.setattr(
        inputs.images, "read_picture", lambda *a: done.append(a[0].stem) or read_picture(*a)
    )
    done.clear()
    again = screened("out")
    assert done == ["16", "17", "18", "19"]
    assert len(again) > 40 and again == screened("straight")


@pytest.mark.parametrize("on_error", ["skip", "stop"])
def test_what_was_skipped_before_a_stop_is_named_after_it(
    trained, pictures, tmp_path, monkeypatch, on_error
):
    (pictures / "z.png").write_bytes(b"not a picture")
    real = screening.screen_scan

    def stopped(job, scan):
        if scan.name == "sub":
            raise KeyboardInterrupt
        return real(job, scan)

    monkeypatch.setattr(screening, "screen_scan", stopped)
    with pytest.raises(KeyboardInterrupt):
        screen(trained[0], pictures, tmp_path / "out", on_error="skip")
    monkeypatch.undo()
    if on_error == "stop":
        with pytest.raises(InputError, match="z.png.*--on_error=skip"):
            screen(trained[0], pictures, tmp_path / "out")
    screen(trained[0], pictures, tmp_path / "out", on_error="skip")
    told = json.loads((tmp_path / "out" / "screening.json").read_text(encoding="utf-8"))
    assert [one["file"] for one in told["left_out"]] == ["z.png"] and len(told["skipped"]) == 1
    assert (tmp_path / "out" / "overlays" / "a b.png").is_file()


def test_what_is_kept_of_another_window_is_not_used(trained, tmp_path):
    for name in "ab":
        write_nifti(tmp_path / "in" / f"{name}.nii", VALUES)
    whole = (tmp_path / "in" / "b.nii").read_bytes()
    (tmp_path / "in" / "b.nii").write_bytes(whole[:2000])
    with pytest.raises(InputError, match="kept"):
        screen(trained[0], tmp_path / "in", tmp_path / "out", window="mediastinum")
    (tmp_path / "in" / "b.nii").write_bytes(whole)
    screen(trained[0], tmp_path / "in", tmp_path / "out", window="lung")
    a, b = (
        [
            row["probability_infected"]
            for row in read_csv(tmp_path / "out" / "predictions.csv")[k : k + 5]
        ]
        for k in (0, 5)
    )
    assert a == b
