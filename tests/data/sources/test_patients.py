"""Whose slice it is: columns, tags and names; what results show of it; and what they never show."""

import csv
import re
import shutil
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from covjax.data.prepared.dataset import prepare
from covjax.data.sources.patients import Pseudonyms, match, patient_name
from covjax.data.sources.registry import open_source
from covjax.errors import InputError
from covjax.settings import default_config
from tests.data.written import scan, write_nifti, write_series

NAMES = ("doe", "roe", "poe", "moe")
MASK = np.zeros((2, 16, 16), np.uint8)
MASK[1, 3:6, 4:9] = 1


def config(path, source, **fields):
    data = default_config().data
    with data.unlocked():
        data.update(
            dict(source=source, path=str(path), prepared_dir=str(path) + "_prepared", window="lung")
            | fields
        )
    return data


def write(folder, source, names=NAMES, scans=2, first=0):
    """Writes scans (or pictures) of each of the names, no two alike, and returns what they are
    called: scanN_NAME.
    """
    called = [f"scan{k}_{name}" for name in names for k in range(scans)]
    for k, name in enumerate(called, first):
        values = scan((2, 16, 16)) + k
        if source == "folder":
            (folder / "images").mkdir(parents=True, exist_ok=True)
            (folder / "masks").mkdir(exist_ok=True)
            Image.fromarray(np.uint8(values[0] % 256)).save(folder / "images" / f"{name}.png")
            Image.fromarray(MASK[1] * 255).save(folder / "masks" / f"{name}.png")
            continue
        write_nifti(folder / "masks" / f"{name}.nii", MASK)
        if source == "nifti":
            write_nifti(folder / "images" / f"{name}.nii", values)
        else:
            write_series(
                folder / "images" / name,
                values,
                PatientID="tagged",
                SeriesInstanceUID=f"1.2.{k + 10}",
            )
    return called


def index(folder, header, rows):
    with (folder / "index.csv").open("w", newline="") as out:
        csv.writer(out).writerows([header, *rows])


def patients(path, source, **fields):
    opened = open_source(config(path, source, **fields))
    return [opened.load(i).patient for i in range(len(opened.ids))]


def fails(path, source, *words, **fields):
    with pytest.raises(InputError) as caught:
        patients(path, source, **fields)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


SOURCES = ("folder", "nifti", "dicom")


@pytest.mark.parametrize("source", SOURCES)
def test_the_column_is_found_whatever_its_capitals_and_must_be_there(tmp_path, source):
    called = write(tmp_path, source)
    fails(
        tmp_path,
        source,
        "data.patient_column: 'PatientID', but there is no",
        patient_column="PatientID",
    )
    index(tmp_path, ("id", "PatientID"), [(name, name[-3:]) for name in called])
    for column in ("PatientID", "patientid", " PATIENTID "):
        found = patients(tmp_path, source, patient_column=column, show_patients=True)
        assert len(set(found)) == len(NAMES) and set(found) == set(NAMES)
    fails(
        tmp_path,
        source,
        "no column 'patient_id'",
        "name one that it has (id, patientid)",
        patient_column="patient_id",
    )
    index(tmp_path, ("id", "PatientID"), [(name, "") for name in called])
    fails(tmp_path, source, "column 'patientid'", "is empty", patient_column="patientid")
    index(tmp_path, ("id", "Patient", "patient"), [(name, "a", "b") for name in called])
    fails(tmp_path, source, "two columns patient")


@pytest.mark.parametrize("column", ["PatientID", "patient_id", "Patient ID", "subject", "Patients"])
@pytest.mark.parametrize("source", SOURCES)
def test_a_column_of_patients_is_not_passed_over_and_the_remedy_works(tmp_path, source, column):
    called = write(tmp_path, source)
    index(
        tmp_path, ["id", column, "patient_age"], [[name, name.split("_")[1], 60] for name in called]
    )
    fails(
        tmp_path,
        source,
        "index.csv: has no column patient, but",
        f"--config.data.patient_column='{column.lower()}'",
    )
    assert len(set(patients(tmp_path, source, patient_column=column.lower()))) == len(NAMES)
    index(tmp_path, ["id", "patient_age"], [[name, 60] for name in called])
    patients(tmp_path, source)


