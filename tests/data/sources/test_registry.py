"""Folders of slices as users have them, and the clear error for each that cannot be used."""

import csv
import os

import numpy as np
import pytest
from PIL import Image

from covjax.data.sources.prlab21 import PRLAB21_CT
from covjax.data.sources.registry import open_source
from covjax.data.sources.source import check_slice
from covjax.errors import InputError
from covjax.settings import default_config
from tests.places import REAL

RNG = np.random.default_rng(0)


def config(path, source="folder", **fields):
    data = default_config().data
    data.update(
        dict(source=source, path=str(path), prepared_dir=f"{path}_prepared", show_patients=True)
        | fields
    )
    return data


def picture(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, (24, 20), np.uint8) if pixels is None else pixels).save(
        path
    )


def mask(path, infected=True, shape=(24, 20)):
    pixels = np.zeros(shape, np.uint8)
    pixels[4:8, 4:8] = 255 * infected
    picture(path, pixels)


def index(root, text, **options):
    (root / "index.csv").write_text(text, **options)


@pytest.fixture
def folder(tmp_path):
    for name in "abcd":
        picture(tmp_path / "images" / f"{name}.png")
    mask(tmp_path / "masks" / "a.png")
    mask(tmp_path / "masks" / "b.png", infected=False)
    return tmp_path


def loaded(root, **fields):
    source = open_source(config(root, **fields))
    slices = {source.ids[i]: source.load(i) for i in range(len(source.ids))}
    for found in slices.values():
        check_slice(found)
    return slices


def fails(root, *words, **fields):
    with pytest.raises(InputError) as caught:
        loaded(root, **fields)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


FULL = "id,label,patient,split\na,1,p1,train\nb,0,p1,train\nc,healthy,p2,val\nd,Infected,p3,test\n"


def test_labels_patients_and_splits(folder):
    index(folder, FULL)
    slices = loaded(folder)
    assert [s.label for s in slices.values()] == [1, 0, 0, 1]
    assert [s.patient for s in slices.values()] == ["p1", "p1", "p2", "p3"]
    assert [s.split for s in slices.values()] == ["train", "train", "val", "test"]
    assert slices["a"].mask.sum() == 16 and not slices["b"].mask.any()
    # healthy: background
    assert slices["c"].mask.shape == slices["c"].image.shape and not slices["c"].mask.any()
    assert slices["d"].mask is None  # infected, where is not known


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + FULL,
        FULL.replace("id,label", " ID , Label"),
        FULL.replace("\n", "\r\n"),
        FULL.replace("a,1", "  a , 1 ") + "\n\n",
        FULL.replace("id,", "file,")
        .replace("\na,", "\nimages/a.png,")
        .replace("\nb,", "\n./b.png,"),
        FULL.replace("id,", "file,")
        .replace("\na,", "\nimages/a.png,")
        .replace("\n", ",7\n")
        .replace("split,7", "split,id"),
    ],
)
def test_ways_to_write_an_index(folder, text):
    index(folder, text, encoding="utf-8", newline="")
    slices = loaded(folder)
    assert list(slices) == list("abcd") and [s.label for s in slices.values()] == [1, 0, 0, 1]


def test_another_column_may_tell_patients_apart(folder):
    index(folder, FULL.replace("patient", "Paper"))
    assert [s.patient for s in loaded(folder).values()] == [""] * 4
    assert [s.patient for s in loaded(folder, patient_column="paper").values()] == [
        "p1",
        "p1",
        "p2",
        "p3",
    ]
    plain, named = (
        open_source(config(folder, patient_column=c)).fingerprint for c in ("patient", "paper")
    )
    assert plain != named
    fails(folder, "data.patient_column", "no column 'volume'", patient_column="volume")


