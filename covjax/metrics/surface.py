"""Boundary scores of a segmentation, exact, of every image and class.

BF score, 95 % Hausdorff distance, average symmetric surface distance, normalised surface Dice.
"""

import itertools
import math
import numbers
from functools import lru_cache

import numpy as np
from scipy.spatial import cKDTree

from covjax.errors import InputError
from covjax.metrics.checks import (
    ArrayLike,
    Bools,
    Floats,
    Integers,
    Numbers,
    as_array,
    check_labels,
)
from covjax.ops.checks import check_count
from covjax.scores import OUTLINES

THETA = 0.0075  # of the image diagonal: tolerance of the BF score
# mm where the spacing is known, else pixels: tolerance of the normalised surface Dice
TOLERANCE = 2.0
IGNORE = 255  # true label of pixels that are left out, unless asked otherwise
SQUARE = (1.0, 1.0)  # sides of a pixel where distances are in pixels
ROUNDING = 1e-9  # relative, of distances in mm
MASKS = "covjax.metrics.mask_scores(truth, predicted)"
REACH = 2  # pixels around a boundary pixel that are looked up before a tree is asked


def surface_scores(
    truth: ArrayLike,
    predicted: ArrayLike,
    num_classes: int = 2,
    ignore: int = IGNORE,
    tolerance: float = TOLERANCE,
    spacing: tuple[float, float] | None = None,
) -> dict[str, Floats]:
    """BF score, HD95, ASSD and normalised surface Dice of every image and class.

    The boundary of a class is its mask without the erosion of that mask by the 3x3 cross, the image
    border counting as outside. T and P are the boundary pixels of truth and prediction, d their
    Euclidean distances, in mm where `spacing` is given and else in pixels, to the nearest pixel of
    the other boundary:
    - bf_score: precision = share of P with d < 0.0075 image diagonals (strictly; 3.224 pixels at
      304x304), recall the same of T; their harmonic mean, 0 if both are 0;
    - hd95: the larger of the 95th percentiles of d over T and over P (linear interpolation);
    - assd: mean of d over T and P together;
    - nsd: share of T and P together with d <= tolerance.
    A class absent from truth and prediction has no score (NaN). One absent from exactly one of them
    gets the worst one: nsd and bf_score 0, hd95 and assd the image diagonal; but bf_score, by its
    definition, is NaN for every class absent from the truth. Ignored pixels are of no class, in the
    prediction neither.

    Args:
      truth: integer labels [N, H, W].
      predicted: integer labels of the same shape.
      num_classes: K.
      ignore: true label whose pixels are left out; so of masks of 0 and 255 nothing marked counts,
        see `mask_scores`.
      tolerance: of nsd, in mm with `spacing`, else in pixels.
      spacing: mm between rows and between columns, of all images.

    Returns:
      "bf_score", "hd95", "assd", "nsd": float64 [N, K].

    Raises:
      InputError: the shapes differ or are not [N, H, W], a label is not an integer or no class,
        tolerance is negative, spacing is not two sides above 0.

    Sources: BF: G. Csurka et al., "What is a good evaluation measure for semantic segmentation?",
    BMVC 2013. nsd: arXiv:1809.04430, with pixels of the boundary in place of the lengths of surface
    elements. hd95 and assd: arXiv:2206.01653. The worst score for a class that one of the two lacks
    is not in them.
    """
    if not (isinstance(tolerance, numbers.Real) and tolerance >= 0):
        raise InputError(
            f"tolerance: {tolerance}, give {'pixels' if spacing is None else 'mm'}, 0 or more"
        )
    sides = SQUARE if spacing is None else _sides(spacing)
    true, found = _check(truth, predicted, num_classes, ignore)
    diagonal = math.hypot(true.shape[1] * sides[0], true.shape[2] * sides[1])
    scores = np.full((len(OUTLINES), len(true), num_classes), np.nan)
    for cls in range(num_classes):
        pairs = zip(*_boundaries(true, found, cls, ignore), strict=True)
        for i, (there, marked) in enumerate(pairs):
            distances = _distances(there, marked, sides)
            scores[:, i, cls] = _outline_scores(*distances, diagonal, float(tolerance))
    return dict(zip(OUTLINES, scores, strict=True))


def _outline_scores(
    recalled: Floats, precise: Floats, diagonal: float, tolerance: float
) -> tuple[float, float, float, float]:
    """bf_score, hd95, assd and nsd from the distances of true and of predicted boundary pixels."""
    bf = _bf(recalled, precise, THETA * diagonal)
    both = np.concatenate([recalled, precise])
    if not both.size:
        return bf, math.nan, math.nan, math.nan
    if not recalled.size or not precise.size:
        return bf, diagonal, diagonal, 0.0
    hd95 = max(float(np.percentile(recalled, 95)), float(np.percentile(precise, 95)))
    near = both <= tolerance * (1 + ROUNDING)
    return bf, hd95, float(both.mean()), float(near.mean())


