"""What a classifier's probabilities, features and heat maps show."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covjax.errors import InputError
from covjax.report.charts import curves as charts
from covjax.report.charts.slices import heat_slice
from covjax.report.page import Figures, Picture
from covjax.report.reading import EVALUATE, read_arrays, read_table
from covjax.report.results import Results, split_title
from covjax.report.text import number

BINS = 10
CLASSES = ("healthy", "infected")
COORDINATES = {
    "roc": ("false_positive_rate", "true_positive_rate"),
    "precision_recall": ("recall", "precision"),
}
EXPLAINED = {"id": 1, "image": 3, "heat": 3, "label": 1, "probability": 1, "called": 1}
Scored = Mapping[str, Any]  # the classifier's section of summary.json
Floats = NDArray[np.floating]


def curves(results: Results) -> Figures:
    """Returns the ROC and the precision-recall curve."""
    split, scored = results.shown("classifier")
    for name, (x, y) in COORDINATES.items():
        curve = scored.get("curves", {}).get(name, {})
        if len(curve.get(x, ())) != len(curve.get(y, ())):
            raise InputError(
                f"{results.file(split, 'summary.json')}: damaged (fields '{x}' and '{y}' of "
                f"'classifier.curves.{name}' differ in length), {EVALUATE}"
            )
    return {"": [_roc(scored, split), _precision_recall(scored, split)]}


def _curve(scored: Scored, name: str) -> tuple[Floats, Floats]:
    """Returns the points of a curve with x ascending, without points that are undefined."""
    curve = scored.get("curves", {}).get(name, {})
    points = np.array(
        [[number(value) for value in curve.get(key, ())] for key in COORDINATES[name]]
    )
    points = points[:, np.isfinite(points).all(axis=0)]
    if points.shape[1] and points[0, 0] > points[0, -1]:
        points = points[:, ::-1]
    return points[0], points[1]


def _rates(scored: Scored) -> dict[str, float]:
    """Returns the rates at the threshold in use, NaN where undefined or not recorded."""
    confusion = scored.get("confusion") or []
    (tn, fp), (fn, tp) = confusion if np.shape(confusion) == (2, 2) else [[0, 0], [0, 0]]
    ratio = {
        "false_positive": (fp, tn + fp),
        "recall": (tp, fn + tp),
        "precision": (tp, fp + tp),
        "prevalence": (fn + tp, tn + fp + fn + tp),
    }
    return {name: above / below if below else math.nan for name, (above, below) in ratio.items()}


def _area(scored: Scored, name: str, drawn: float) -> float:
    """Returns the area as scored, so that figure and table agree, else that under the points."""
    score = number((scored["scores"].get(name) or {}).get("value"))
    return drawn if math.isnan(score) else score


def _roc(scored: Scored, split: str) -> Picture | None:
    x, y = _curve(scored, "roc")
    if len(x) < 2:
        return None
    rates = _rates(scored)
    area = _area(scored, "roc_auc", float(np.trapezoid(y, x)))
    return Picture(
        f"classifier_{split}_roc",
        charts.roc(x, y, area, (rates["false_positive"], rates["recall"])),
        "ROC curve.",
        "The share of infected slices found against the share of healthy slices wrongly called "
        "infected, for every threshold: the closer to the upper left corner, the better.",
        "ROC curve of the classifier",
        {"false_positive_rate": x, "true_positive_rate": y},
    )


def _precision_recall(scored: Scored, split: str) -> Picture | None:
    recall, precision = _curve(scored, "precision_recall")
    if len(recall) < 2:
        return None
    rates = _rates(scored)
    # The step-wise area (average precision): straight lines between the points would flatter the
    # classifier.
    steps = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    area = _area(scored, "average_precision", steps)
    point = (rates["recall"], rates["precision"])
    return Picture(
        f"classifier_{split}_precision_recall",
        charts.precision_recall(recall, precision, area, rates["prevalence"], point),
        "Precision-recall curve.",
        "The share of calls that are right against the share of infected slices found, for every "
        "threshold: the closer to the upper right corner, the better.",
        "Precision-recall curve of the classifier",
        {"recall": recall, "precision": precision},
    )


def probabilities(results: Results) -> Figures:
    """Returns the reliability diagram and the principal components of the features."""
    return {"": [_calibration(results), _features(results)]}


def _calibration(results: Results) -> Picture | None:
    split, _ = results.shown("classifier")
    table = read_table(results.file(split, "per_image.csv"), (), ["label", "probability"])
    if table is None or np.isnan(table["probability"]).all():
        return None
    known = np.isfinite(table["probability"])
    edges = np.linspace(0, 1, BINS + 1)
    predicted, observed, counts = reliability_bins(
        table["label"][known], table["probability"][known], edges
    )
    return Picture(
        f"classifier_{split}_calibration",
        charts.reliability(predicted, observed, counts, edges),
        "Reliability diagram",
        f"({split_title(split)} split, n = {known.sum():,}). Of the slices given about the same "
        "probability of infection, the share that is infected: on the dotted line the "
        "probabilities can be taken at their word, below it they are too high. Bins of few slices "
        "say little; their number is below.",
        "Reliability diagram",
        {
            "from": edges[:-1],
            "to": edges[1:],
            "slices": counts,
            "mean_probability": predicted,
            "share_infected": observed,
        },
    )


def reliability_bins(
    label: NDArray[Any], probability: Floats, edges: Floats
) -> tuple[Floats, Floats, NDArray[np.integer]]:
    """Returns mean probability, share of label 1 (NaN where empty) and number of slices by bin.

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


