"""What a classifier's probabilities, features and heat maps show; each section is empty if its
files are absent.
"""

import itertools
import math
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from covjax.errors import InputError
from covjax.report import pictures, plots
from covjax.report.parts import Picture, Section, split_title
from covjax.report.results import Results, number, primary, read_arrays, read_table

BINS = 10
CLASSES = ("healthy", "infected")


def curves(results: Results) -> Section:
    split = primary(results, "classifier")
    if split is None:
        return Section("ROC and precision-recall curves", [])
    scored = results.scores["classifier"][split]
    pictures = [
        picture for picture in (_roc(scored, split), _precision_recall(scored, split)) if picture
    ]
    return Section("ROC and precision-recall curves", [pictures])


def _curve(scored: Mapping[str, Any], name: str, x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the points of a curve with x ascending, without points that are undefined."""
    curve = (scored.get("curves") or {}).get(name) or {}
    points = np.array([[number(value) for value in curve.get(key) or ()] for key in (x, y)], float)
    points = points[:, np.isfinite(points).all(axis=0)]
    if points.shape[1] and points[0, 0] > points[0, -1]:
        points = points[:, ::-1]
    return points[0], points[1]


def _rates(scored: Mapping[str, Any]) -> dict[str, float]:
    """Returns the rates at the threshold in use, NaN where their denominator is 0 or nothing is
    recorded.
    """
    confusion = scored.get("confusion")
    if np.shape(confusion) != (2, 2):
        return dict.fromkeys(("false_positive", "recall", "precision", "prevalence"), math.nan)
    (tn, fp), (fn, tp) = confusion
    ratio = {
        "false_positive": (fp, tn + fp),
        "recall": (tp, fn + tp),
        "precision": (tp, fp + tp),
        "prevalence": (fn + tp, tn + fp + fn + tp),
    }
    return {name: above / below if below else math.nan for name, (above, below) in ratio.items()}


def _area(scored: Mapping[str, Any], name: str, drawn: float) -> float:
    """Returns the area as scored, so that figure and table agree, else the area under the points
    drawn.
    """
    score = number((scored["scores"].get(name) or {}).get("value"))
    return drawn if math.isnan(score) else score


def _roc(scored: Mapping[str, Any], split: str) -> Picture | None:
    x, y = _curve(scored, "roc", "false_positive_rate", "true_positive_rate")
    if len(x) < 2:
        return None
    rates = _rates(scored)
    area = _area(scored, "roc_auc", float(np.trapezoid(y, x)))
    png = plots.roc(x, y, area, (rates["false_positive"], rates["recall"]))
    caption = (
        "<strong>ROC curve.</strong> The share of infected slices found against the share of healthy slices "
        "wrongly called infected, for every threshold: the closer to the upper left corner, the better."
    )
    numbers = {"false_positive_rate": x, "true_positive_rate": y}
    return Picture(f"classifier_{split}_roc", png, caption, "ROC curve of the classifier", numbers)


def _precision_recall(scored: Mapping[str, Any], split: str) -> Picture | None:
    recall, precision = _curve(scored, "precision_recall", "recall", "precision")
    if len(recall) < 2:
        return None
    rates = _rates(scored)
    # The step-wise area (average precision): straight lines between the points would flatter the
    # classifier.
    area = _area(
        scored, "average_precision", float(np.sum(np.diff(recall, prepend=0.0) * precision))
    )
    png = plots.precision_recall(
        recall, precision, area, rates["prevalence"], (rates["recall"], rates["precision"])
    )
    caption = (
        "<strong>Precision-recall curve.</strong> The share of calls that are right against the share of "
        "infected slices found, for every threshold: the closer to the upper right corner, the better."
    )
    numbers = {"recall": recall, "precision": precision}
    alt = "Precision-recall curve of the classifier"
    return Picture(f"classifier_{split}_precision_recall", png, caption, alt, numbers)


def probabilities(results: Results) -> Section:
    return Section("Calibration and features", [[*_calibration(results), *_features(results)]])


def _calibration(results: Results) -> list[Picture]:
    split = primary(results, "classifier")
    table = (
        read_table(results.file(split, "per_image.csv"), (), ["label", "probability"])
        if split
        else None
    )
    known = np.isfinite(table["probability"]) if table else np.zeros(0, bool)
    if not known.any():
        return []
    edges = np.linspace(0, 1, BINS + 1)
    predicted, observed, counts = reliability_bins(
        table["label"][known], table["probability"][known], edges
    )
    png = plots.reliability(predicted, observed, counts, edges)
    caption = (
        f"<strong>Reliability diagram</strong> ({escape(split_title(split))} part, n = {known.sum():,}). Of the slices "
        "given about the same probability of infection, the share that is infected: on the dotted line the "
        "probabilities can be taken at their word, below it they are too high. Bins of few slices say little; their "
        "number is below."
    )
    numbers = {
        "from": edges[:-1], "to": edges[1:], "slices": counts, "mean_probability": predicted,
        "share_infected": observed,
    }  # fmt: skip
    return [
        Picture(f"classifier_{split}_calibration", png, caption, "Reliability diagram", numbers)
    ]


def reliability_bins(
    label: np.ndarray, probability: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns mean probability, share of label 1 (NaN where empty) and number of slices of every
    bin.

    A bin holds its upper edge, as those of the calibration error do; the first one holds its lower
    edge, too.
    """
    bins = len(edges) - 1
    place = np.searchsorted(edges[1:-1], probability)
    counts = np.bincount(place, minlength=bins)
    sums = (np.bincount(place, weights=values, minlength=bins) for values in (probability, label))
    predicted, observed = (
        np.divide(total, counts, out=np.full(bins, np.nan), where=counts > 0) for total in sums
    )
    return predicted, observed, counts


def _features(results: Results) -> list[Picture]:
    split = primary(results, "classifier")
    path = results.file(split, "features.npz") if split else None
    arrays = read_arrays(path, {"features": 2, "label": 1, "id": 1}) if split else None
    if arrays is None or min(arrays["features"].shape) < 2:
        return []
    if not np.isfinite(arrays["features"]).all():
        raise InputError(
            f"{path}: array 'features' holds NaN or infinite values, run the evaluation again"
        )
    points, explained = principal_components(arrays["features"])
    png = plots.feature_map(points, arrays["label"], explained)
    caption = (
        "<strong>Principal components of the features</strong>, as the paper's Figure 7 "
        f"({escape(split_title(split))} part, n = {len(points):,}, {arrays['features'].shape[1]:,} features). "
        "Each mark is a slice, placed by what the last hidden layer says of it: the farther apart circles (healthy) "
        "and triangles (infected), the easier the two are told apart."
    )
    numbers = {
        "id": arrays["id"], "label": arrays["label"], "component_1": points[:, 0], "component_2": points[:, 1],
    }  # fmt: skip
    alt = "First two principal components of the features"
    return [Picture(f"classifier_{split}_features", png, caption, alt, numbers)]


def principal_components(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first two principal components [N, 2] of rows [N, D] and the share of the
    variance of each.

    The sign of a component, which is arbitrary, is such that its largest value is positive. From
    the eigenvectors of the smaller of the two products of the centred rows with themselves: a
    decomposition of the rows themselves takes many times as long when there are thousands.
    """
    centred = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    few = len(centred) < centred.shape[1]
    variance, vectors = np.linalg.eigh(centred @ centred.T if few else centred.T @ centred)
    variance = np.maximum(variance, 0)
    vectors = vectors[:, :-3:-1]
    points = vectors * np.sqrt(variance[:-3:-1]) if few else centred @ vectors
    points *= np.where(
        np.take_along_axis(points, np.abs(points).argmax(0)[None], axis=0) < 0, -1, 1
    )
    return points, variance[:-3:-1] / max(variance.sum(), np.finfo(float).tiny)


def explanations(results: Results) -> Section:
    title = "What the classifier looks at"
    split = primary(results, "classifier")
    shapes = {"id": 1, "image": 3, "heat": 3, "label": 1, "probability": 1, "called": 1}
    arrays = read_arrays(results.file(split, "explain.npz"), shapes) if split else None
    if arrays is None or not len(arrays["id"]):
        return Section(title, [])
    intro = (
        f"<p>Slices of the {escape(split_title(split))} part: as they are, and with the regions that speak for "
        "infection laid over them, from dark blue (little) to yellow (most). A map shows where, not why, and each is "
        "scaled to its own highest value.</p>"
    )
    outcomes: dict[str, list[Picture]] = {}
    for place in range(len(arrays["id"])):
        one = {name: values[place] for name, values in arrays.items()}
        outcomes.setdefault(_outcome(one), []).append(_explanation(split, place + 1, one))
    parts = ((f"<h3>{outcome}</h3>", shown) for outcome, shown in outcomes.items())
    return Section(title, [intro, *itertools.chain.from_iterable(parts)], slices=True)


def _outcome(one: Mapping[str, Any]) -> str:
    truth, called = (CLASSES[int(found)] for found in (one["label"] == 1, one["called"]))
    return f"{truth.capitalize()}, called {called}"


def _explanation(split: str, place: int, one: Mapping[str, Any]) -> Picture:
    identity = str(one["id"])
    probability = float(one["probability"])
    caption = f"<strong>Probability {probability:.3f}</strong><br>{escape(identity)}"
    row, column = np.unravel_index(int(np.argmax(one["heat"])), one["heat"].shape)
    numbers = {
        "id": [identity], "label": [int(one["label"])], "probability": [probability],
        "hottest_row": [int(row)], "hottest_column": [int(column)], "mean_heat": [float(one["heat"].mean())],
    }  # fmt: skip
    png = pictures.heat_slice(one["image"], one["heat"])
    name = f"classifier_{split}_explain_{place}"
    return Picture(
        name, png, caption, f"Slice {identity} with the regions that speak for infection", numbers
    )
