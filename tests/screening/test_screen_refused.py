"""What a screening cannot use stops it or is listed."""

import json
import os
import re

import numpy as np
import pytest

from covjax.data.intensity import eight_bit
from covjax.data.phantom.picture import phantom_slice
from covjax.errors import InputError
from covjax.files import write_json
from covjax.report import build_screening
from covjax.screening import inputs as screened
from covjax.screening.screen import screen
from covjax.settings import load_settings
from tests.data.written import dicom_slice, save, write_nifti, write_series
from tests.result_files import read_csv
from tests.screening.by_hand import VALUES, write_picture

pytestmark = pytest.mark.usefixtures("loaded_once")


DRAWN = 200  # files left out that a page names


def test_what_cannot_be_used_stops_or_is_listed(trained, pictures, tmp_path):
    (pictures / "z.png").write_bytes(b"not a picture")
    write_nifti(pictures / "scan.nii", VALUES)
    write_nifti(pictures / "cut.nii.gz", VALUES)
    (pictures / "cut.nii.gz").write_bytes((pictures / "cut.nii.gz").read_bytes()[:3000])
    (pictures / "notes.txt").write_text("no scan")
    with pytest.raises(InputError, match="cut.nii.gz.*--on_error=skip"):
        screen(trained[0], pictures, tmp_path / "out", window="lung")
    (pictures / "gone.png").symlink_to(pictures / "nothing.png")
    with pytest.raises(InputError, match="gone.png: a link to nothing.*--on_error=skip"):
        screen(trained[0], pictures, tmp_path / "out", window="lung")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()
    summary = screen(trained[0], pictures, tmp_path / "out", window="lung", on_error="skip")
    assert "8 slices of 3 scans" in summary and "skipped 3" in summary and "left out 1" in summary
    told = json.loads((tmp_path / "out" / "screening.json").read_text(encoding="utf-8"))
    names = ("gone.png", "cut.nii.gz", "z.png")
    assert all(re.search(name, text) for name, text in zip(names, told["skipped"], strict=True))
    assert not list((tmp_path / "out").rglob("*cut*"))
    assert [one["file"] for one in told["left_out"]] == [
        "cut.nii.gz",
        "gone.png",
        "notes.txt",
        "z.png",
    ]
    assert all(one["reason"] and str(pictures) not in one["reason"] for one in told["left_out"])
    assert read_csv(tmp_path / "out" / "left_out.csv") == told["left_out"]
    for name in ("scan.nii", "a b.png", "c.jpg", "sub/ü%20.png", "gone.png"):
        (pictures / name).unlink()
    with pytest.raises(
        InputError, match="nothing of .* can be used, the first reason: .*cut.nii.gz"
    ):
        screen(trained[0], pictures, tmp_path / "other", window="lung", on_error="skip")


def test_a_file_that_cannot_be_read_is_not_counted_as_of_another_kind(tmp_path, monkeypatch):
    for name in ("a.png", "locked", "notes.txt"):
        (tmp_path / name).write_bytes(b"")

    def is_dicom(path):
        if path.name == "locked":
            raise InputError("locked")
        return False

    monkeypatch.setattr(screened, "is_dicom", is_dicom)
    skipped = []
    found, left_out = screened.find_screened(tmp_path, "auto", 16, skipped.append)
    assert len(found) == 1 and [*map(str, skipped)] == ["locked"]
    assert left_out == (("notes.txt", "no picture or scan (.txt)"),)