@pytest.mark.parametrize("source", SOURCES)
def test_an_empty_cell_where_others_are_filled_is_refused_and_the_remedy_works(tmp_path, source):
    called = write(tmp_path, source)
    cells = [name[-3:] for name in called]
    cells[3] = " "
    index(tmp_path, ("id", "patient"), zip(called, cells, strict=True))
    fails(tmp_path, source, "1 rows", called[3], "separate name")
    cells[3] = "unknown"
    index(tmp_path, ("id", "patient"), zip(called, cells, strict=True))
    assert len(set(patients(tmp_path, source))) == len(NAMES) + 1


def test_series_without_a_patient_beside_others_are_refused(tmp_path):
    write(tmp_path, "dicom", NAMES[:1])
    write_series(
        tmp_path / "images" / "tagless", scan((2, 16, 16)), PatientID=None, SeriesInstanceUID="1.9"
    )
    write_nifti(tmp_path / "masks" / "tagless.nii", MASK)
    fails(tmp_path, "dicom", "tagless: has no PatientID", "index.csv")
    index(tmp_path, ("id", "patient"), [("scan0_doe", 1), ("scan1_doe", 1), ("tagless", 2)])
    assert len(set(patients(tmp_path, "dicom"))) == 2


@given(st.integers(-(10**9), 10**15), st.integers(0, 3), st.sampled_from(["", " ", "\t", "\u00a0"]))
def test_a_number_is_one_patient_however_a_spreadsheet_writes_it(number, zeros, space):
    assert patient_name(f"{space}{number}{'.' * (zeros > 0)}{'0' * zeros}{space}") == str(number)


@given(st.text(max_size=12))
def test_names_are_kept_but_for_their_form(name):
    kept = patient_name(name)
    assert patient_name(kept) == kept == patient_name(unicodedata.normalize("NFD", name))
    if not re.fullmatch(r"-?\d+\.0+", kept + name.strip()):
        assert (
            unicodedata.normalize("NFC", name).strip() in (kept, f"{kept}.0", f"{kept}.00")
            or "." in name
        )


def test_leading_zeros_are_names_and_rounded_numbers_are_refused(tmp_path):
    called = write(tmp_path, "folder", ("a",), 3)
    index(tmp_path, ("id", "patient"), zip(called, ("1", "1.0", "001"), strict=True))
    assert len(set(patients(tmp_path, "folder"))) == 2
    index(
        tmp_path, ("id", "patient"), zip(called, ("1.23457E+11", "1.23457E+11", "1"), strict=True)
    )
    fails(tmp_path, "folder", "rounded", "format the column as text")


@pytest.mark.parametrize("source", SOURCES)
def test_names_that_look_alike_are_noted(tmp_path, source):
    called = write(tmp_path, source, ("a",), 5)
    index(tmp_path, ("id", "patient"), zip(called, ("1", "001", "P2", "p2", "3"), strict=True))
    opened = open_source(config(tmp_path, source))
    noted = {opened.load(i).patient: opened.load(i).notes for i in range(len(opened.ids))}
    assert [
        any("capitals or leading zeros" in note for note in notes) for notes in noted.values()
    ] == [True] * 4 + [False]


def test_two_ways_to_tell_patients_are_one_too_many(tmp_path):
    called = write(tmp_path, "folder")
    index(tmp_path, ("id", "person"), [(name, name) for name in called])
    fails(
        tmp_path,
        "folder",
        "leave one of them out",
        patient_column="person",
        patient_pattern="_(.*)",
    )


@pytest.mark.parametrize(
    "source, fields",
    [("phantom", {"patient_column": "PatientID"}), ("medseg1", {"patient_pattern": "(x)"})],
)
def test_fields_that_a_source_cannot_heed_are_refused(tmp_path, source, fields):
    fails(tmp_path, source, f"data.{next(iter(fields))}", "leave the field out", **fields)


WORD = st.text("abcxyzP0123456789", min_size=1, max_size=5)


