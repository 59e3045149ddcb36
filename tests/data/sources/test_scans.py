"""Scans as sources: your own folders and the layouts of the public sets; windows, masks, patients,
crops.
"""

import nibabel
import numpy as np
import pytest
from PIL import Image

from covjax.data.intensity import choose_window, eight_bit, parse_window
from covjax.data.label_map import class_names, parse_classes
from covjax.data.sources.public import PUBLIC
from covjax.data.sources.registry import SOURCES, open_source
from covjax.data.sources.scans import ENDINGS
from covjax.errors import InputError
from covjax.settings import default_config
from tests.data.written import scan, write_nifti, write_series

VALUES = scan()
MASK = (VALUES > 350).astype(np.uint8)  # some pixels of every slice
MASK[0] = 0


def config(path, source="nifti", **fields):
    data = default_config().data
    data.update(dict(source=source, path=str(path), prepared_dir=f"{path}_prepared") | fields)
    return data


def loaded(path, source="nifti", **fields):
    opened = open_source(config(path, source, **fields))
    return {slice_id: opened.load(i) for i, slice_id in enumerate(opened.ids)}


def fails(*words, **fields):
    with pytest.raises(InputError) as caught:
        loaded(**fields)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


def same(slices, mask=MASK, values=VALUES, window=(-600, 1500)):
    assert len(slices) == len(values)
    for s, image, truth in zip(slices, values, mask, strict=True):
        np.testing.assert_array_equal(s.image, eight_bit(image, window))
        np.testing.assert_array_equal(s.mask, truth)
        assert s.label == (truth == 1).any()


def test_windows():
    assert eight_bit(np.array([-5000, -1350, -600, 150, 900]), parse_window("lung")).tolist() == [
        0,
        0,
        128,
        255,
        255,
    ]
    assert eight_bit(np.array([0, 127.4, 255]), None).tolist() == [0, 127, 255]
    assert parse_window("40, 400") == parse_window("mediastinum") == (40, 400)
    for text, word in (
        ("lungs", "did you mean 'lung'"),
        ("40,0", "above 0"),
        ("nan,1", "in HU"),
        ("1,2,3", "unknown"),
    ):
        with pytest.raises(InputError, match=word):
            parse_window(text)


@pytest.mark.parametrize(
    "values, trained, told, found",
    [
        ("hu", {"hu"}, "", (-600, 1500)),
        ("hu", {"8bit"}, "mediastinum", (40, 400)),
        ("8bit", {"8bit", "hu"}, "", None),
        ("8bit", {"hu"}, "as_is", None),
        ("hu", {"8bit"}, "", "trained on 8-bit"),
        ("8bit", {"hu"}, "", "trained on HU"),
        ("8bit", {"hu"}, "lung", "--window=as_is"),
        ("hu", {"8bit"}, "as_is", "name it"),
        ("hu", {"hu"}, "as_is", (-600, 1500)),
        ("8bit", {"8bit"}, "mediastinum", None),
    ],
)
def test_a_run_refuses_values_that_it_did_not_see_unless_told(values, trained, told, found):
    if isinstance(found, str):
        with pytest.raises(InputError, match=found):
            choose_window("x.nii", values, trained, "lung", told)
    else:
        assert choose_window("x.nii", values, trained, "lung", told) == found


@pytest.mark.parametrize("place", ["masks/a b LPS", "masks/a b_seg RAS", "images/a b_mask PIR"])
def test_nifti_folders(tmp_path, place):
    mask_name, _, codes = place.rpartition(" ")
    write_nifti(tmp_path / "images" / "a b.nii.gz", VALUES, "RAS")
    write_nifti(tmp_path / f"{mask_name}.nii.gz", MASK, codes)
    slices = loaded(tmp_path, show_patients=True)
    assert list(slices) == [f"a b_{k:04d}" for k in range(5)]
    same(slices.values())
    assert {s.values for s in slices.values()} == {"hu"} and {
        s.patient for s in slices.values()
    } == {"a b"}
    same(loaded(tmp_path, window="40,400").values(), window=(40, 400))


