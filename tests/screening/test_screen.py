"""Screening files with a trained run: what is found, written, skipped, refused and resumed."""

import csv
import json
import os
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from covjax.data.formats.nifti import open_labels
from covjax.data.formats.volumes import canonical
from covjax.data.intensity import eight_bit
from covjax.data.phantom.picture import phantom_slice
from covjax.errors import InputError
from covjax.files import write_json
from covjax.report import build_screening
from covjax.screening import inputs as screened
from covjax.screening import screen as screening
from covjax.screening.overlays import overlay
from covjax.screening.screen import screen
from covjax.screening.screener import Screener
from covjax.settings import load_settings
from tests.data.written import SPACING, dicom_slice, save, scan, write_nifti, write_series

DRAWN = 200  # files left out that a page names
VALUES = scan((5, 40, 50))
LOADED = {}  # screeners of earlier tests: each would compile anew


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch):
    real = Screener.from_workdir

    def load(*arguments):
        if arguments not in LOADED:
            LOADED[arguments] = real(*arguments)
        return LOADED[arguments]

    monkeypatch.setattr(Screener, "from_workdir", load)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "new slices"
    rng = np.random.default_rng(0)
    for k, name in enumerate(("a b.png", "sub/ü%20.png", "c.jpg")):
        write_picture(folder / name, rng.integers(0, 256, (40 + k, 50), np.uint8))
    return folder


def write_picture(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def read(path):
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def by_hand(workdir, values, window=(-600, 1500)):
    return list(
        Screener.from_workdir(workdir, 4).screen([eight_bit(one, window) for one in values])
    )


def test_folder_of_pictures(trained, pictures, tmp_path):
    output = tmp_path / "out"
    summary = screen(trained[0], pictures, output)
    rows = read(output / "predictions.csv")
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
        (r["scan"], r["slices"], r["values"], r["window"]) for r in read(output / "scans.csv")
    ] == [
        ("new slices", "2", "8bit", "as_is"),
        ("sub", "1", "8bit", "as_is"),
    ]
    assert not output.with_name("out.partial").exists()


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
    rows = read(output / "predictions.csv")
    pixel = SPACING[1] * SPACING[2]
    mask = canonical(labels.stored[..., 0], labels.geometry)
    for k, (row, one) in enumerate(zip(rows, expected, strict=True)):
        np.testing.assert_array_equal(mask[k], one.mask)
        assert row["id"] == f"a b/{k:04d}" and float(row["probability_infected"]) == pytest.approx(
            one.probability
        )
        assert float(row["infected_mm2"]) == pytest.approx(one.mask.sum() * pixel, rel=1e-5)
    (summed,) = read(output / "scans.csv")
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
    tables = [read(tmp_path / name / "predictions.csv") for name in ("medium", "folder", "nifti")]
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
    assert read(tmp_path / "out" / "left_out.csv") == told["left_out"]
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
    assert read(tmp_path / "out" / "left_out.csv") == told and len(told) == 4 + DRAWN
    assert all(word in one["reason"] for one, word in zip(told, words.values(), strict=False))
    assert [one["file"] for one in told[:4]] == list(words)
    text = build_screening(tmp_path / "out").read_text(encoding="utf-8")
    assert all(name in text for name in words) and f"all {4 + DRAWN} are in left_out.csv" in text
    assert "z000.txt" in text and f"z{DRAWN - 1:03d}.txt" not in text
    (summed,) = read(tmp_path / "out" / "scans.csv")
    assert summed["slices"] == "5" and summed["file"] == "a"


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
            for row in read(tmp_path / "out" / "predictions.csv")[k : k + 5]
        ]
        for k in (0, 5)
    )
    assert a == b


def test_scans_and_pictures_of_one_name_are_told_apart(trained, tmp_path):
    write_nifti(tmp_path / "in" / "a.nii", VALUES)
    write_picture(tmp_path / "in" / "a" / "1.png", np.uint8(VALUES[0] % 256))
    screen(trained[0], tmp_path / "in", tmp_path / "out", window="lung")
    ids = [row["id"] for row in read(tmp_path / "out" / "predictions.csv")]
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
        read(tmp_path / "out" / f"{name}.csv") for name in ("predictions", "scans")
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


