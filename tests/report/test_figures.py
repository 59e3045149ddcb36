"""What is computed for figures, and how scores are written."""

import json

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score, roc_auc_score

from covjax.metrics import classification_scores
from covjax.report import build_report
from covjax.report.charts import curves
from covjax.report.charts import slices as pictures
from covjax.report.charts.slices import class_colours
from covjax.report.run.classifier import principal_components, reliability_bins
from covjax.report.text import interval_text, score_text
from tests.report.runs import (
    write_classifier,
    write_stage,
)  # fmt: skip


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
