"""Pages of runs that lack results, and of texts that are strange."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from covjax.report import build_report, page, summary_table
from covjax.report.charts import slices as pictures
from covjax.report.results import read_results
from tests.report.runs import (
    Page,
    write_arrays,
    write_classifier,
    write_full,
    write_json,
    write_run,
    write_segmenter,
    write_stage,
    write_two_stages,
)
from tests.result_files import read_csv


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
        (
            [write_two_stages],
            ["Scores", "Confusion matrix", "Slice by slice", "Patient by patient"],
        ),
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
    write_two_stages(tmp_path, patient=attack)
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
        read_csv(tmp_path / "report" / "classifier_test_confusion.csv")[1]["predicted"] == names[1]
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