@given(
    st.lists(WORD, min_size=1, max_size=4, unique=True),
    st.lists(st.sampled_from("/_- ."), min_size=3, max_size=6),
)
@settings(max_examples=200)
def test_no_name_of_a_patient_is_left_in_a_name(words, joints):
    """Names that are put together of patients and joints: whatever the pattern finds is gone,
    wherever it stands.
    """
    names = [f"Q{word}Q" for word in words]
    pattern = "(Q[^Q]*Q)"
    text = "".join(
        joint + name for joint, name in zip(joints, names * len(joints), strict=False)
    ).strip("/")
    known_by = Pseudonyms([("a", "b")])
    hidden = known_by.hide(text, match(pattern, text), pattern, names)
    assert not any(name.casefold() in hidden.casefold() for name in names)
    assert all(known_by.of(name) in hidden for name in names if name in text)


@pytest.mark.parametrize(
    "name, patient, kept",
    [
        ("P001/P001_0003", "P001", "*/*_0003"),
        ("P001/p001_0003", "P001", "*/*_0003"),
        ("ctP001x", "P001", "ct*x"),
        ("7/slice_0077_7", "7", "*/slice_0077_*"),
        ("Mu\u0308ller_3", "M\u00fcller", "*_3"),
        ("P002/of_P001", "P002", "*/of_+"),
        ("P002/3", "P002", "*/3"),
    ],
)
def test_where_names_are_found(name, patient, kept):
    known_by = Pseudonyms([])
    hidden = known_by.hide(name, patient, others={"P001", "P002", "3", patient})
    assert hidden.replace(known_by.of(patient), "*").replace(known_by.of("P001"), "+") == kept


@pytest.mark.parametrize("source", SOURCES)
def test_pseudonyms_are_of_the_data_and_not_to_be_guessed(tmp_path, source):
    called = write(tmp_path / "a", source)
    index(tmp_path / "a", ("id", "patient"), [(name, name[-3:]) for name in called])
    # the same data: other times, another place
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "a", tmp_path / "more")
    write(tmp_path / "more", source, ("zoe",), 1, first=20)
    index(
        tmp_path / "more", ("id", "patient"), [(name, name[-3:]) for name in (*called, "scan0_zoe")]
    )
    here, there, more = (
        prepare(config(tmp_path / name, source)) for name in ("a", "elsewhere", "more")
    )
    assert (here.fingerprint, here.ids, here.patients) == (
        there.fingerprint,
        there.ids,
        there.patients,
    )
    assert here.origins == there.origins and len(set(here.origins)) == len(here)
    # by what files hold, slices are known in larger sets
    assert set(here.origins) < set(more.origins)
    assert set(here.patients).isdisjoint(more.patients) and set(here.pseudonyms) == set(NAMES)
    windowed = open_source(config(tmp_path / "a", source, window="mediastinum"))
    assert set(windowed.ids) == set(here.ids) and windowed.origins == here.origins


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("pattern", ["", "_([a-z]+)"])
def test_nothing_that_is_prepared_names_a_patient_but_the_key(tmp_path, source, pattern):
    called = write(tmp_path / "in", source)
    index(tmp_path / "in", ("id", "patient"), [(name, name[-3:]) for name in called])
    (tmp_path / "in" / "images" / "report_of_doe.txt").write_text("")
    (tmp_path / "in" / "images" / "scan9_roe.mha").write_text("")
    data = prepare(config(tmp_path / "in", source, patient_pattern=pattern))
    assert {one.file[-4:] for one in data.left_out} == {".txt", ".mha"}
    shown = [*data.ids, *data.patients, *(text for one in data.left_out for text in one)]
    (folder,) = (path for path in (tmp_path / "in_prepared").iterdir() if path.is_dir())
    shown += [path.read_text() for path in folder.rglob("*.json")]
    assert not any(name in text for name in NAMES for text in shown)
    key = (folder / "patients.csv").read_text()
    assert all(name in key for name in NAMES)
    for path in (folder / "patients.csv", *(tmp_path / "in_prepared").glob("digests-*")):
        assert path.stat().st_mode & 0o777 == 0o600
