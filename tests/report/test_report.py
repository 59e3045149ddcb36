"""The report: what it shows, what it refuses, and that it depends on nothing but the result
files.
"""

import errno
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.calibration import calibration_curve
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score, roc_auc_score

from covjax.errors import InputError
from covjax.metrics import classification_scores
from covjax.report import build_report, page, summary_table
from covjax.report.charts import curves
from covjax.report.charts import slices as pictures
from covjax.report.charts.slices import class_colours
from covjax.report.results import read_results
from covjax.report.run.classifier import principal_components, reliability_bins
from covjax.report.text import interval_text, score_text
from tests.report.runs import (
    Page,
    read_rows,
    write_arrays,
    write_classifier,
    write_framework,
    write_full,
    write_json,
    write_run,
    write_segmenter,
    write_stage,
)  # fmt: skip


@pytest.fixture
def full(tmp_path: Path) -> Path:
    write_full(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a workdir whose report is built, to look at but not to change."""
    workdir = tmp_path_factory.mktemp("run")
    write_full(workdir)
    build_report(workdir)
    return workdir


def test_full_report_has_every_section_in_order(built):
    shown = Page(built / "report" / "index.html")
    assert shown.headings == [
        "Data",
        "Scores",
        "Training",
        "Confusion matrix",
        "ROC and precision-recall curves",
        "Calibration and features",
        "What the classifier looks at",
        "Slice by slice",
        "Example slices",
        "Patient by patient",
        "Timing and environment",
        "Configuration",
    ]
    for text in (
        "Research software, not a medical device.",
        "prlab21",
        "by patient: all slices",
        "classifier (cov_ctnet), segmenter (cov_raseg), framework",
        "0.741 to 0.860",
        "1,234,567",
        "undefined (no <valid> probabilities)",
        "Test split, 166 slices, 3 patients",
        "Test split, 86 infected slices",
        "4.12%",
        "P02_0008",
        "Not counted: 1 with an undefined Dice",
        '"epochs": 12',
        "cpu:0, cpu:1",
        "not measured",
        "Infected, called infected Probability 0.900 P01_0001",
        "Healthy, called healthy Probability 0.250 P02_0009",
        "Scores on validation",
        "<0.001",
    ):
        assert text in shown.text, text
    assert "Synthetic data" not in shown.text and "optimistic" not in shown.text


def test_page_is_self_contained_and_figures_are_files_too(built):
    shown = Page(built / "report" / "index.html")
    links = [target for target in shown.targets if target.startswith("#")]
    images = [target for target in shown.targets if not target.startswith("#")]
    assert {link[1:] for link in links} == set(shown.ids) and len(links) == 12
    assert images and all(target.startswith("data:image/png;base64,") for target in images)
    assert not re.search(r"https?://|@import|url\(|<script", shown.html)
    files = sorted((built / "report").glob("*.png"))
    # 4 training curves, 3 confusion matrices, ROC, PR, calibration, features, 2 heat maps, Dice, 2
    # shares, 9 examples
    assert len(files) == len(images) == 25
    for file in files:
        with Image.open(file) as image:
            image.verify()
        assert len(read_rows(file.with_suffix(".csv"))) >= 1, file
    assert {file.name for file in (built / "report").iterdir()} == {
        "index.html",
        *(file.name for file in files),
        *(file.with_suffix(".csv").name for file in files),
    }


def test_numbers_of_the_figures_are_those_of_the_results(built):
    def numbers(name):
        return read_rows(built / "report" / f"{name}.csv")

    images = read_rows(built / "results" / "test" / "per_image.csv")
    dice = np.array([float(row["dice"]) for row in images if row["dice"]])
    counts, _ = np.histogram(dice, np.linspace(0, 1, 21))
    assert [int(row["slices"]) for row in numbers("segmenter_test_dice")] == counts.tolist()
    shares = {row["id"]: row for row in numbers("framework_test_share")}
    assert all(
        float(shares[row["id"]]["predicted_share"])
        == pytest.approx(float(row["framework_predicted_share"]), rel=1e-8)
        for row in images
    )
    agreement = numbers("framework_test_agreement")
    infected = {
        row["id"]
        for row in images
        if float(row["true_share"]) or float(row["framework_predicted_share"])
    }
    assert {row["id"] for row in agreement} == infected
    difference = np.array([float(row["difference"]) for row in agreement])
    assert float(agreement[0]["bias"]) == pytest.approx(difference.mean())
    spread = 1.96 * np.sqrt(((difference - difference.mean()) ** 2).sum() / (len(difference) - 1))
    assert float(agreement[0]["upper_limit"]) == pytest.approx(difference.mean() + spread)
    assert float(agreement[0]["lower_limit"]) == pytest.approx(difference.mean() - spread)
    label = np.array([int(row["label"]) for row in images])
    probability = np.array([float(row["probability"]) for row in images])
    bins = numbers("classifier_test_calibration")
    observed, predicted = calibration_curve(label, probability, n_bins=10)
    known = [row for row in bins if int(row["slices"])]
    assert [float(row["share_infected"]) for row in known] == pytest.approx(observed)
    assert [float(row["mean_probability"]) for row in known] == pytest.approx(predicted)
    assert sum(int(row["slices"]) for row in bins) == len(images)
    with np.load(built / "results" / "test" / "features.npz") as file:
        points = PCA(2).fit_transform(file["features"].astype(float))
    rows = numbers("classifier_test_features")
    for k in range(2):
        drawn = np.array([float(row[f"component_{k + 1}"]) for row in rows])
        assert min(np.abs(drawn - points[:, k]).max(), np.abs(drawn + points[:, k]).max()) < 1e-6


def test_probabilities_at_the_edges_of_bins():
    label = np.array([0, 1, 1, 0])
    probability = np.array([0.0, 0.5, 0.999, 1.0])
    predicted, observed, counts = reliability_bins(label, probability, np.array([0.0, 0.5, 1.0]))
    assert counts.tolist() == [2, 2]
    np.testing.assert_allclose(predicted, [0.25, 0.9995])
    np.testing.assert_allclose(observed, [0.5, 0.5])
    assert np.isnan(reliability_bins(label[:1], probability[:1], np.array([0.0, 0.5, 1.0]))[0][1])


def test_diagram_and_calibration_error_use_the_same_bins():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 500)
    probability = rng.integers(0, 21, 500) / 20  # many on edges
    predicted, observed, counts = reliability_bins(label, probability, np.linspace(0, 1, 11))
    gap = np.nansum(counts * np.abs(predicted - observed)) / counts.sum()
    assert gap == pytest.approx(
        classification_scores(label, probability)["ece"]["value"], abs=1e-12
    )


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (3, 2), (2, 3)])
def test_principal_components_match_sklearn(shape):
    values = np.random.default_rng(5).normal(size=shape) * np.arange(1, shape[1] + 1)
    points, explained = principal_components(values.astype(np.float32))
    oracle = PCA(2)
    expected = oracle.fit_transform(values.astype(np.float32).astype(float))
    np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-6)
    np.testing.assert_allclose(explained, oracle.explained_variance_ratio_, atol=1e-9)
    assert (points.max(0) >= -points.min(0)).all()
    assert not principal_components(np.ones(shape))[0].any()


def test_error_map_counts_and_colours_every_pixel_once():
    truth = np.array([[0, 1, 1, 0, 255, 255]])
    predicted = np.array([[0, 1, 0, 1, 1, 0]])
    assert pictures.error_counts(truth, predicted) == {
        "true_positive": 1, "false_positive": 1, "false_negative": 1, "true_negative": 1,
    }  # fmt: skip
    colours = pictures.errors(truth, predicted)[0]
    assert (colours[[0, 4, 5]] == 0).all()
    assert len({tuple(colour) for colour in colours[1:4]}) == 3 and (colours[1:4, 3] > 0.5).all()


def test_report_never_imports_jax(tmp_path):
    write_full(tmp_path)
    code = (
        "import sys, pathlib; from covjax.report import build_report, summary_table; "
        "build_report(pathlib.Path(sys.argv[1])); summary_table(pathlib.Path(sys.argv[1])); "
        "print([name for name in ('jax', 'flax', 'matplotlib.pyplot') if name in sys.modules])"
    )
    root = Path(page.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )
    assert done.stdout.strip() == "[]" and not done.stderr


@pytest.mark.parametrize(
    ("write", "headings"),
    [
        (
            [write_classifier],
            [
                "Scores",
                "Confusion matrix",
                "ROC and precision-recall curves",
                "Calibration and features",
            ],
        ),
        ([write_segmenter], ["Scores", "Confusion matrix", "Slice by slice", "Example slices"]),
        ([write_framework], ["Scores", "Confusion matrix", "Slice by slice", "Patient by patient"]),
        ([write_run], ["Data", "Training", "Timing and environment", "Configuration"]),
    ],
)
def test_partial_runs_show_what_they_have(tmp_path, write, headings, undrawn):
    for make in write:
        make(tmp_path)
    assert Page(build_report(tmp_path)).headings == headings


def test_scores_alone_are_enough(tmp_path):
    write_stage(tmp_path, "val", "segmenter", {"scores": {"dice_infected": {"value": 0.5, "n": 2}}})
    shown = Page(build_report(tmp_path))
    assert shown.headings == ["Scores"] and "Validation split" in shown.text


def test_primary_split_is_test_then_val_then_train(tmp_path):
    for split in ("train", "external", "val"):
        write_stage(tmp_path, split, "classifier", {"scores": {"mcc": {"value": 0.5, "n": 2}}})
    assert list(read_results(tmp_path).scores["classifier"]) == ["val", "train", "external"]
    write_stage(tmp_path, "test", "classifier", {"scores": {"mcc": {"value": 0.5, "n": 2}}})
    assert list(read_results(tmp_path).scores["classifier"])[0] == "test"


def test_strings_from_files_are_escaped(tmp_path):
    attack = "<script>alert(1)</script>\"'&$x^$"
    write_run(tmp_path, source=attack)
    write_segmenter(tmp_path, first_id=attack)
    write_framework(tmp_path, patient=attack)
    write_arrays(tmp_path, first_id=attack)
    path = tmp_path / "results" / "test" / "summary.json"
    write_json(path, json.loads(path.read_text()) | {"options": {attack: attack}})
    write_json(tmp_path / "environment.json", {attack: attack, "devices": [attack]})
    write_stage(
        tmp_path,
        "test",
        "classifier",
        {
            "classes": [attack, "infected"],
            "confusion": [[1, 2], [3, 4]],
            "scores": {
                attack: {"value": None, "n": 3, "reason": attack},
                "mcc": {"value": 0.5, "interval": [0.1, 0.9], "interval_method": attack},
                "accuracy": {"value": None, "reason": attack},
            },
        },
    )
    shown = Page(build_report(tmp_path))
    assert "<script" not in shown.html and "&lt;script&gt;alert(1)" in shown.html
    # source (title, h1, dl), example and heat map id, patient, reason twice, interval method,
    # options (name and value) in the header and on every table, environment name, value and device,
    # config
    assert shown.text.count("<script>alert(1)</script>") >= 20


def test_names_in_any_script_and_of_any_length_are_drawn(tmp_path):
    names = ["健康" * 40, "a\nb$^{$\\frac"]
    section = {"classes": names, "confusion": [[1, 2], [3, 4]], "scores": {}}
    write_stage(tmp_path, "test", "classifier", section)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_report(tmp_path)
    assert (
        read_rows(tmp_path / "report" / "classifier_test_confusion.csv")[1]["predicted"] == names[1]
    )


def test_fitted_threshold_and_temperature_and_other_thresholds_are_reported(tmp_path, undrawn):
    write_classifier(tmp_path)
    assert "other thresholds" not in Page(build_report(tmp_path)).text
    section = json.loads((tmp_path / "results" / "test" / "summary.json").read_text())["classifier"]
    row = {
        "threshold": 0.35,
        "tp": 80,
        "fp": 1_000,
        "fn": 6,
        "tn": 60,
        "sensitivity": 80 / 86,
        "precision": None,
    }
    fitted = {
        "threshold": 0.35,
        "threshold_rule": "youden",
        "calibration": "temperature",
        "temperature": 1.2,
    }
    write_stage(tmp_path, "test", "classifier", section | fitted | {"thresholds": [row]})
    shown = Page(build_report(tmp_path)).text
    assert (
        "threshold 0.350 (chosen on the validation split: youden), temperature 1.200 (fitted"
        in shown
    )
    assert "0.350 80 1,000 6 60 0.930 undefined undefined undefined undefined" in shown


def test_evaluation_options_and_interval_methods_are_reported(tmp_path, undrawn):
    write_run(tmp_path)
    write_classifier(tmp_path)
    path = tmp_path / "results" / "test" / "summary.json"
    summary = json.loads(path.read_text())
    summary["classifier"]["scores"]["mcc"] |= {
        "interval": [0.5, 0.7],
        "interval_method": "bootstrap of patients",
    }
    assert "Evaluation options" not in Page(build_report(tmp_path)).text
    write_json(
        path,
        summary
        | {"options": {"tta": ["flip", 0.9], "min_size": 12, "lung_mask": True, "off": None}},
    )
    shown = Page(build_report(tmp_path))
    said = "tta flip and 0.9, min_size 12, lung_mask"
    assert f"test split: {said}" in shown.text and f"threshold 0.500, with {said}" in shown.text
    assert f"with {said}. Intervals: bootstrap of patients Score" in shown.text
    assert summary_table(tmp_path).splitlines()[-1] == f"test evaluated with {said}"
    summary["classifier"]["scores"]["accuracy"]["interval_method"] = "Wilson"
    write_json(path, summary)
    shown = Page(build_report(tmp_path))
    assert (
        "0.500 to 0.700 bootstrap of patients" in shown.text
        and "0.741 to 0.860 Wilson" in shown.text
    )


@pytest.mark.parametrize(
    ("source", "by", "banner", "absent"),
    [
        ("phantom", "patient", "these numbers say nothing about patients", "optimistic"),
        ("folder", "slice", "neighbouring slices of one patient", "say nothing about patients"),
    ],
)
def test_banners(tmp_path, source, by, banner, absent, undrawn):
    write_run(tmp_path, source, by)
    shown = Page(build_report(tmp_path))
    assert banner in shown.text and absent not in shown.text
    assert shown.text.index(banner) < shown.text.index("Split Patients")


def test_notes_on_slices_are_on_the_page(tmp_path, undrawn):
    write_run(tmp_path)
    assert "To note" not in Page(build_report(tmp_path)).text
    splits = json.loads((tmp_path / "splits.json").read_text())
    write_json(
        tmp_path / "splits.json",
        splits | {"notes": {"train": {"tilted <b>": 1200}, "test": {"tilted <b>": 3}}},
    )
    assert "To note: tilted <b> (1,200 training, 3 test slices" in Page(build_report(tmp_path)).text


def test_patients_in_two_splits_raise_a_banner_whatever_the_rule(tmp_path, undrawn):
    write_run(tmp_path, by="source")
    splits = json.loads((tmp_path / "splits.json").read_text())
    home = next(split for split in ("train", "test") if "P01" in splits["patients"][split])
    splits["patients"] |= {"val": ["P01", ""]}
    for split, effect in (
        ("train", "those of test are not"),
        ("test", "so the scores are optimistic"),
    ):
        patients = splits["patients"] | {home: [], split: [*splits["patients"][split], "P01"]}
        write_json(tmp_path / "splits.json", splits | {"patients": patients})
        shown = Page(build_report(tmp_path)).text
        assert "1 of the patients are in more than one split" in shown and effect in shown
        assert any(f"P01 ({both})" in shown for both in (f"{split} and val", f"val and {split}"))
        assert "nothing here can tell" not in shown


def test_published_splits_without_patients_say_that_nothing_was_checked(tmp_path, undrawn):
    write_run(tmp_path, by="source")
    splits = json.loads((tmp_path / "splits.json").read_text())
    write_json(
        tmp_path / "splits.json", splits | {"patients": {split: [] for split in splits["patients"]}}
    )
    assert (
        "nothing here can tell whether a patient is in several" in Page(build_report(tmp_path)).text
    )


def test_patients_that_are_not_known_are_not_counted_as_none(tmp_path, undrawn):
    write_run(tmp_path, by="block")
    splits = json.loads((tmp_path / "splits.json").read_text())
    for patients in (dict.fromkeys(splits["patients"], []), {}):
        write_json(tmp_path / "splits.json", splits | {"patients": patients})
        shown = Page(build_report(tmp_path)).text
        assert "training unknown" in shown and "all unknown" in shown


@pytest.mark.parametrize(
    ("score", "text"),
    [
        ({"value": 0.91251}, "0.913"),
        ({"value": 1.0}, "1.000"),
        ({"value": 12}, "12"),
        ({"value": -0.0001}, "0.000"),
        ({"value": 0.0001}, "<0.001"),
        ({"value": 0.0}, "0.000"),
        ({"value": -0.25}, "-0.250"),
        ({"value": None}, "undefined"),
        ({"value": None, "reason": "one class only"}, "undefined (one class only)"),
        ({"value": float("nan"), "reason": "no slices"}, "undefined (no slices)"),
        ({}, "undefined"),
    ],
)
def test_score_text(score, text):
    assert score_text(score) == text


def test_interval_text():
    assert interval_text({"interval": [0.81, 0.9125]}) == "0.810 to 0.912"
    assert (
        interval_text({"interval": None})
        == interval_text({})
        == interval_text({"interval": [None, 1.0]})
        == ""
    )


def test_all_null_scores(tmp_path, undrawn):
    write_stage(
        tmp_path,
        "test",
        "classifier",
        {
            "n": 0,
            "confusion": [[0, 0], [0, 0]],
            "classes": ["healthy", "infected"],
            "scores": {
                name: {"value": None, "n": 0, "reason": "no slices"}
                for name in ("accuracy", "roc_auc", "mcc")
            },
            "curves": {
                "roc": {
                    "false_positive_rate": [None, None],
                    "true_positive_rate": [0.0, 1.0],
                    "threshold": [],
                },
                "precision_recall": {"recall": [], "precision": [], "threshold": []},
            },
        },
    )
    shown = Page(build_report(tmp_path))
    assert shown.text.count("undefined (no slices)") == 3
    assert "ROC and precision-recall curves" not in shown.headings
    assert "nan" not in shown.text.lower()
    assert summary_table(tmp_path).count("undefined (no slices)") == 3


def test_areas_without_scores_match_sklearn(tmp_path, monkeypatch):
    label, probability = write_classifier(tmp_path)
    section = json.loads((tmp_path / "results" / "test" / "summary.json").read_text())["classifier"]
    del section["scores"]["roc_auc"]
    write_stage(tmp_path, "test", "classifier", section)
    drawn = {}
    monkeypatch.setattr(
        curves, "roc", lambda x, y, area, point: drawn.update(roc=area, at=point) or b""
    )
    monkeypatch.setattr(
        curves,
        "precision_recall",
        lambda x, y, area, *rest: drawn.update(pr=area, rest=rest) or b"",
    )
    build_report(tmp_path)
    assert drawn["roc"] == pytest.approx(roc_auc_score(label, probability), abs=1e-9)
    assert drawn["pr"] == pytest.approx(average_precision_score(label, probability), abs=1e-9)
    called = probability >= 0.5
    recall = np.mean(called[label == 1])
    precision = np.mean(label[called] == 1)
    assert drawn["at"] == pytest.approx((np.mean(called[label == 0]), recall))
    prevalence, point = drawn["rest"]
    assert prevalence == pytest.approx(86 / 166) and point == pytest.approx((recall, precision))


def test_missing_results_are_named(tmp_path):
    for workdir in (tmp_path, tmp_path / "nowhere"):
        for make in (build_report, summary_table):
            with pytest.raises(
                InputError, match=f"^{re.escape(str(workdir))}: .*train or evaluate first"
            ):
                make(workdir)
    assert not (tmp_path / "report").exists()
    write_run(tmp_path)
    with pytest.raises(InputError, match="evaluate first"):
        summary_table(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("environment.json", b"[1]"),
        ("results/test/summary.json", b'{"classifier": {"scores": 3}}'),
        ("results/test/summary.json", b'{"classifier": 3}'),
        ("results/test/summary.json", b'{"classifier": {"scores": {}, "confusion": [[1, 2]]}}'),
        ("results/test/per_image.csv", b"id,iou\n"),
        ("results/test/per_image.csv", b"id,dice,predicted_share\na,x,1\n"),
        ("results/test/per_patient.csv", b"patient\n"),
        ("results/test/examples.npz", b"PK"),
        ("results/test/features.npz", b""),
        ("results/test/explain.npz", b"PK"),
        ("metrics.jsonl", b'{"stage"\n{"stage": "a", "epoch": 1}\n'),
    ],
)
def test_damaged_files_are_named_and_leave_the_report_alone(full, name, content, undrawn):
    (full / "report").mkdir()
    (full / "report" / "index.html").write_bytes(b"earlier")
    (full / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(name)):
        build_report(full)
    assert {path.name: path.read_bytes() for path in (full / "report").iterdir()} == {
        "index.html": b"earlier"
    }


@pytest.mark.parametrize(("module", "function"), [(Path, "replace"), (os, "fsync")])
def test_failure_while_writing_leaves_the_report_alone(
    tmp_path, monkeypatch, module, function, undrawn
):
    write_classifier(tmp_path)
    assert build_report(tmp_path) == tmp_path / "report" / "index.html"
    before = {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()}
    write_run(tmp_path)

    def full_disk(*arguments):
        raise OSError(errno.ENOSPC, "no space left on device")

    with (
        monkeypatch.context() as patch,
        pytest.raises(InputError, match=r"\.(png|html): cannot be written \(no space"),
    ):
        patch.setattr(module, function, full_disk)
        build_report(tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()} == before


def test_figures_of_an_earlier_report_go_and_other_files_stay(tmp_path, undrawn):
    write_run(tmp_path)
    write_classifier(tmp_path)
    build_report(tmp_path)
    (tmp_path / "report" / "my_notes.png").write_bytes(b"mine")
    (tmp_path / "results" / "test" / "summary.json").unlink()
    build_report(tmp_path)
    left = {path.name for path in (tmp_path / "report").iterdir()}
    assert left == {"my_notes.png", "index.html"} | {
        f"training_{curve}.{kind}"
        for kind in ("png", "csv")
        for curve in (
            "classifier_loss",
            "classifier_mcc",
            "segmenter_loss",
            "segmenter_dice_infected_at_network_size",
        )
    }


def test_history_of_a_resumed_and_running_training(tmp_path, undrawn):
    rows = [
        {"stage": "classifier", "epoch": epoch, "val/mcc": value}
        for epoch, value in ((1, 0.1), (2, 0.2), (2, 0.3))
    ]
    (tmp_path / "metrics.jsonl").write_text(
        "\n".join(map(json.dumps, rows)) + '\n{"stage": "classi'
    )
    history = read_results(tmp_path).history["classifier"]
    assert [(row["epoch"], row["val/mcc"]) for row in history] == [(1, 0.1), (2, 0.3)]
    build_report(tmp_path)
    assert [path.name for path in (tmp_path / "report").glob("*.png")] == [
        "training_classifier_mcc.png"
    ]


def test_example_outline_colours_are_where_the_masks_are(tmp_path):
    blank = np.zeros((64, 64), np.uint8)
    truth = blank.copy()
    predicted = blank.copy()
    truth[8:24, 8:24] = 1
    predicted[40:56, 40:56] = 1
    truth[0, :] = 255  # ignored pixels are no infection
    (tmp_path / "slice.png").write_bytes(pictures.example_slice(blank, truth, predicted))
    pixels = np.asarray(Image.open(tmp_path / "slice.png").convert("RGB")).astype(int)
    scale = len(pixels) / 64
    # of three panels, 2 % apart
    middle = pixels[:, round(1.02 * 64 * scale) : round(2.02 * 64 * scale)]
    blue = middle[..., 2] - middle[..., 0] > 80
    red = middle[..., 0] - middle[..., 2] > 80
    for mask, low, high in ((blue, 8, 24), (red, 40, 56)):
        rows, columns = np.nonzero(mask)
        assert np.allclose([rows.min(), columns.min()], low * scale, atol=1.2 * scale)
        assert np.allclose([rows.max(), columns.max()], high * scale, atol=1.2 * scale)


def test_summary_table(built):
    lines = summary_table(built).splitlines()
    assert lines[0].split() == ["stage", "split", "n", "score", "value", "interval"]
    assert re.fullmatch(r"classifier +test +166 +accuracy +0\.\d{3} +0\.741 to 0\.860", lines[2])
    assert re.fullmatch(
        r"segmenter +test +85 +dice_infected_per_image +0\.741 +0\.700 to 0\.780",
        next(line for line in lines if "per_image" in line),
    )
    assert any(
        re.fullmatch(r"framework +val +86 +missed_infected_slices +0\.105 +0\.056 to 0\.187", line)
        for line in lines
    )
    column = lines[0].index("value")
    assert all(line[column - 1] == " " and line[column] != " " for line in lines[2:])
    assert len(lines) == 2 + 2 * 8 and max(map(len, lines)) < 80


def test_classes_that_are_kept_apart(tmp_path):
    write_run(tmp_path)
    write_segmenter(tmp_path)
    path = tmp_path / "results" / "test" / "summary.json"
    summary = json.loads(path.read_text())
    section = summary["segmenter"]
    section |= {
        "classes": ["background", "ground_glass", "<b>"],
        "confusion": np.diag([9, 5, 3]).tolist(),
    }
    for name in ("ground_glass", "<b>"):
        for score in ("dice_{}", "iou_{}", "dice_{}_per_image", "iou_{}_per_image"):
            section["scores"][score.format(name)] = {
                "value": 0.625,
                "n": 41,
                "interval": [0.5, 0.75],
            }
    section["scores"]["mean_dice"] = {"value": 0.5, "n": 86}
    path.write_text(json.dumps(summary))
    page = Page(build_report(tmp_path))
    assert (
        "Class by class" in page.text
        and "Dice, mean over classes" in page.text
        and "<b>" not in page.html
    )
    assert page.text.count("0.500 to 0.750; n = 41") == 8 and "Ground glass" in page.text
    assert "its classes as marked and as predicted" in page.text and "#56B4E9" in page.html
    assert re.search(r"segmenter +test +41 +dice_ground_glass +0.625", summary_table(tmp_path))


def test_class_colours():
    mask = np.array([[0, 1, 2, 255]], np.uint8)
    alpha = class_colours(mask)[..., 3]
    shown = class_colours(mask)[..., :3] * 255
    assert alpha.tolist() == [[0, 0.75, 0.75, 0]]
    assert shown[0, 1].round().tolist() == [213, 94, 0] and shown[0, 2].round().tolist() == [
        86,
        180,
        233,
    ]


def test_a_stage_of_another_task_is_reported_by_its_names(tmp_path, undrawn):
    write_run(tmp_path)
    write_stage(
        tmp_path,
        "test",
        "severity",
        {
            "classes": ["mild", "moderate", "severe"],
            "confusion": [[3, 1, 0], [0, 2, 0], [0, 1, 4]],
            "n": 11,
            "scores": {"kappa": {"value": 0.625, "n": 11}},
        },
    )
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "severity", "epoch": 1, "train/loss": 0.5, "val/loss": 0.6}\n')
    shown = Page(build_report(tmp_path))
    assert "Further scores" not in shown.text and "Kappa 0.625" in shown.text
    assert "Severity, test split." in shown.text and "number of slices below" in shown.text
    report = tmp_path / "report"
    assert {"severity_test_confusion.csv", "training_severity_loss.csv"} <= {
        file.name for file in report.iterdir()
    }
    assert re.search(r"severity +test +11 +kappa +0.625", summary_table(tmp_path))
