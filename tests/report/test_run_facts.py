"""What a page says beside the scores: options, warnings, notes and classes."""

import json
import re

import numpy as np
import pytest

from covjax.report import build_report, summary_table
from tests.report.runs import (
    Page,
    write_classifier,
    write_json,
    write_run,
    write_segmenter,
    write_stage,
)  # fmt: skip


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