def test_a_healthy_scan_needs_no_mask(tmp_path):
    write_nifti(tmp_path / "a.nii", VALUES)
    fails("a", "no mask", path=tmp_path)
    (tmp_path / "index.csv").write_text("file,label,patient,split\na.nii,0,p9,test\n")
    slices = loaded(tmp_path, show_patients=True)
    same(slices.values(), np.zeros_like(MASK))
    assert {(s.patient, s.split) for s in slices.values()} == {("p9", "test")}
    write_nifti(tmp_path / "masks" / "b.nii", MASK)
    fails("without its scan", path=tmp_path)


def pseudonym(source, patient):
    return {name: hidden for hidden, name in source.patients.items()}[patient]


def test_patients_are_hidden_unless_asked_for(tmp_path):
    for name in ("doe_1", "doe_2", "roe_1"):
        write_nifti(tmp_path / "images" / f"{name}.nii", VALUES)
        write_nifti(tmp_path / "masks" / f"{name}.nii", MASK)
    fields = dict(patient_pattern="([a-z]+)_")
    hidden = open_source(config(tmp_path, **fields))
    patients = {hidden.load(i).patient for i in range(len(hidden.ids))}
    assert patients == set(hidden.patients) and {*hidden.patients.values()} == {"doe", "roe"}
    doe = pseudonym(hidden, "doe")
    assert hidden.ids[5] == f"{doe}_2_0000" and not any("doe" in name for name in hidden.ids)
    shown = loaded(tmp_path, show_patients=True, **fields)
    assert [s.patient for s in shown.values()] == ["doe"] * 10 + ["roe"] * 5
    fails("finds no patient", path=tmp_path, patient_pattern="x([0-9]+)")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(pictures / "doe_7.png")
    (pictures / "index.csv").write_text("id,label\ndoe_7,0\n")
    opened = open_source(config(pictures, "folder", **fields))
    doe = pseudonym(opened, "doe")
    assert (opened.load(0).id, opened.load(0).patient) == (f"{doe}_7", doe)


def test_dicom_folders(tmp_path):
    write_series(tmp_path / "images" / "Jane Doe", VALUES)
    write_nifti(tmp_path / "masks" / "Jane Doe.nii.gz", MASK, "LAI")
    opened = open_source(config(tmp_path, "dicom"))
    same([opened.load(i) for i in range(5)])
    jane = pseudonym(opened, "Doe^Jane 7")
    assert (
        opened.load(0).patient == jane
        and opened.ids[0] == f"{jane}_1_0000"
        and len(opened.patients) == 1
    )


def test_masks_with_several_classes(tmp_path):
    several = MASK * (1 + np.arange(5, dtype=np.uint8)[:, None, None] % 4)  # 1..4, by slice
    write_nifti(tmp_path / "a.nii", VALUES)
    write_nifti(tmp_path / "a_mask.nii", several)
    same(loaded(tmp_path).values())
    classes = "1:infected,2:infected,3:background,4:ignore"
    same(loaded(tmp_path, classes=classes).values(), np.array([0, 1, 1, 0, 255], np.uint8)[several])
    fails("value 3", "data.classes", path=tmp_path, classes="1:infected,2:infected,4:ignore")
    fails("number of the mask", path=tmp_path, classes="infected")


def test_classes_that_are_kept(tmp_path):
    several = MASK * (1 + np.arange(5, dtype=np.uint8)[:, None, None] % 4)  # 1..4, by slice
    write_nifti(tmp_path / "a.nii", VALUES)
    write_nifti(tmp_path / "a_mask.nii", several)
    classes = "2:consolidation,1:ground_glass,3:ignore,4:consolidation"
    assert class_names(classes) == ("background", "consolidation", "ground_glass")
    kept = loaded(tmp_path, classes=classes).values()
    for s, truth in zip(kept, np.array([0, 2, 1, 255, 1], np.uint8)[several], strict=True):
        np.testing.assert_array_equal(s.mask, truth)
        assert s.label == ((truth > 0) & (truth < 255)).any()
    # the first slice is healthy, the infection of another is ignored
    assert sum(s.label for s in kept) == 3
    fails(
        "a_mask.nii",
        "value 4",
        "data.classes",
        path=tmp_path,
        classes="1:ground_glass,2:effusion,3:fibrosis",
    )
    names = [open_source(config(tmp_path, classes=f"1:{a},2:{b}")) for a, b in ("ab", "ba", "ac")]
    assert len({source.fingerprint for source in names}) == 3
    with pytest.raises(InputError, match="data.classes: the masks of phantom"):
        open_source(config("", "phantom", classes=classes))


