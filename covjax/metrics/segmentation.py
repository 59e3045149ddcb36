"""Overlap scores as formulas over confusion matrices: of the data set, and image by image."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from covjax.errors import InputError
from covjax.metrics.checks import ArrayLike, Floats, Integers, Numbers, as_array, check_names
from covjax.metrics.means import Column, scores_over_images
from covjax.metrics.outlines import mean_over_classes
from covjax.metrics.resampling import mean_of, ratio
from covjax.ops.checks import is_whole, shown
from covjax.scores import OVERALL


class ClassScore(NamedTuple):
    """A score of one class: a share of its pixels."""

    # (hits, pixels of the truth, those of truth and prediction together) [N, K] -> [N, K]
    function: Callable[[Numbers, Numbers, Numbers], Floats]
    of_truth: bool = False  # undefined where the truth lacks the class; else where both do

    def reason(self, cls: str) -> str:
        """Returns why it is undefined."""
        return f"{cls} is absent from {'the truth' if self.of_truth else 'truth and prediction'}"


def _accuracy(hits: Numbers, true: Numbers, both: Numbers) -> Floats:
    return ratio(hits, true)


def _iou(hits: Numbers, true: Numbers, both: Numbers) -> Floats:
    return ratio(hits, both - hits)


def _dice(hits: Numbers, true: Numbers, both: Numbers) -> Floats:
    return ratio(2 * hits, both)


CLASS_SCORES = {
    "accuracy": ClassScore(_accuracy, of_truth=True),
    "iou": ClassScore(_iou),
    "dice": ClassScore(_dice),
}
KINDS = list(CLASS_SCORES)
LESIONS = len(OVERALL) + len(KINDS)  # where the scores of all classes but the first begin
TWO_MASKS = " (two masks are compared by covjax.metrics.mask_scores(truth, predicted))"


def segmentation_scores(
    confusions: ArrayLike, classes: Sequence[str], patients: Sequence[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Overlap scores from one confusion matrix per image, over all images and as means over them.

    With C[i, j] the number of pixels of true class i predicted as j: accuracy_i = C_ii / row_i,
    iou_i = C_ii / (row_i + col_i - C_ii), dice_i = 2 C_ii / (row_i + col_i), global_accuracy =
    trace / sum, mean_accuracy and mean_iou = means over classes, weighted_iou = sum of iou_i row_i
    / sum of C.
    - Without suffix: from C summed over the images; n is the number of images.
    - With suffix `_per_image`: mean over the images where the score is defined; n is their number.
    A class absent from truth and prediction has no iou and no dice, one absent from the truth has
    no accuracy; means over classes and over images leave these out. A class predicted but absent
    from the truth has iou and dice 0. An undefined score is None with a reason. With `patients`
    every score gets a t interval over them (see `covjax.metrics.jackknife.t_intervals`), or the
    reason why not.

    Args:
      confusions: integers [N, K, K], row = truth, column = predicted (see `confusion_matrix`),
        without the images that pad a batch.
      classes: names of the K classes.
      patients: [N], the patient of every image, "" where unknown. None: no intervals.

    Returns:
      name -> score (see `score`): global_accuracy, mean_accuracy, mean_iou, weighted_iou, then
      accuracy_<class>, iou_<class> and dice_<class>; each also with `_per_image`.

    Raises:
      InputError: confusions are not integers [N, K, K], classes are not K distinct names, or
        patients are not N.

    Source: "Fully convolutional networks for semantic segmentation", arXiv:1411.4038 (weighted_iou
    is its frequency weighted IU); leaving absent classes out is not in it.
    """
    counts = _check(confusions)
    check_names(classes, counts.shape[1], TWO_MASKS)
    reasons = dict.fromkeys(OVERALL, "no pixel is counted") | _class_reasons(classes)
    return _overlap(counts, _values, reasons, _weights(counts), patients)