def test_names_with_dots_spaces_and_folders(tmp_path):
    for name in ("x/2020.01.24-p27.png", "x/a b%.png", "y/2020.01.24-p27.png"):
        picture(tmp_path / "images" / name)
    index(tmp_path, "file,label\nimages/x/2020.01.24-p27.png,1\nx/a b%.png,0\ny/2020.01.24-p27,0\n")
    assert list(loaded(tmp_path)) == ["x/2020.01.24-p27", "x/a b%", "y/2020.01.24-p27"]


@pytest.mark.parametrize(
    "text, words",
    [
        (FULL + "a,1,p1,train\n", ("line 6", "a again", "line 2")),
        (FULL + "e,1,p1,train\n", ("line 6", "names e")),
        (FULL.replace("\na,", "\n,"), ("line 2", "neither id nor file")),
        (FULL.replace("Infected", "covid?"), ("line 5", "'covid?'", "0 (healthy) or 1 (infected)")),
        (FULL.replace("d,Infected,p3,test\n", ""), ("1 pictures are not listed, first d",)),
        (FULL.replace("id,", "name,"), ("neither a column id nor a column file", "name, label")),
        (FULL.replace(",", ";"), ("separate columns by commas",)),
        ("id,label\n", ("has no rows",)),
        ("", ("neither a column id",)),
        (FULL.replace("\nd,Infected", "\nd,"), ("d.png", "neither a label")),
        (FULL.replace("a,1", "a,0"), ("a: ", "labelled healthy", "index.csv", "mask")),
    ],
)
def test_bad_index(folder, text, words):
    index(folder, text)
    fails(folder, *words)


def test_index_that_is_no_text(folder):
    (folder / "index.csv").write_bytes(FULL.encode("utf-16"))
    fails(folder, "index.csv", "not a UTF-8 CSV file")


def test_labels_from_masks_alone(tmp_path):
    for name, infected in (("a", True), ("b", False)):
        picture(tmp_path / "images" / f"{name}.png")
        mask(tmp_path / "masks" / f"{name}.png", infected)
    assert [s.label for s in loaded(tmp_path).values()] == [1, 0]
    picture(tmp_path / "images" / "c.png")
    fails(tmp_path, "c.png", "neither a label", "nor a mask")


