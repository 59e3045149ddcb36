"""A run that keeps classes of infection apart: trained, resumed, evaluated, pooled, screened and
reported.
"""

import json
import shutil

import nibabel
import numpy as np
import pytest
from PIL import Image

from covjax.configs import segment
from covjax.data.prepared.dataset import prepare
from covjax.errors import InputError
from covjax.metrics import infected_or_not
from covjax.report import build_report, build_screening, summary_table
from covjax.runs.evaluate import evaluate_run
from covjax.runs.pool import pool_runs
from covjax.runs.train import train_run
from covjax.runs.trained import load_trained
from covjax.screening.screen import screen
from covjax.settings import claim_workdir, load_settings, read_settings
from tests.data.written import SPACING, write_class_scans
from tests.result_files import read_csv, summary

NAMES = ("background", "ground_glass", "consolidation")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(workdir, config) of a finished run of a segmenter."""
    folder = tmp_path_factory.mktemp("classes")
    config = segment.get_config("model=unet")
    with config.unlocked():
        config.data.update(
            source="nifti", path=str(write_class_scans(folder / "scans")), show_patients=True
        )
        config.data.update(
            prepared_dir=str(folder / "prepared"), classes="1:ground_glass,2:consolidation,7:ignore"
        )
        config.segmenter.model.update(depth=1, width=4)
        config.segmenter.input.update(size=(32, 40), slice_size=(48, 48))
        config.segmenter.loss.update(name="ce_dice", class_weights="median_frequency")
        config.segmenter.augment.update(rotation=0.0, scale=0.0, intensity=0.0)
        config.segmenter.update(epochs=3, slices="all", batch_size=4)
    train_run(read_settings(config), folder / "workdir")
    return folder / "workdir", config


def test_what_is_learned_and_measured(run):
    workdir, config = run
    data = prepare(config.data)
    masks = [data.decode(i)[1] for i in range(len(data))]
    assert set(np.unique(masks)) == {0, 1, 2, 255}
    assert data.labels.tolist() == [int(((m == 1) | (m == 2)).any()) for m in masks]
    statistics = json.loads((workdir / "statistics_segmenter.json").read_text())
    frequency = np.array(statistics["class_counts"]) / statistics["image_pixels"]
    assert len(frequency) == 3 and frequency.min() > 0
    assert (
        min(statistics["image_pixels"])
        < sum(statistics["class_counts"])
        == statistics["image_pixels"][0]
    )
    np.testing.assert_allclose(
        statistics["class_weights"], np.median(frequency) / frequency, rtol=1e-6
    )
    stage, _ = load_trained("segmenter", load_settings(workdir), workdir)
    assert stage.task.classes == NAMES and stage.model.num_classes == 3
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    mean = [row["val/mean_dice_at_network_size"] for row in rows if row["stage"] == "segmenter"]
    timing = json.loads((workdir / "results" / "timing.json").read_text())["segmenter"]
    assert timing["best_epoch"] == 1 + int(
        np.argmax([-1 if value is None else value for value in mean])
    )


def test_results(run):
    workdir = run[0]
    found = summary(workdir)["segmenter"]
    assert found["classes"] == list(NAMES)
    with np.load(workdir / "results" / "test" / "rows.npz") as rows:
        confusion = rows["segmenter/confusion"].astype(int)
    total = confusion.sum(0)
    assert found["confusion"] == total.tolist()
    for k, name in enumerate(NAMES[1:], start=1):
        dice = 2 * total[k, k] / (total[k].sum() + total[:, k].sum())
        assert found["scores"][f"dice_{name}"]["value"] == pytest.approx(dice)
    union = infected_or_not(total)
    assert found["scores"]["iou_infected"]["value"] == pytest.approx(
        union[1, 1] / (union.sum() - union[0, 0])
    )
    lines = read_csv(workdir / "results" / "test" / "per_image.csv")
    assert {
        "dice",
        "dice_ground_glass",
        "true_share_consolidation",
        "predicted_share_consolidation",
    } <= set(lines[0])
    assert "dice_consolidation" in summary_table(workdir)


def test_masks_are_saved_as_numbers_of_classes(run, tmp_path):
    workdir = shutil.copytree(run[0], tmp_path / "run")
    evaluate_run(workdir, save_predictions="png")
    with np.load(workdir / "results" / "test" / "rows.npz") as rows:
        ids = rows["id"][rows["segmenter/position"]]
        counted = rows["segmenter/confusion"].sum(1)
    for name, counts in zip(ids.tolist(), counted, strict=True):
        mask = np.asarray(Image.open(workdir / "results" / "test" / "predictions" / f"{name}.png"))
        # more where truth is ignored
        assert mask.max() < 3 and all((mask == k).sum() >= counts[k] for k in range(3))


def test_folds_are_pooled(run, tmp_path):
    first = shutil.copytree(run[0], tmp_path / "a")
    other = shutil.copytree(run[0], tmp_path / "b")
    splits = json.loads((other / "splits.json").read_text())
    splits |= {"test": splits["val"], "val": splits["test"]}
    (other / "splits.json").write_text(json.dumps(splits))
    evaluate_run(other)
    pool_runs([first, other], tmp_path / "pooled")
    one, two, pooled = (summary(tmp_path / name)["segmenter"] for name in ("a", "b", "pooled"))
    assert pooled["confusion"] == (np.array(one["confusion"]) + two["confusion"]).tolist()
    assert pooled["classes"] == list(NAMES) and build_report(tmp_path / "pooled").is_file()


def test_other_classes_than_the_run_has_are_refused(run, tmp_path):
    workdir, config = run
    other = config.copy_and_resolve_references()
    with other.unlocked():
        other.data.classes = "1:ground_glass,2:ground_glass,7:ignore"
    with pytest.raises(InputError, match="ground_glass is the only class"):
        train_run(read_settings(other), workdir)
    with other.unlocked():
        other.data.classes = ""
    with pytest.raises(InputError, match=r"data\.classes: .* there, .* now"):
        train_run(read_settings(other), workdir)
    for name in ("statistics_segmenter.json", "splits.json"):
        (tmp_path / "run").mkdir(exist_ok=True)
        shutil.copy(workdir / name, tmp_path / "run" / name)
    claim_workdir(tmp_path / "run", read_settings(other))
    with pytest.raises(InputError, match="data.classes: 2 classes .* segmenter count 3"):
        load_trained("segmenter", load_settings(tmp_path / "run"), tmp_path / "run")


def test_screening_measures_every_class(run, tmp_path):
    workdir, config = run
    scans = tmp_path / "in"
    shutil.copytree(f"{config.data.path}/images", scans)
    Image.fromarray(
        np.asarray(nibabel.load(scans / "p0.nii.gz").dataobj)[..., 2].T.astype(np.uint8)
    ).save(scans / "picture.png")
    screen(workdir, scans, tmp_path / "out")
    lines = read_csv(tmp_path / "out" / "predictions.csv")
    assert any(int(line["infected_pixels"]) for line in lines)
    for line in lines:
        areas = [int(line[f"{name}_pixels"]) for name in NAMES[1:]]
        assert sum(areas) == int(line["infected_pixels"])
        if line["scan"] == "p0":
            mask = np.asarray(nibabel.load(tmp_path / "out" / line["mask"]).dataobj)[
                ..., int(line["slice"])
            ]
            outside = int(line["infected_outside_lung_pixels"])
            assert sum(areas) + outside == (mask > 0).sum() and mask.max() < 3
            mm2 = SPACING[1] * SPACING[2] * areas[1]
            assert float(line["consolidation_mm2"]) == pytest.approx(mm2, rel=1e-5)
        elif line["file"] == "picture.png":
            mask = np.asarray(Image.open(tmp_path / "out" / line["mask"]))
            outside = int(line["infected_outside_lung_pixels"])  # in the air around the body
            assert sum(areas) + outside == (mask > 0).sum() and line["consolidation_mm2"] == ""
    summed = {line["scan"]: line for line in read_csv(tmp_path / "out" / "scans.csv")}
    ml = [float(summed["p0"][f"{name}_ml"]) for name in (*NAMES[1:], "infected")]
    assert ml[0] + ml[1] == pytest.approx(ml[2], rel=1e-5)
    build_screening(tmp_path / "out")
    page = (tmp_path / "out" / "scans" / "p0.html").read_text(encoding="utf-8")
    assert "#56B4E9" in page and "Ground glass, mm²" in page and "Outlines:" in page