@pytest.mark.parametrize(
    "classes, word",
    [
        ("1:lesion", "lesion is the only class"),
        ("1:infectd,2:b", "did you mean 'infected'"),
        ("1:infected,2:b", "infected is all classes together"),
        ("1:Ground Glass,2:b", "names no class"),
        ("1:lung,2:b", "names no class"),
        ("1:,2:b", "names no class"),
        ("1:a,1:b", "1 is both a and b"),
        (",".join(f"{k}:class{k}" for k in range(1, 9)), "at most 7"),
    ],
)
def test_classes_that_are_none(classes, word):
    with pytest.raises(InputError, match=word):
        parse_classes(classes)


def test_a_fourth_axis_holds_classes(tmp_path):
    write_nifti(tmp_path / "a.nii", VALUES)
    planes = np.stack([MASK & (VALUES < 380), MASK & (VALUES >= 380)], -1).transpose(2, 1, 0, 3)
    for stacked in (
        planes,
        np.concatenate([1 - planes.sum(-1, keepdims=True, dtype=np.uint8), planes], -1),
    ):
        write_nifti(
            tmp_path / "a_mask.nii", stacked, affine=nibabel.load(tmp_path / "a.nii").affine
        )
        same(
            loaded(tmp_path, classes="1:infected,2:ignore").values(),
            np.where(MASK & (VALUES >= 380), 255, MASK),
        )


@pytest.mark.parametrize(
    "mask, word",
    [
        (MASK[:4], "export them alike"),
        (MASK * np.float32(0.5), "whole numbers"),
        (MASK.astype(np.int16) - 1, "from 0"),
    ],
)
def test_masks_that_are_none(tmp_path, mask, word):
    write_nifti(tmp_path / "a.nii", VALUES)
    write_nifti(tmp_path / "a_mask.nii", mask)
    fails("a_mask.nii", word, path=tmp_path)


def public(tmp_path, *files):
    for name, values in files:
        write_nifti(tmp_path / f"{name}.nii.gz", values, "RAI")


def test_medseg(tmp_path):
    public(tmp_path, ("tr_im", VALUES), ("tr_mask", MASK * 2))
    slices = loaded(tmp_path, "medseg1")
    same(slices.values())
    assert {s.patient for s in slices.values()} == {""}
    for k in ("10", "9"):
        public(
            tmp_path,
            (f"rp_im/{k}", VALUES),
            (f"rp_msk/{k}", MASK),
            (f"rp_lung_msk/{k}", np.uint8(VALUES > 0)),
        )
    slices = loaded(tmp_path, "medseg2")
    assert list(slices)[0] == "9_0000" and len(slices) == 10
    np.testing.assert_array_equal(slices["10_0002"].lungs, VALUES[2] > 0)
    fails("tr_im.nii.gz", "figshare", "CC0", path=tmp_path / "rp_im", source="medseg1")


def test_zenodo20_in_hu_and_windowed(tmp_path):
    windowed = scan(low=0, high=256)
    cases = {
        "coronacases_001": VALUES,
        "radiopaedia_10_1_1": windowed,
        "radiopaedia_10_1_3": windowed,
    }
    for name, values in cases.items():
        public(
            tmp_path, (f"COVID-19-CT-Seg_20cases/{name}", values), (f"Infection_Mask/{name}", MASK)
        )
    fails("Lung_Mask/", path=tmp_path, source="zenodo20")
    (tmp_path / "Lung_Mask").mkdir()
    slices = list(loaded(tmp_path, "zenodo20").values())
    assert [s.values for s in slices] == ["hu"] * 5 + ["8bit"] * 10
    assert {s.patient for s in slices} == {"coronacases_001", "radiopaedia_10"}
    same(slices[:5])
    same(slices[5:10], values=windowed, window=None)