def test_pictures_beside_masks(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png")
        mask(tmp_path / "masks" / f"{name}.png")
    index(tmp_path, "file,label\na.png,1\nb.png,1\n")
    assert list(loaded(tmp_path)) == ["a", "b"]


def test_only_masks(tmp_path):
    mask(tmp_path / "masks" / "a.png")
    fails(tmp_path, "holds no picture")


def test_masks_that_do_not_fit(folder):
    index(folder, FULL)
    mask(folder / "masks" / "a.png", shape=(24, 21))
    fails(folder, "a.png", "(24, 20)", "(24, 21)", "differ in size")
    mask(folder / "masks" / "a.png")
    mask(folder / "masks" / "extra.png")
    fails(folder, "extra.png", "mask without its image")
    (folder / "masks" / "extra.png").unlink()
    picture(folder / "masks" / "a.png")
    fails(folder, "masks/a.png", "mask values")


def test_unknown_source_and_path(tmp_path):
    fails(tmp_path, "data.source", "did you mean 'folder'", source="foldr")
    fails("", "data.path: empty")
    fails(tmp_path / "nowhere", "nowhere is not a folder")


def test_fingerprint_follows_every_file(folder):
    def fingerprint(**fields):
        return open_source(config(folder, **fields)).fingerprint

    index(folder, FULL)
    seen = [fingerprint()]
    assert fingerprint() == seen[0]

    def changed():
        seen.append(fingerprint())
        assert len(set(seen)) == len(seen)

    for path in (folder / "images" / "c.png", folder / "masks" / "a.png", folder / "index.csv"):
        times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        os.utime(path, (1, 1))  # times say nothing
        assert fingerprint() == seen[0]
        content = path.read_bytes()
        path.write_bytes(bytes(len(content)))  # nor do size and time of change, set back
        os.utime(path, ns=times)
        if path.suffix == ".png":
            changed()
        path.write_bytes(content)
        assert fingerprint() == seen[0]
    index(folder, FULL.replace("p3", "p4"))
    changed()
    (folder / "masks" / "b.png").unlink()
    changed()
    os.utime(folder)  # the folder's own time says nothing
    assert fingerprint() == seen[-1]


def test_prlab21_refuses_other_pictures(tmp_path):
    picture(tmp_path / "images" / "a.png", np.zeros((304, 304), np.uint8))
    picture(tmp_path / "masks" / "a.png", np.zeros((304, 304), np.uint8))
    fails(tmp_path, "prlab21 needs it", source="prlab21")
    index(tmp_path, "id,label,patient\na,1,p\n")
    fails(tmp_path, "a.png", "white margin", "data.source=folder", source="prlab21")


def real(name):
    if not (REAL / name).is_dir():
        pytest.skip(f"{REAL / name} absent; set COVJAX_TEST_DATA to run this on real slices")
    return REAL / name


def test_semiseg100():
    slices = loaded(real("semiseg100"))
    with (real("semiseg100") / "index.csv").open(newline="") as lines:
        rows = {row["id"]: row for row in csv.DictReader(lines)}
    assert len(slices) == len(rows) == 50 and {s.patient for s in slices.values()} == {""}
    for name, row in rows.items():
        s = slices[name]
        assert s.image.shape == (int(row["height"]), int(row["width"])) and s.label == 1
        assert s.mask.mean() == pytest.approx(float(row["infected_fraction"]), abs=1e-4)


def test_covid_ct():
    source = open_source(config(real("covid_ct")))
    assert len(source.ids) == 543
    some = [source.load(i) for i in range(0, 543, 20)]
    assert {s.label for s in some} == {0, 1} and {s.split for s in some} == {"train", "val"}
    assert all(s.image.ndim == 2 and s.image.std() > 1 for s in some)


def test_prlab21():
    source = open_source(config(real("prlab21"), "prlab21"))
    with (real("prlab21") / "index.csv").open(newline="") as lines:
        rows = {row["id"]: row for row in csv.DictReader(lines)}
    assert set(source.ids) == set(rows) and len(rows) == 829
    for i in range(0, 829, 40):
        s = source.load(i)
        assert s.image.shape == s.mask.shape == (248, 223) and s.patient == rows[s.id]["patient"]
        assert s.mask.mean() == pytest.approx(
            float(rows[s.id]["infected_fraction_in_frame"] or 0), abs=2e-4
        )


def test_prlab21_frames(tmp_path):
    figure = np.full((304, 304), 255, np.uint8)
    lesion = np.full((304, 304), 255, np.uint8)
    figure[PRLAB21_CT] = 60
    lesion[PRLAB21_CT] = 0
    lesion[100:110, 100:120] = 255
    for name in "ab":
        picture(tmp_path / "images" / f"{name}.png", figure)
    picture(tmp_path / "masks" / "a.png", lesion)
    index(tmp_path, "id,label,patient\na,1,p\nb,0,q\n")
    ct = 248 * 223
    margin = 304 * 304 - 248 * 223

    def pixels(frame):
        """Numbers of pixels labelled 0, 1 and 255 in the masks of the infected slice and of the
        healthy one.
        """
        slices = loaded(tmp_path, source="prlab21", frame=frame)
        assert all(s.image.shape == s.mask.shape for s in slices.values())
        return [[int((s.mask == value).sum()) for value in (0, 1, 255)] for s in slices.values()]

    assert pixels("ct") == [[ct - 200, 200, 0], [ct, 0, 0]]
    # no mask of a healthy one is published
    assert pixels("full") == [[ct - 200, 200 + margin, 0], [ct + margin, 0, 0]]
    assert pixels("ignore_margin") == [[ct - 200, 200, margin], [ct, 0, margin]]
    prints = {
        open_source(config(tmp_path, "prlab21", frame=f)).fingerprint
        for f in ("ct", "full", "ignore_margin")
    }
    assert len(prints) == 3