class Links(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.found = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.found += [
            value
            for name, value in attributes
            if name in ("href", "src") and not value.startswith("#")
        ]


def test_pages_link_to_what_is_there_and_escape_what_they_are_given(trained, pictures, tmp_path):
    write_nifti(pictures / "<b>&'#1.nii", VALUES)
    (pictures / "z.png").write_bytes(b"<i>not a picture</i>")
    screen(trained[0], pictures, tmp_path / "out", window="lung", on_error="skip")
    index = build_screening(tmp_path / "out")
    pages = [index, *(tmp_path / "out" / "scans").rglob("*.html")]
    assert len(pages) == 4
    for page in pages:
        links = Links(page).found
        text = page.read_text(encoding="utf-8")
        assert links and all((page.parent / unquote(link)).is_file() for link in links)
        assert "<b>&" not in text and "<i>" not in text and "not a medical device" in text
    named = "".join(page.read_text(encoding="utf-8") for page in pages[1:])
    sources = [unquote(source) for source in re.findall(r'"src": "([^"]+)"', named)]
    assert len(sources) == 8 and "z.png" in index.read_text(encoding="utf-8")
    (tmp_path / "out" / "scans.csv").write_text("scan\n")
    with pytest.raises(InputError, match="scans.csv: column '.*' is missing, screen again"):
        build_screening(tmp_path / "out")


def test_notes_on_a_scan_are_in_its_table_in_json_and_on_the_pages(trained, tmp_path):
    for name, gap in (("a", 0), ("b<i>", 9), ("c", 9)):

        def move(data, k, gap=gap):
            data.ImagePositionPatient = [0, 0, k + gap * (k > 2)]

        write_series(tmp_path / "in" / name, VALUES, move, SeriesInstanceUID=f"1.2.{ord(name[0])}")
    summary = screen(trained[0], tmp_path / "in", tmp_path / "out", window="lung")
    assert "3 scans have notes" in summary  # no lungs are found in noise
    told = json.loads((tmp_path / "out" / "screening.json").read_text(encoding="utf-8"))["notes"]
    assert (
        set(told) == {"a", "b<i>", "c"}
        and "not evenly spaced" in told["c"][0]
        and len(told["a"]) == 1
    )
    assert {r["scan"]: r["notes"] for r in read(tmp_path / "out" / "scans.csv")} == {
        name: "; ".join(notes) for name, notes in told.items()
    }
    index = build_screening(tmp_path / "out").read_text(encoding="utf-8")
    assert "To note" in index and "not evenly spaced" in index and "<i>" not in index
    pages = {
        name: (tmp_path / "out" / "scans" / f"{name}.html").read_text(encoding="utf-8")
        for name in ("a", "c")
    }
    assert "not evenly spaced" in pages["c"] and "not evenly spaced" not in pages["a"]


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
        (row,) = read(output / "scans.csv")
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
    pytest.importorskip("highdicom", reason="pip install 'covjax[seg]'")
    screen(trained[0], tmp_path / "tilted", tmp_path / "seg", window="lung", masks="dicom_seg")
    (row,) = read(tmp_path / "seg" / "scans.csv")
    assert row["mask"] == "masks/tilted.dcm" and "SimpleITK" not in row["notes"]
    assert float(row["infected_ml"]) == pytest.approx(
        float(read(tmp_path / "out tilted" / "scans.csv")[0]["infected_ml"])
    )


def test_even_runs_of_a_series_get_a_mask_each(trained, tmp_path):
    write_series(
        tmp_path / "in",
        VALUES,
        lambda data, k: setattr(data, "ImagePositionPatient", [0, 0, k + k**2 // 3]),
    )
    screen(trained[0], tmp_path / "in", tmp_path / "out", window="lung")
    (row,) = read(tmp_path / "out" / "scans.csv")
    slices = read(tmp_path / "out" / "predictions.csv")
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
    assert {r["scan"]: r["window"] for r in read(tmp_path / "out" / "scans.csv")}[
        "scan"
    ] == "-600,1500"
    assert load_settings(run).data.window == "lung"
    (run / "intensity.json").write_text("[1]")
    with pytest.raises(InputError, match="intensity.json: damaged"):
        screen(run, pictures, tmp_path / "other")


def test_overlay_draws_the_contour_only():
    image = np.full((5, 5), 100, np.uint8)
    mask = np.zeros((5, 5), np.uint8)
    mask[1:4, 1:4] = 1
    changed = (overlay(image, mask) != 100).any(-1)
    assert changed.sum() == 8 and not changed[2, 2]


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
        return [row["called_infected"] for row in read(tmp_path / name / "predictions.csv")]

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
