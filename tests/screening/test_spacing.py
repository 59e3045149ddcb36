"""A run that sees slices at one physical scale: what it reads, and masks brought back to each
scan's own grid.
"""

import json

import nibabel
import numpy as np
import pytest
from PIL import Image

from covjax.data.formats.nifti import open_labels
from covjax.data.formats.volumes import canonical
from covjax.data.loader import eval_batches
from covjax.data.phantom import picture as phantom
from covjax.data.prepared.dataset import prepare
from covjax.data.resizing import padded, resize
from covjax.data.splits.splits import make_splits
from covjax.data.views import View, whole_box
from covjax.errors import InputError
from covjax.evaluation.predict import collect, make_predictor
from covjax.parallel import round_up
from covjax.runs.slices import split_reader
from covjax.runs.train import train_run
from covjax.screening.screen import screen
from covjax.screening.screener import Screener
from covjax.settings import read_settings, write_settings
from tests.data.sizes import unpadded
from tests.data.written import SPACING, scan, write_nifti, write_series
from tests.result_files import read_csv
from tests.trained import tiny_config

WANTED = 1.5
ROWS, COLUMNS = SPACING[1:]
VALUES = scan((3, 40, 50), low=0, high=256)  # 21x23 pixels of WANTED


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A configuration of both stages at WANTED mm, on NIfTI phantoms."""
    folder = tmp_path_factory.mktemp("spacing")
    for patient in range(6):
        slices = [
            phantom.phantom_slice(patient, k, slices_per_patient=5, size=56) for k in range(5)
        ]
        for place, values in zip(("images", "masks"), zip(*slices, strict=True), strict=False):
            write_nifti(folder / "scans" / place / f"{patient}.nii", np.stack(values))
    config = tiny_config(folder)
    with config.unlocked():
        config.data.update(source="nifti", path=str(folder / "scans"), spacing=WANTED)
    return config


@pytest.fixture(scope="module")
def run(trained, config, tmp_path_factory):
    """The workdir of a run of such a configuration, the networks trained on pictures."""
    run = tmp_path_factory.mktemp("run")
    for path in trained[0].iterdir():
        if path.name not in ("config.json", "results", "report"):
            (run / path.name).symlink_to(path)
    write_settings(run / "config.json", read_settings(config))
    return run


@pytest.fixture(scope="module", autouse=True)
def loaded_once(run):
    """Screeners compile anew each time they are loaded."""
    with pytest.MonkeyPatch.context() as patch:
        loaded = Screener.from_workdir(run)
        patch.setattr(Screener, "from_workdir", lambda *arguments: loaded)
        yield


def test_stages_read_slices_at_one_scale_and_count_no_padding(config):
    config = read_settings(config)
    data = prepare(config.data)
    shape = round(56 * ROWS / WANTED), round(56 * COLUMNS / WANTED)
    assert (
        set(data.shapes) == {(56, 56)}
        and data.spacings[0] == pytest.approx((ROWS, COLUMNS))
        and data.unit == "mm"
    )
    splits = make_splits(data, config.split, 0)
    for name, size in (("classifier", (48, 48)), ("segmenter", (32, 40))):
        reader = split_reader(name, config, data, splits, "train")
        item = reader[0]
        image, mask = data.decode(reader.indices[0])
        np.testing.assert_array_equal(
            item["image"], padded(resize(image, shape, Image.Resampling.BILINEAR), size, 0)
        )
        if name == "segmenter":
            seen = resize(mask, shape, Image.Resampling.NEAREST)
            np.testing.assert_array_equal(unpadded(item["mask"], shape), seen)
            assert (item["mask"] != 255).sum() == seen.size and (seen == 1).any()


def test_networks_see_one_scale_and_masks_come_back(run):
    screener = Screener.from_workdir(run)
    plain = {
        name: Screener({name: screener.stages[name]}, screener.variables, 4)
        for name in screener.stages
    }
    images = [np.uint8(values) for values in VALUES]
    small = [resize(image, (21, 23), Image.Resampling.BILINEAR) for image in images]
    chances = [
        found.probability
        for found in plain["classifier"].screen([padded(one, (48, 48), 0) for one in small])
    ]
    items = [
        {"image": padded(one, (32, 40), 0), "mask": np.zeros((32, 40), np.uint8), "label": 0}
        for one in small
    ]
    predict = make_predictor(screener.stages["segmenter"], ("pixel_probability",))
    batches = eval_batches(items, batch_size=round_up(4))
    chance = collect(predict(screener.variables["segmenter"], batches))["pixel_probability"]
    view = View((40, 50), whole_box((40, 50)), (21, 23), (32, 40))
    masks = [view.back(one) > 0.5 for one in chance]
    assert np.any(masks)
    only = Screener(
        {"segmenter": screener.stages["segmenter"]}, screener.variables, 4, spacing=WANTED
    )
    found = list(screener.screen(images, (ROWS, COLUMNS)))
    np.testing.assert_allclose([one.probability for one in found], chances, atol=1e-6)
    for one, back in zip(only.screen(images, SPACING), masks, strict=True):
        np.testing.assert_array_equal(one.mask, back)
        assert one.share == pytest.approx(back.mean())


def test_masks_and_areas_are_those_of_the_scan_s_own_grid(run, tmp_path):
    write_nifti(tmp_path / "SERIES.nii", np.uint8(VALUES), "PIR")
    write_series(tmp_path / "cd" / "SERIES", VALUES)
    screen(run, tmp_path / "SERIES.nii", tmp_path / "nifti")
    screen(run, tmp_path / "cd", tmp_path / "dicom", intensity="8bit")
    given, found = (
        nibabel.load(path)
        for path in (tmp_path / "SERIES.nii", tmp_path / "nifti/masks/SERIES.nii.gz")
    )
    assert given.shape == found.shape and np.array_equal(given.affine, found.affine)
    expected = list(
        Screener.from_workdir(run).screen([np.uint8(values) for values in VALUES], SPACING)
    )
    labels = open_labels(tmp_path / "nifti" / "masks" / "SERIES.nii.gz")
    rows = [read_csv(tmp_path / name / "predictions.csv") for name in ("nifti", "dicom")]
    for k, one in enumerate(expected):
        np.testing.assert_array_equal(
            canonical(labels.stored[..., 0], labels.geometry)[k], one.mask
        )
        for row in (rows[0][k], rows[1][k]):
            assert int(row["infected_pixels"]) == one.mask.sum()
            assert float(row["infected_mm2"]) == pytest.approx(
                one.mask.sum() * ROWS * COLUMNS, rel=1e-5
            )
            assert float(row["probability_infected"]) == pytest.approx(one.probability, abs=1e-5)


def test_what_has_no_spacing_or_does_not_fit_is_refused(run, tmp_path):
    for name, values, tags in (("a", VALUES, {}), ("b", VALUES, {"PixelSpacing": None})):
        write_series(tmp_path / "in" / name, values, SeriesInstanceUID=f"1.2.5.{ord(name)}", **tags)
    write_nifti(tmp_path / "in" / "wide.nii", scan((1, 100, 40), low=0, high=256).astype(np.uint8))
    (tmp_path / "in" / "pictures").mkdir()
    Image.fromarray(np.uint8(VALUES[0])).save(tmp_path / "in" / "pictures" / "1.png")
    told = screen(run, tmp_path / "in", tmp_path / "out", intensity="8bit", on_error="skip")
    assert "3 slices of 1 scans" in told
    skipped = json.loads((tmp_path / "out" / "screening.json").read_text())["skipped"]
    for name, word in (
        ("in/b", "no spacing"),
        ("in/pictures", "no spacing"),
        ("wide.nii", "slice_size=(48"),
    ):
        (line,) = [text for text in skipped if name in text]
        assert word in line and "data.spacing" in line
    with pytest.raises(InputError, match="images: holds no spacing"):
        next(Screener.from_workdir(run).screen([np.uint8(VALUES[0])]))


def test_slices_that_are_too_large_end_a_training_before_anything_is_written(config, tmp_path):
    config = config.copy_and_resolve_references().unlock()
    config.data.update(spacing=1.0, prepared_dir=str(tmp_path / "prepared"))
    with pytest.raises(
        InputError, match=r"_0000: 45x39 pixels.*segmenter.input.size=\(32, 40\).*1.41 or more"
    ):
        train_run(read_settings(config.lock()), tmp_path / "workdir")
    assert not (tmp_path / "workdir").exists()