def test_mosmed(tmp_path, caplog):
    for name in ("CT-0/study_0001", "CT-1/study_0002", "CT-1/study_0003"):
        public(tmp_path, (f"studies/{name}", VALUES))
    public(tmp_path, ("masks/study_0003_mask", MASK))
    slices = list(loaded(tmp_path, "mosmed").values())
    same(slices[:5], np.zeros_like(MASK))
    same(slices[5:])
    assert {s.patient for s in slices} == {"study_0001", "study_0003"} and "1 scans" in caplog.text


@pytest.mark.parametrize("ending", ENDINGS)
def test_masks_of_public_sets_may_have_endings(tmp_path, ending):
    public(tmp_path, ("rp_im/1", VALUES), (f"rp_msk/1{ending}", MASK), ("rp_lung_msk/1", MASK))
    name = "coronacases_001"
    public(
        tmp_path,
        (f"COVID-19-CT-Seg_20cases/{name}", VALUES),
        (f"Infection_Mask/{name}{ending}", MASK),
    )
    public(
        tmp_path,
        ("Lung_Mask/x", MASK),
        ("studies/CT-1/study_0002", VALUES),
        (f"masks/study_0002{ending}", MASK),
    )
    for source in ("medseg2", "zenodo20", "mosmed"):
        same(loaded(tmp_path, source).values())


def test_where_to_get_the_public_sets():
    assert SOURCES.keys() > PUBLIC.keys()
    for name, about in PUBLIC.items():
        assert all(
            text in str(about)
            for text in (f"data.source={name}", about.where, about.licence, about.unpack)
        )
    fails("data.path", "zenodo", path="", source="zenodo20")


def test_lungs_that_are_known_do_not_change_what_a_network_sees(tmp_path):
    lungs = np.zeros_like(MASK)
    lungs[:, 6:12, 5:10] = 1
    public(tmp_path / "with", ("rp_im/1", VALUES), ("rp_msk/1", MASK), ("rp_lung_msk/1", lungs))
    public(
        tmp_path / "other",
        ("rp_im/1", VALUES),
        ("rp_msk/1", MASK),
        ("rp_lung_msk/1", np.zeros_like(MASK)),
    )
    known, other = (
        open_source(config(tmp_path / name, "medseg2", lung_crop=True))
        for name in ("with", "other")
    )
    np.testing.assert_array_equal(known.load(2).image, other.load(2).image)


def test_what_a_source_does_not_read_is_named(tmp_path):
    fails("holds no nifti scan", "point to scans", path=tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.mha").write_text("")
    fails("holds no nifti scan", "images/a.mha (a MetaImage scan", "convert it", path=tmp_path)
    write_nifti(tmp_path / "images" / "a.nii", VALUES)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.nrrd").write_text("")
    fails(
        "a: has no mask",
        "masks/a.nrrd is an NRRD scan, which is not read; convert it",
        path=tmp_path,
    )
    write_nifti(tmp_path / "masks" / "a.nii", MASK)
    write_nifti(tmp_path / "lungs" / "b.nii", MASK)
    write_series(tmp_path / "series", VALUES[:1])
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nothing")
    left_out = dict(open_source(config(tmp_path, show_patients=True)).left_out)
    words = {
        "images/a.mha": "MetaImage", "masks/a.nrrd": "NRRD", "lungs/b.nii": "NIfTI, of no use",
        "series/IM003": "DICOM, of no use", "gone.txt": "to nothing",
    }  # fmt: skip
    assert left_out.keys() == words.keys() and all(
        word in left_out[file] for file, word in words.items()
    )
