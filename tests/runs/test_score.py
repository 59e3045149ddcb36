"""Scores for masks and probabilities of any tool."""

import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from covjax.errors import InputError
from covjax.evaluation.outputs import outputs_from_arrays
from covjax.evaluation.paired import paired_differences
from covjax.report import build_report
from covjax.runs.pool import read_row_arrays
from covjax.runs.score import score_calls, score_masks
from tests.result_files import read_csv, summary

AFFINE = np.diag([-0.7, -0.8, 5.0, 1.0])  # to L, P, S: stored as it is shown


def squares(rng: np.random.Generator, count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Masks [count, 24, 20] uint8: true ones, the last empty, and predicted ones."""
    truth = np.zeros((count, 24, 20), np.uint8)
    truth[:-1, 4:14, 5:15] = 1
    predicted = truth.copy()
    for one in predicted:
        row, column = rng.integers(0, 12, 2)
        one[row : row + 6, column : column + 6] = 1
    return truth, predicted


def write_pictures(folder: Path, masks: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for k, mask in enumerate(masks):
        Image.fromarray(255 * mask).save(folder / f"p{k % 2}_{k}.png")
    return folder


def write_volume(path: Path, masks: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(masks.transpose(2, 1, 0), affine).to_filename(path)


def pooled_dice(truth: np.ndarray, predicted: np.ndarray) -> float:
    return 2 * (truth * predicted).sum() / (truth.sum() + predicted.sum())


def test_pictures_have_the_scores_that_their_pixels_say(tmp_path):
    truth, predicted = squares(np.random.default_rng(0))
    folders = write_pictures(tmp_path / "t", truth), write_pictures(tmp_path / "p", predicted)
    (folders[1] / "notes.txt").write_text("of the tool")
    score_masks(*folders, tmp_path / "out", patient_pattern="p[01]")
    found = summary(tmp_path / "out")["segmenter"]
    dice = found["scores"]["dice_infected"]
    assert dice["value"] == pytest.approx(pooled_dice(truth, predicted))
    assert found["n"] == 5 and found["n_patients"] == 2 and found["model"] == "p"
    assert found["surface"]["unit"] == "pixels"
    rows = read_csv(tmp_path / "out" / "results" / "test" / "per_image.csv")
    assert [row["id"] for row in rows] == [f"p{k}" for k in ("0_0", "0_2", "0_4", "1_1", "1_3")]
    assert [row["label"] for row in rows] == ["1", "1", "0", "1", "1"]
    assert float(rows[0]["dice"]) == pytest.approx(pooled_dice(truth[0], predicted[0]))
    assert "notes.txt" in (tmp_path / "out" / "left_out.csv").read_text()
    build_report(tmp_path / "out")
    assert "all slices that were given" in (tmp_path / "out/report/index.html").read_text()


def test_volumes_are_compared_where_they_lie(tmp_path):
    truth, predicted = squares(np.random.default_rng(1))
    write_volume(tmp_path / "t" / "a" / "case.nii.gz", truth)
    flipped = AFFINE @ np.diag([-1.0, 1, -1, 1])
    flipped[:3, 3] = AFFINE[:3, :3] @ [19, 0, 4]
    write_volume(tmp_path / "p" / "a" / "case.nii", predicted[::-1, :, ::-1], flipped)
    score_masks(tmp_path / "t", tmp_path / "p", tmp_path / "out")
    found = summary(tmp_path / "out")["segmenter"]
    dice = found["scores"]["dice_infected"]["value"]
    assert dice == pytest.approx(pooled_dice(truth, predicted))
    assert found["n_patients"] == 1 and found["surface"]["unit"] == "mm"
    rows = read_csv(tmp_path / "out" / "results" / "test" / "per_image.csv")
    assert rows[0]["id"] == "a/case_0" and rows[0]["hd95_mm"]


def test_classes_are_scored_one_by_one_and_ignored_pixels_not(tmp_path):
    truth, predicted = squares(np.random.default_rng(2))
    truth[0, 4:14, 5:10] = 2
    truth[1] = 3
    for folder, masks in (("t", truth), ("p", predicted)):
        (tmp_path / folder).mkdir()
        for k, mask in enumerate(masks):
            Image.fromarray(mask).save(tmp_path / folder / f"{k}.png")
    classes = "1:ground_glass,2:consolidation,3:ignore"
    score_masks(tmp_path / "t", tmp_path / "p", tmp_path / "out", classes=classes)
    found = summary(tmp_path / "out")["segmenter"]
    assert found["classes"] == ["background", "ground_glass", "consolidation"]
    assert np.sum(found["confusion"]) == 4 * 24 * 20
    assert found["scores"]["dice_consolidation"]["value"] == 0
    for k in range(5):
        Image.fromarray(truth[k]).save(tmp_path / "p" / f"{k}.png")
    with pytest.raises(InputError, match=r"p/1\.png: a prediction ignores no pixel"):
        score_masks(tmp_path / "t", tmp_path / "p", tmp_path / "again", classes=classes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, p: (p / "p0_0.png").unlink(), r"p: 1 of the masks of .* \(p0_0\); add them \("),
        (lambda t, p: (t / "p1_3.png").unlink(), r"t: 1 of the masks .*take these out"),
        (
            lambda t, p: Image.new("L", (20, 18)).save(p / "p0_2.png"),
            r"p0_2\.png: \(18, 20\) pixels, its truth has \(24, 20\)",
        ),
        (lambda t, p: shutil.copy(p / "p0_0.png", p / "p0_0.bmp"), "has the name of"),
        (lambda t, p: (p / "p0_0.png").write_bytes(b"no picture"), r"p0_0\.png"),
        (lambda t, p: shutil.rmtree(t), "t: is not a folder"),
        (lambda t, p: [file.unlink() for file in t.iterdir()], "t: holds no masks"),
    ],
)
def test_masks_that_do_not_go_together_are_named(tmp_path, change, message):
    truth, predicted = squares(np.random.default_rng(0))
    folders = write_pictures(tmp_path / "t", truth), write_pictures(tmp_path / "p", predicted)
    change(*folders)
    with pytest.raises(InputError, match=message):
        score_masks(*folders, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def write_calls(folder: Path, name: str, seed: int) -> tuple[Path, Path, np.ndarray, np.ndarray]:
    """Writes a table of truth and one of probabilities, in another order, and returns both."""
    rng = np.random.default_rng(seed)
    label = np.arange(40) % 2
    probability = np.clip(0.3 * label + rng.random(40), 0, 1)
    truth = folder / "truth.csv"
    predicted = folder / f"{name}.csv"
    rows = [f"s{k},{label[k]},p{k // 4}" for k in range(40)]
    truth.write_text("\n".join(["id,label,patient", *rows]))
    rows = [f"s{k},{float(probability[k])!r}" for k in rng.permutation(40)]
    predicted.write_text("\n".join(["File,Probability", *rows]))
    return truth, predicted, label, probability


def test_probabilities_have_the_scores_of_scikit_learn(tmp_path):
    truth, predicted, label, probability = write_calls(tmp_path, "model", 0)
    score_calls(truth, predicted, tmp_path / "out", threshold=0.4)
    found = summary(tmp_path / "out")["classifier"]
    scores = found["scores"]
    assert scores["roc_auc"]["value"] == pytest.approx(roc_auc_score(label, probability))
    assert scores["accuracy"]["value"] == np.mean((probability >= 0.4) == label)
    assert found["threshold"] == pytest.approx(0.4) and found["n_patients"] == 10
    output = outputs_from_arrays(read_row_arrays(tmp_path / "out", "test"))["classifier"]
    assert np.isfinite(output.rows["log_odds"]).all() and (probability == 1).any()
    build_report(tmp_path / "out")


def test_two_tools_are_compared_pair_by_pair(tmp_path):
    for name, seed in (("one", 1), ("other", 2)):
        truth, predicted, *_ = write_calls(tmp_path, name, seed)
        score_calls(truth, predicted, tmp_path / "out" / name)
    outputs = [tmp_path / "out" / "one", tmp_path / "out" / "other"]
    one, other = (summary(out)["classifier"]["scores"]["roc_auc"]["value"] for out in outputs)
    found = {row["score"]: row for row in paired_differences(outputs, "test")}
    assert found["roc_auc"]["value"] == pytest.approx(other - one)
    assert 0 < found["roc_auc"]["p_value"] <= 1


@pytest.mark.parametrize(
    ("table", "text", "message"),
    [
        ("model", "id,probability\ns0,0.5", r"model\.csv: lacks 39 slices, first s1"),
        ("model", "id,score\ns0,0.5", "needs the columns id .* and probability"),
        ("model", "id,probability\ns0,0.5\ns0,0.6", "line 3: slice 's0' is named twice"),
        ("truth", "id,label\ns0,2", "label of s0 is '2', it must be 0 or 1"),
        ("truth", "id,label\n", "has no rows"),
    ],
)
def test_tables_that_do_not_fit_are_named(tmp_path, table, text, message):
    truth, predicted, *_ = write_calls(tmp_path, "model", 0)
    (tmp_path / f"{table}.csv").write_text(text)
    if "must be" in message:
        predicted.write_text("id,probability\ns0,0.5")
    with pytest.raises(InputError, match=message):
        score_calls(truth, predicted, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", ["1.5", "nan", "", "high"])
def test_a_probability_is_a_share(tmp_path, value):
    truth, predicted, *_ = write_calls(tmp_path, "model", 0)
    text = re.sub("(?m)^s7,.*$", f"s7,{value}", predicted.read_text())
    predicted.write_text(text)
    with pytest.raises(InputError, match=f"probability of s7 is '{value}', it must be from 0 to 1"):
        score_calls(truth, predicted, tmp_path / "out")


def test_remedies_are_flags_of_this_command(tmp_path):
    truth, predicted = squares(np.random.default_rng(0))
    folders = write_pictures(tmp_path / "t", truth), write_pictures(tmp_path / "p", predicted)
    with pytest.raises(InputError, match="--patient_pattern: .* is not a regular expression"):
        score_masks(*folders, tmp_path / "out", patient_pattern="(")
    grey = np.arange(480, dtype=np.uint8).reshape(24, 20)
    Image.fromarray(grey).save(folders[1] / "p0_0.png")
    with pytest.raises(InputError, match=r"e\.g\. --mask_threshold=\d+") as refused:
        score_masks(*folders, tmp_path / "out")
    threshold = int(re.search(r"--mask_threshold=(\d+)", str(refused.value))[1])
    score_masks(*folders, tmp_path / "out", mask_threshold=threshold)
    assert summary(tmp_path / "out")["segmenter"]["n"] == 5