def infection_scores(
    confusions: ArrayLike, classes: Sequence[str], patients: Sequence[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Overlap scores of the infected region as a whole, and of each of its classes.

    Args:
      confusions, patients: as of `segmentation_scores`.
      classes: names of the K classes, the background first.

    Returns:
      What `segmentation_scores` returns of background and infected, for which all classes but the
      first are joined. If these are several, also mean_dice, their mean of dice_<class>, and
      accuracy_<class>, iou_<class> and dice_<class> of each, all with `_per_image` too.

    Raises:
      InputError: as `segmentation_scores`.
    """
    counts = _check(confusions)
    check_names(classes, counts.shape[1], TWO_MASKS)
    scores = segmentation_scores(infected_or_not(counts), ("background", "infected"), patients)
    if len(classes) == 2:
        return scores
    reasons = {"mean_dice": "no class is in truth or prediction"} | _class_reasons(classes[1:])
    weights = _weights(counts)
    mean_iou = weights[:, [OVERALL.index("mean_iou")]]  # rests on the pixels that mean_dice does
    weights = np.hstack([mean_iou, weights[:, LESIONS:]])
    return scores | _overlap(counts, _lesion_values, reasons, weights, patients)


def infected_or_not(confusions: ArrayLike) -> Integers:
    """Joins all classes but the first, the background: integers [..., K, K] -> [..., 2, 2].

    Raises InputError for anything but counts of two classes or more.
    """
    counts = _counts(as_array("confusions", confusions, "integer counts [..., K, K]"))
    if counts.ndim < 2 or counts.shape[-1] != counts.shape[-2] or counts.shape[-1] < 2:
        raise InputError(
            f"confusions: shape {counts.shape}, give [..., K, K] of two classes or more"
        )
    if counts.shape[-1] == 2:
        return counts
    return np.add.reduceat(np.add.reduceat(counts, [0, 1], -2), [0, 1], -1)


def per_image_dice(confusions: ArrayLike, cls: int = 1) -> Floats:
    """Dice coefficient of one class in every image, [N] in 0..1.

    NaN where the class is absent from truth and prediction; 0 where it is absent from one of them
    only.

    Args:
      confusions: integers [N, K, K], row = truth, column = predicted.
      cls: index of the class, 0..K-1.

    Raises:
      InputError: confusions are not integers [N, K, K], or cls is outside 0..K-1.
    """
    return _one_class(confusions, "dice", cls)


def per_image_iou(confusions: ArrayLike, cls: int = 1) -> Floats:
    """Intersection over union of one class in every image; the rest as for `per_image_dice`."""
    return _one_class(confusions, "iou", cls)


def _one_class(confusions: ArrayLike, kind: str, cls: int) -> Floats:
    counts = _check(confusions)
    last = counts.shape[1] - 1
    if not is_whole(cls) or not 0 <= cls <= last:
        raise InputError(f"cls: {shown(cls)}, give the index of a class in 0..{last}{TWO_MASKS}")
    return _class_values(counts)[:, cls, KINDS.index(kind)]


def _overlap(
    counts: Integers,
    values_of: Callable[[Numbers], Floats],
    reasons: dict[str, str],
    weights: Numbers,
    patients: Sequence[str] | None,
) -> dict[str, dict[str, Any]]:
    """Scores over all images and as means over images.

    Args:
      counts: [N, K, K].
      values_of: counts [M, K, K] -> [M, S].
      reasons: names of the S scores, and why each may be undefined.
      weights: [N, S], the pixels of every image under the fraction line of each score.
    """
    n, k, _ = counts.shape
    flat = counts.reshape(n, k * k).astype(np.float64)
    single = values_of(counts)
    means = mean_of(single)
    defined = ~np.isnan(single)

    def statistic(weights: Floats) -> Floats:
        pooled = values_of((weights @ flat).reshape(-1, k, k))
        return np.concatenate([pooled, means(weights)], 1)

    columns = [Column(name, n, reason) for name, reason in reasons.items()]
    columns += [
        Column(f"{name}_per_image", int(count), f"{reason}, in every image")
        for (name, reason), count in zip(reasons.items(), defined.sum(0), strict=True)
    ]
    return scores_over_images(columns, statistic, np.hstack([weights, defined]), patients)


def _values(counts: Numbers) -> Floats:
    """Of matrices [N, K, K] the scores of OVERALL, then those of every class, [N, S]."""
    each = _class_values(counts)
    accuracy = each[:, :, KINDS.index("accuracy")]
    iou = each[:, :, KINDS.index("iou")]
    true = counts.sum(axis=2)
    total = counts.sum(axis=(1, 2))
    overall = [
        ratio(np.trace(counts, axis1=1, axis2=2), total),
        mean_over_classes(accuracy),
        mean_over_classes(iou),
        # A class without iou has no true pixels, so its weight is 0.
        ratio(np.sum(np.nan_to_num(iou) * true, axis=1), total),
    ]
    return np.column_stack([*overall, *np.moveaxis(each, 1, 0)])


def _weights(counts: Integers) -> Integers:
    """Pixels under the fraction lines of `_values`.

    In a mean over classes the rarest one decides how much patients differ, and so its pixels do.
    """
    true = counts.sum(axis=2)
    both = true + counts.sum(axis=1)
    total = true.sum(axis=1)
    pixels = both.sum(0)
    rarest = int(np.argmin(np.where(pixels > 0, pixels, np.iinfo(np.int64).max)))
    classes = [
        true[:, k] if score.of_truth else both[:, k]
        for k in range(len(pixels))
        for score in CLASS_SCORES.values()
    ]
    return np.column_stack([total, true[:, rarest], both[:, rarest], total, *classes])


def _lesion_values(counts: Numbers) -> Floats:
    """Of matrices [N, K, K] the mean dice of all classes but the first, then their own scores."""
    each = _values(counts)[:, LESIONS:]
    return np.column_stack([mean_over_classes(each[:, KINDS.index("dice") :: len(KINDS)]), each])


def _class_values(counts: Numbers) -> Floats:
    """CLASS_SCORES of every class of matrices [N, K, K]: [N, K, kinds], NaN if undefined."""
    hits = np.diagonal(counts, axis1=1, axis2=2)
    true = counts.sum(axis=2)
    both = true + counts.sum(axis=1)
    return np.stack([score.function(hits, true, both) for score in CLASS_SCORES.values()], 2)


def _class_reasons(classes: Sequence[str]) -> dict[str, str]:
    """Names of what `_class_values` returns, and why each may be undefined."""
    return {
        f"{kind}_{name}": score.reason(name)
        for name in classes
        for kind, score in CLASS_SCORES.items()
    }


def _check(confusions: ArrayLike) -> Integers:
    array = as_array(
        "confusions", confusions, f"one integer matrix per image, [N, K, K]{TWO_MASKS}"
    )
    if array.ndim != 3 or array.shape[1] != array.shape[2] or not array.shape[1]:
        raise InputError(
            f"confusions: shape {array.shape}, give one square matrix per image, "
            f"[N, K, K]{TWO_MASKS}"
        )
    return _counts(array)


def _counts(confusions: Numbers) -> Integers:
    if not np.issubdtype(confusions.dtype, np.integer):
        raise InputError(f"confusions: {confusions.dtype}, give integer counts{TWO_MASKS}")
    if confusions.size and confusions.min() < 0:
        raise InputError(f"confusions: {confusions.min()} pixels, give counts, 0 or more")
    return confusions.astype(np.int64)