def bf_score(
    truth: ArrayLike,
    predicted: ArrayLike,
    num_classes: int = 2,
    ignore: int = IGNORE,
    theta: float | None = None,
) -> Floats:
    """BF score (contour matching) of every image and class, [N, K]; see `surface_scores`.

    Args:
      theta: distance in pixels strictly below which a boundary pixel is matched; None: 0.0075 image
        diagonals.

    Raises:
      InputError: as `surface_scores`, or theta is not above 0.
    """
    true, found = _check(truth, predicted, num_classes, ignore)
    limit = THETA * math.hypot(*true.shape[1:]) if theta is None else theta
    if not (isinstance(limit, numbers.Real) and limit > 0):
        raise InputError(f"theta: {theta}, give pixels, more than 0")
    scores = np.empty((len(true), num_classes))
    for cls in range(num_classes):
        pairs = zip(*_boundaries(true, found, cls, ignore), strict=True)
        scores[:, cls] = [_bf(*_distances(there, marked), limit) for there, marked in pairs]
    return scores


def _bf(recalled: Floats, precise: Floats, theta: float) -> float:
    if not recalled.size:
        return math.nan
    recall = float(np.mean(recalled < theta))
    precision = float(np.mean(precise < theta)) if precise.size else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _boundaries(truth: Numbers, predicted: Numbers, cls: int, ignore: int) -> tuple[Bools, Bools]:
    counted = truth != ignore
    return _boundary((truth == cls) & counted), _boundary((predicted == cls) & counted)


def _boundary(masks: Bools) -> Bools:
    around = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    inner = around[:, :-2, 1:-1] & around[:, 2:, 1:-1] & around[:, 1:-1, :-2] & around[:, 1:-1, 2:]
    return masks & ~inner


def _sides(spacing: tuple[float, float]) -> tuple[float, float]:
    if len(spacing) != 2 or not all(math.isfinite(side) and side > 0 for side in spacing):
        raise InputError(
            f"spacing: {spacing}, give the mm between rows and between columns, above 0"
        )
    return float(spacing[0]), float(spacing[1])


def _distances(
    there: Bools, found: Bools, sides: tuple[float, float] = SQUARE
) -> tuple[Floats, Floats]:
    """Distances of the pixels of each of two boundaries [H, W] to the other, inf if it is empty."""
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
    """Offsets around a pixel by their distance, nearest first, as far as they are complete.

    Complete are those of a distance that no pixel out of REACH has.
    """

    def far(offset: tuple[int, int]) -> float:
        return (offset[0] * sides[0]) ** 2 + (offset[1] * sides[1]) ** 2

    steps = range(-REACH, REACH + 1)
    beyond = ((REACH + 1) * min(sides)) ** 2  # from here on a pixel out of reach may be nearer
    near = [offset for offset in itertools.product(steps, steps) if far(offset) < beyond]
    rings = itertools.groupby(sorted(near, key=far), key=far)
    return [(math.sqrt(square), list(ring)) for square, ring in rings]


def _to_nearest(
    at: Integers, other: Integers, is_other: Bools, width: int, sides: tuple[float, float]
) -> Floats:
    """Distance of every pixel `at` to the nearest of `other`, flat positions in a picture.

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


def _points(at: Integers, width: int, sides: tuple[float, float]) -> Floats:
    return np.stack(np.divmod(at, width), 1) * np.array(sides)


def _check(
    truth: ArrayLike, predicted: ArrayLike, num_classes: int, ignore: int
) -> tuple[Numbers, Numbers]:
    check_count("num_classes", num_classes, 1, "the number of classes")
    true = as_array("truth", truth, "integer labels [N, H, W]")
    found = as_array("predicted", predicted, "integer labels [N, H, W]")
    if true.shape != found.shape or true.ndim != 3 or 0 in true.shape[1:]:
        raise InputError(
            f"truth: shape {true.shape}, predicted: {found.shape}, give both as [N, H, W]"
        )
    counted = true != ignore
    for name, labels in (("truth", true), ("predicted", found)):
        if labels.dtype.kind == "f":
            raise InputError(f"{name}: {labels.dtype}, give integer labels")
        hint = f" (masks of 0 and 255 are compared by {MASKS})"
        check_labels(name, labels, num_classes, counted, hint)
    # Where truth is not counted the prediction may be anything; but 255 there is how masks of 0 and
    # 255 look.
    if np.any((found == ignore) & ~counted) and not np.any(counted & (true > 0)):
        raise InputError(
            f"truth: {ignore} counts nowhere and marks what the prediction marks too; of masks of "
            f"0 and {ignore} give mask > 0, or use {MASKS}"
        )
    return true, found