def _features(results: Results) -> Picture | None:
    split, _ = results.shown("classifier")
    path = results.file(split, "features.npz")
    arrays = read_arrays(path, {"features": 2, "label": 1, "id": 1})
    if arrays is None or min(arrays["features"].shape) < 2:
        return None
    if not np.isfinite(arrays["features"]).all():
        raise InputError(
            f"{path}: array 'features' holds NaN or infinite values, run the evaluation again"
        )
    points, explained = principal_components(arrays["features"])
    return Picture(
        f"classifier_{split}_features",
        charts.feature_map(points, arrays["label"], explained.tolist()),
        "Principal components of the features,",
        f"as the paper's Figure 7 ({split_title(split)} split, n = {len(points):,}, "
        f"{arrays['features'].shape[1]:,} features). Each mark is a slice, placed by what the last "
        "hidden layer says of it: the farther apart circles (healthy) and triangles (infected), "
        "the easier the two are told apart.",
        "First two principal components of the features",
        {
            "id": arrays["id"],
            "label": arrays["label"],
            "component_1": points[:, 0],
            "component_2": points[:, 1],
        },
    )


def principal_components(values: Floats) -> tuple[Floats, Floats]:
    """Returns the first two principal components [N, 2] of rows [N, D], and each one's variance.

    The variance is a share of all. The sign of a component, which is arbitrary, is such that its
    largest value is positive. From the eigenvectors of the smaller of the two products of the
    centred rows with themselves: a decomposition of the rows themselves takes many times as long
    when there are thousands.
    """
    centred = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    few = len(centred) < centred.shape[1]
    variance, vectors = np.linalg.eigh(centred @ centred.T if few else centred.T @ centred)
    variance = np.maximum(variance, 0)
    vectors = vectors[:, :-3:-1]
    points = vectors * np.sqrt(variance[:-3:-1]) if few else centred @ vectors
    largest = np.take_along_axis(points, np.abs(points).argmax(0)[None], axis=0)
    points *= np.where(largest < 0, -1, 1)
    return points, variance[:-3:-1] / max(variance.sum(), np.finfo(float).tiny)


def explanations(results: Results) -> Figures:
    """Returns the slices whose heat maps were kept, grouped by truth and call."""
    split, _ = results.shown("classifier")
    arrays = read_arrays(results.file(split, "explain.npz"), EXPLAINED)
    outcomes: dict[str, list[Picture]] = {}
    if arrays is None:
        return outcomes
    for place in range(len(arrays["id"])):
        one = {name: values[place] for name, values in arrays.items()}
        truth = CLASSES[int(one["label"] == 1)].capitalize()
        outcome = f"{truth}, called {CLASSES[int(one['called'])]}"
        outcomes.setdefault(outcome, []).append(_explanation(split, place + 1, one))
    return outcomes


def _explanation(split: str, place: int, one: Mapping[str, Any]) -> Picture:
    identity = str(one["id"])
    probability = float(one["probability"])
    row, column = np.unravel_index(int(np.argmax(one["heat"])), one["heat"].shape)
    return Picture(
        f"classifier_{split}_explain_{place}",
        heat_slice(one["image"], one["heat"]),
        f"Probability {probability:.3f}",
        identity,
        f"Slice {identity} with the regions that speak for infection",
        {
            "id": [identity],
            "label": [int(one["label"])],
            "probability": [probability],
            "hottest_row": [int(row)],
            "hottest_column": [int(column)],
            "mean_heat": [float(one["heat"].mean())],
        },
    )
