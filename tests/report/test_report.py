"""The page of a run: its sections, its figures and their numbers."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.calibration import calibration_curve
from sklearn.decomposition import PCA

from covjax.errors import InputError
from covjax.report import build_report, summary_table
from covjax.report.page import Picture, write_page
from tests.report.runs import Page, write_full
from tests.result_files import read_csv


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a workdir whose report is built, to look at but not to change."""
    workdir = tmp_path_factory.mktemp("run")
    write_full(workdir)
    build_report(workdir)
    return workdir


def test_a_report_holds_the_model_card_that_its_page_leads_to(built):
    assert "model_card.md" in (built / "report" / "index.html").read_text()
    assert (built / "report" / "model_card.md").read_text().startswith("# Model card: classifier")


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
        "classifier (cov_ctnet), segmenter (cov_raseg), two stages",
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
        assert len(read_csv(file.with_suffix(".csv"))) >= 1, file
    assert {file.name for file in (built / "report").iterdir()} == {
        "index.html",
        "model_card.md",
        *(file.name for file in files),
        *(file.with_suffix(".csv").name for file in files),
    }


def test_numbers_of_the_figures_are_those_of_the_results(built):
    def numbers(name):
        return read_csv(built / "report" / f"{name}.csv")

    images = read_csv(built / "results" / "test" / "per_image.csv")
    dice = np.array([float(row["dice"]) for row in images if row["dice"]])
    counts, _ = np.histogram(dice, np.linspace(0, 1, 21))
    assert [int(row["slices"]) for row in numbers("segmenter_test_dice")] == counts.tolist()
    shares = {row["id"]: row for row in numbers("two_stages_test_share")}
    assert all(
        float(shares[row["id"]]["predicted_share"])
        == pytest.approx(float(row["two_stages_predicted_share"]), rel=1e-8)
        for row in images
    )
    agreement = numbers("two_stages_test_agreement")
    infected = {
        row["id"]
        for row in images
        if float(row["true_share"]) or float(row["two_stages_predicted_share"])
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


def test_summary_table(built):
    lines = summary_table(built).splitlines()
    assert lines[0].split() == ["stage", "split", "n", "score", "value", "interval"]
    assert re.fullmatch(r"classifier +test +166 +accuracy +0\.\d{3} +0\.741 to 0\.860", lines[2])
    assert re.fullmatch(
        r"segmenter +test +85 +dice_infected_per_image +0\.741 +0\.700 to 0\.780",
        next(line for line in lines if "per_image" in line),
    )
    assert any(
        re.fullmatch(r"two_stages +val +86 +missed_infected_slices +0\.105 +0\.056 to 0\.187", line)
        for line in lines
    )
    column = lines[0].index("value")
    assert all(line[column - 1] == " " and line[column] != " " for line in lines[2:])
    assert len(lines) == 2 + 2 * 8 and max(map(len, lines)) < 80


def test_a_figure_stays_in_the_folder_of_its_page(tmp_path):
    figure = Picture("../outside", b"", "", "", "", {"a": [1]})
    with pytest.raises(InputError, match="'../outside' is no name of a figure"):
        write_page(tmp_path / "report", "run.html", {"": {"": [figure]}}, {})
    assert not list(tmp_path.iterdir())