def test_what_is_left_out_is_on_the_page_and_in_the_tables(trained, tmp_path):
    write_series(tmp_path / "in" / "a", VALUES)
    save(
        dicom_slice(VALUES, 2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        tmp_path / "in" / "a" / "scout.dcm",
    )
    save(dicom_slice(VALUES, 2), tmp_path / "in" / "a" / "again.dcm")
    (tmp_path / "out.nii").write_bytes(b"")
    (tmp_path / "in" / "link.nii").symlink_to(tmp_path / "out.nii")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    words = {
        "a/again.dcm": "copy",
        "a/scout.dcm": "localizer",
        "link.nii": "link out",
        "pipe.png": "pipe",
    }
    for k in range(DRAWN):
        (tmp_path / "in" / f"z{k:03d}.txt").write_text("")
    summary = screen(trained[0], tmp_path / "in", tmp_path / "out", window="lung")
    assert f"left out {4 + DRAWN}" in summary
    told = json.loads((tmp_path / "out" / "screening.json").read_text(encoding="utf-8"))["left_out"]
    assert read_csv(tmp_path / "out" / "left_out.csv") == told and len(told) == 4 + DRAWN
    assert all(word in one["reason"] for one, word in zip(told, words.values(), strict=False))
    assert [one["file"] for one in told[:4]] == list(words)
    text = build_screening(tmp_path / "out").read_text(encoding="utf-8")
    assert all(name in text for name in words) and f"all {4 + DRAWN} are in left_out.csv" in text
    assert "z000.txt" in text and f"z{DRAWN - 1:03d}.txt" not in text
    (summed,) = read_csv(tmp_path / "out" / "scans.csv")
    assert summed["slices"] == "5" and summed["file"] == "a"


def test_nothing_is_overwritten(trained, pictures, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="--output"):
        screen(trained[0], pictures, tmp_path / "out")
    with pytest.raises(InputError, match="--input: .* does not exist"):
        screen(trained[0], tmp_path / "nowhere", tmp_path / "other")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds no scan"):
        screen(trained[0], tmp_path / "none", tmp_path / "other")


def test_pictures_are_refused_by_a_run_that_saw_hu(trained, pictures, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in (
        "config.json",
        "checkpoints",
        *(path.name for path in trained[0].glob("statistics_*.json")),
    ):
        (run / name).symlink_to(trained[0] / name)
    write_json(run / "intensity.json", {"values": ["hu"], "window": [-600, 1500]})
    with pytest.raises(InputError, match="--window=as_is"):
        screen(run, pictures, tmp_path / "out")
    write_nifti(pictures / "scan.nii", VALUES)
    assert "screened 8" in screen(run, pictures, tmp_path / "out", window="as_is")
    assert {r["scan"]: r["window"] for r in read_csv(tmp_path / "out" / "scans.csv")}[
        "scan"
    ] == "-600,1500"
    assert load_settings(run).data.window == "lung"
    for content in ("[1]", '{"values": []}', '{"values": "hu"}', '{"values": ["HU"]}'):
        (run / "intensity.json").write_text(content)
        with pytest.raises(InputError, match="intensity.json: damaged"):
            screen(run, pictures, tmp_path / "other")


CHEST = np.stack([phantom_slice(0, k, slices_per_patient=3, size=48, seed=0)[0] for k in range(3)])


HU = np.rint(CHEST * (1500 / 255) - 1350).clip(-1000).astype(np.int16)  # air, as padding becomes


def values_as_others_store_them(folder):
    """Writes the same three slices in forms that nothing in the file explains; returns {name:
    path}.
    """
    write_nifti(folder / "offset.nii", np.where(HU == -1000, -2000, HU + 1024).astype(np.int16))
    write_nifti(folder / "high.nii", (HU + 32768.0).astype(np.float32))
    write_nifti(folder / "wrapped.nii", HU.view(np.uint16))
    for k in range(3):
        write_picture(folder / "tiff" / f"{k}.tif", (HU[k] + 1024).astype(np.uint16))
        write_picture(
            folder / "grey" / f"{k}.tif",
            np.rint(eight_bit(HU[k], (-600, 1500)) * (4095 / 255)).astype(np.uint16),
        )
    return {name: folder / f"{name}.nii" for name in ("offset", "high", "wrapped")} | {
        name: folder / name for name in ("tiff", "grey")
    }


def test_values_that_are_not_clear_are_refused_and_read_with_the_flag_that_the_refusal_names(
    trained, tmp_path
):
    def called(path, name, **flags):
        screen(trained[0], path, tmp_path / name, window="lung", **flags)
        return [row["called_infected"] for row in read_csv(tmp_path / name / "predictions.csv")]

    write_nifti(tmp_path / "hu.nii", HU)
    expected = called(tmp_path / "hu.nii", "base")
    wanted = {
        "offset": "hu_plus_1024",
        "high": "hu_plus_32768",
        "wrapped": "hu_signed",
        "tiff": "hu_plus_1024",
    }
    for name, path in values_as_others_store_them(tmp_path / "in").items():
        with pytest.raises(InputError) as caught:
            called(path, f"{name}_refused")
        text = str(caught.value)
        assert text.count("--on_error=skip") == 1 and not (tmp_path / f"{name}_refused").exists()
        offered = {
            flag: value for flag, value in re.findall(r"--(\w+)=(\w+) \(in training", text)[:1]
        }
        assert offered == ({"intensity": wanted[name]} if name in wanted else {"bits": "12"})
        flags = {flag: int(value) if flag == "bits" else value for flag, value in offered.items()}
        assert called(path, name, **flags) == expected, name
        notes = json.loads((tmp_path / name / "screening.json").read_text(encoding="utf-8"))[
            "notes"
        ]
        assert name == "grey" or "as declared" in str(notes)
