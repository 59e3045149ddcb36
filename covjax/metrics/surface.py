"""Boundary scores of a segmentation: BF score, HD95, ASSD and normalised surface Dice, exact, per
image and class.
"""

import itertools
import math
import numbers
from functools import lru_cache

import numpy as np
from scipy.spatial import cKDTree

from covjax.errors import InputError
from covjax.metrics.checks import as_array, check_labels
from covjax.metrics.registry import OUTLINES
from covjax.ops.checks import check_count

THETA = 0.0075  # of the image diagonal: tolerance of the BF score
# mm where the spacing is known, else pixels: tolerance of the normalised surface Dice
TOLERANCE = 2.0
SQUARE = (1.0, 1.0)  # sides of a pixel where distances are in pixels
ROUNDING = 1e-9  # relative, of distances in mm
MASKS = "covjax.metrics.mask_scores(truth, predicted)"
REACH = 2  # pixels around a boundary pixel that are looked up before a tree is asked


def surface_scores(
    truth: np.ndarray, predicted: np.ndarray, num_classes: int = 2, ignore: int = 255, tolerance: float = TOLERANCE,
    spacing: tuple[float, float] | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """BF score, HD95, ASSD and normalised surface Dice of every image and class.

    The boundary of a class is its mask without the erosion of that mask by the 3x3 cross, the image border
    counting as outside. T and P are the boundary pixels of truth and prediction, d their Euclidean distances, in mm
    where `spacing` is given and else in pixels, to the nearest pixel of the other boundary:
    - bf_score: precision = share of P with d < 0.0075 image diagonals (strictly; 3.224 pixels at 304x304), recall
      the same of T; their harmonic mean, 0 if both are 0;
    - hd95: the larger of the 95th percentiles of d over T and over P (linear interpolation);
    - assd: mean of d over T and P together;
    - nsd: share of T and P together with d <= tolerance.
    A class absent from truth and prediction has no score (NaN). One absent from exactly one of them gets the worst
    one: nsd and bf_score 0, hd95 and assd the image diagonal; but bf_score, by its definition, is NaN for every
    class absent from the truth. Ignored pixels are of no class, in the prediction neither.

    Args:
      truth: integer labels [N, H, W].
      predicted: integer labels of the same shape.
      num_classes: K.
      ignore: true label whose pixels are left out; so of masks of 0 and 255 nothing marked counts, see `mask_scores`.
      tolerance: of nsd, in mm with `spacing`, else in pixels.
      spacing: mm between rows and between columns, of all images.

    Returns:
      "bf_score", "hd95", "assd", "nsd": float64 [N, K].

    Raises:
      InputError: the shapes differ or are not [N, H, W], a label is not an integer or no class, tolerance is negative,
        spacing is not two sides above 0.

    Sources: BF: G. Csurka et al., "What is a good evaluation measure for semantic segmentation?",
    BMVC 2013. nsd: arXiv:1809.04430, with pixels of the boundary in place of the lengths of surface
    elements. hd95 and assd: arXiv:2206.01653. The worst score for a class that one of the two lacks
    is not in them.
    """
    if not (isinstance(tolerance, numbers.Real) and tolerance >= 0):
        raise InputError(
            f"tolerance: {tolerance}, give {'pixels' if spacing is None else 'mm'}, 0 or more"
        )
    sides = _sides(spacing)
    truth, predicted = _check(truth, predicted, num_classes, ignore)
    scores = {name: np.full((len(truth), num_classes), np.nan) for name in OUTLINES}
    diagonal = math.hypot(
        *(pixels * side for pixels, side in zip(truth.shape[1:], sides, strict=True))
    )
    for cls in range(num_classes):
        there, found = _boundaries(truth, predicted, cls, ignore)
        for i in range(len(truth)):
            recalled, precise = _distances(there[i], found[i], sides)
            both = np.concatenate([recalled, precise])
            scores["bf_score"][i, cls] = _bf(recalled, precise, THETA * diagonal)
            if recalled.size and precise.size:
                scores["hd95"][i, cls] = max(
                    np.percentile(recalled, 95), np.percentile(precise, 95)
                )
                scores["assd"][i, cls] = both.mean()
                scores["nsd"][i, cls] = np.mean(both <= tolerance * (1 + ROUNDING))
            elif both.size:
                scores["hd95"][i, cls] = scores["assd"][i, cls] = diagonal
                scores["nsd"][i, cls] = 0
    return scores


def bf_score(
    truth: np.ndarray,
    predicted: np.ndarray,
    num_classes: int = 2,
    ignore: int = 255,
    theta: float | None = None,
) -> np.ndarray:
    """BF score (contour matching) of every image and class, float64 [N, K]; see `surface_scores`.

    Args:
      theta: distance in pixels strictly below which a boundary pixel is matched; None: 0.0075 image diagonals.

    Raises:
      InputError: as `surface_scores`, or theta is not above 0.
    """
    truth, predicted = _check(truth, predicted, num_classes, ignore)
    theta = THETA * math.hypot(*truth.shape[1:]) if theta is None else theta
    if not (isinstance(theta, numbers.Real) and theta > 0):
        raise InputError(f"theta: {theta}, give pixels, more than 0")
    scores = np.empty((len(truth), num_classes))
    for cls in range(num_classes):
        pairs = zip(*_boundaries(truth, predicted, cls, ignore), strict=True)
        scores[:, cls] = [_bf(*_distances(there, found), theta) for there, found in pairs]
    return scores


def _bf(recalled: np.ndarray, precise: np.ndarray, theta: float) -> float:
    if not recalled.size:
        return math.nan
    recall = np.mean(recalled < theta)
    precision = np.mean(precise < theta) if precise.size else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _boundaries(
    truth: np.ndarray, predicted: np.ndarray, cls: int, ignore: int
) -> tuple[np.ndarray, np.ndarray]:
    counted = truth != ignore
    return _boundary((truth == cls) & counted), _boundary((predicted == cls) & counted)


def _boundary(masks: np.ndarray) -> np.ndarray:
    around = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    inner = around[:, :-2, 1:-1] & around[:, 2:, 1:-1] & around[:, 1:-1, :-2] & around[:, 1:-1, 2:]
    return masks & ~inner


def _sides(spacing: tuple[float, float] | None) -> tuple[float, float]:
    if spacing is None:
        return SQUARE
    if len(spacing) != 2 or not all(math.isfinite(side) and side > 0 for side in spacing):
        raise InputError(
            f"spacing: {spacing}, give the mm between rows and between columns, above 0"
        )
    return float(spacing[0]), float(spacing[1])


def _distances(
    there: np.ndarray, found: np.ndarray, sides: tuple[float, float] = SQUARE
) -> tuple[np.ndarray, np.ndarray]:
    """Distances of the pixels of each of two boundaries [H, W] to the other; infinite if that one
    is empty.
    """
    width = there.shape[1] + 2 * REACH
    there = np.pad(there, REACH).ravel()
    found = np.pad(found, REACH).ravel()
    at = np.flatnonzero(there)
    other = np.flatnonzero(found)
    # In sides of a row, so that square pixels are at the distances of whole numbers, free of
    # rounding.
    ratio = (1.0, sides[1] / sides[0])
    there_to_found = _to_nearest(at, other, found, width, ratio)
    return sides[0] * there_to_found, sides[0] * _to_nearest(other, at, there, width, ratio)


@lru_cache(maxsize=256)
def _rings(sides: tuple[float, float]) -> list[tuple[float, list[tuple[int, int]]]]:
    """Offsets around a pixel by their distance, nearest first, as far as all of one distance are
    within REACH.
    """

    def far(offset):
        return (offset[0] * sides[0]) ** 2 + (offset[1] * sides[1]) ** 2

    squares = itertools.product(range(-REACH, REACH + 1), repeat=2)
    beyond = ((REACH + 1) * min(sides)) ** 2  # from here on a pixel out of reach may be nearer
    near = sorted((offset for offset in squares if far(offset) < beyond), key=far)
    return [(math.sqrt(square), list(ring)) for square, ring in itertools.groupby(near, key=far)]


def _to_nearest(
    at: np.ndarray, other: np.ndarray, is_other: np.ndarray, width: int, sides: tuple[float, float]
) -> np.ndarray:
    """Distance of every pixel `at` to the nearest of `other`; flat positions in a picture `width`
    wide.

    Most pixels have a neighbour close by: looking there first keeps the tree, which is exact at any
    distance but slow when boundaries fill the picture, for the few that do not.
    """
    distance = np.full(at.size, np.inf)
    left = np.arange(at.size)
    if not other.size:
        return distance
    for radius, ring in _rings(sides):
        hit = np.zeros(at.size, bool)
        for down, right in ring:
            hit |= is_other[at + (down * width + right)]
        distance[left[hit]] = radius
        left = left[~hit]
        at = at[~hit]
        if not at.size:
            return distance
    tree = cKDTree(
        _points(other, width, sides), leafsize=32, balanced_tree=False, compact_nodes=False
    )
    distance[left] = tree.query(_points(at, width, sides))[0]
    return distance


def _points(at: np.ndarray, width: int, sides: tuple[float, float]) -> np.ndarray:
    return np.stack(np.divmod(at, width), 1) * np.array(sides)


def _check(
    truth: np.ndarray, predicted: np.ndarray, num_classes: int, ignore: int
) -> tuple[np.ndarray, np.ndarray]:
    check_count("num_classes", num_classes, 1, "the number of classes")
    truth, predicted = (
        as_array(name, labels, "integer labels [N, H, W]")
        for name, labels in (("truth", truth), ("predicted", predicted))
    )
    if truth.shape != predicted.shape or truth.ndim != 3 or 0 in truth.shape[1:]:
        raise InputError(
            f"truth: shape {truth.shape}, predicted: {predicted.shape}, give both as [N, H, W]"
        )
    counted = truth != ignore
    for name, labels in (("truth", truth), ("predicted", predicted)):
        if not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool):
            raise InputError(f"{name}: {labels.dtype}, give integer labels")
        check_labels(
            name, labels, num_classes, counted, f" (masks of 0 and 255 are compared by {MASKS})"
        )
    # Where truth is not counted the prediction may be anything; but 255 there is how masks of 0 and
    # 255 look.
    if np.any((predicted == ignore) & ~counted) and not np.any(counted & (truth > 0)):
        raise InputError(
            f"truth: {ignore} counts nowhere and marks what the prediction marks too; of masks of 0 and {ignore} give "
            f"mask > 0, or use {MASKS}"
        )
    return truth, predicted
