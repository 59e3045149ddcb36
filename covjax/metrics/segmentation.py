"""Overlap scores of a segmentation, as formulas over confusion matrices: data-set level and per
image.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from covjax.errors import InputError
from covjax.metrics.checks import as_array, check_names, check_patients
from covjax.metrics.jackknife import Limits, limited, t_intervals
from covjax.metrics.registry import OUTLINES, OVERALL, find
from covjax.metrics.resampling import mean_of, ratio

TWO_MASKS = " (two masks are compared by covjax.metrics.mask_scores(truth, predicted))"


def segmentation_scores(
    confusions: np.ndarray, classes: tuple[str, ...], patients: Sequence[str] | None = None
) -> dict[str, dict]:
    """Overlap scores from one confusion matrix per image, over the data set and as means over
    images.

    With C[i, j] the number of pixels of true class i predicted as j: accuracy_i = C_ii / row_i,
    iou_i = C_ii / (row_i + col_i - C_ii), dice_i = 2 C_ii / (row_i + col_i), global_accuracy = trace / sum,
    mean_accuracy and mean_iou = means over classes, weighted_iou = sum of iou_i row_i / sum of C.
    - Without suffix: from C summed over the images; n is the number of images.
    - With suffix `_per_image`: mean over the images where the score is defined; n is their number.
    A class absent from truth and prediction has no iou and no dice, one absent from the truth has no
    accuracy; means over classes and over images leave these out. A class predicted but absent from the
    truth has iou and dice 0. An undefined score is None with a reason. With `patients` every
    score gets a t interval over them (see `covjax.metrics.jackknife.t_intervals`), or the reason why not.

    Args:
      confusions: integers [N, K, K], row = truth, column = predicted (see `confusion_matrix`), without the
        images that pad a batch.
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
    confusions = _check(confusions)
    check_names(classes, confusions.shape[1], hint=TWO_MASKS)
    return _overlap(
        confusions, partial(_values, classes=classes), _reasons(classes), patients, classes
    )


def infection_scores(
    confusions: np.ndarray, classes: tuple[str, ...], patients: Sequence[str] | None = None
) -> dict[str, dict]:
    """Overlap scores of the infected region as a whole, and where it has several classes, of each
    of them.

    Args:
      confusions, patients: as of `segmentation_scores`.
      classes: names of the K classes, the background first.

    Returns:
      What `segmentation_scores` returns of background and infected, for which all classes but the first are joined. If
      these are several, also mean_dice, their mean of dice_<class>, and accuracy_<class>, iou_<class> and dice_<class>
      of each, all with `_per_image` too.

    Raises:
      InputError: as `segmentation_scores`.
    """
    confusions = _check(confusions)
    check_names(classes, confusions.shape[1], hint=TWO_MASKS)
    scores = segmentation_scores(infected_or_not(confusions), ("background", "infected"), patients)
    if len(classes) == 2:
        return scores
    reasons = {"mean_dice": "no class is in truth or prediction"}
    reasons |= {
        name: reason for name, reason in _reasons(classes[1:]).items() if name not in OVERALL
    }

    def of_classes(confusions):
        values = _values(confusions, classes)
        dice = _columns({name: values[f"dice_{name}"] for name in classes[1:]})
        values["mean_dice"] = _mean_over_classes(dice)
        return {name: values[name] for name in reasons}

    return scores | _overlap(confusions, of_classes, reasons, patients, classes)


def infected_or_not(confusions: np.ndarray) -> np.ndarray:
    """Joins all classes but the first, the background: integers [..., K, K] -> int64 [..., 2, 2].

    Raises InputError for anything but counts of two classes or more.
    """
    confusions = _counts(as_array("confusions", confusions, "integer counts [..., K, K]"))
    if (
        confusions.ndim < 2
        or confusions.shape[-1] != confusions.shape[-2]
        or confusions.shape[-1] < 2
    ):
        raise InputError(
            f"confusions: shape {confusions.shape}, give [..., K, K] of two classes or more"
        )
    if confusions.shape[-1] == 2:
        return confusions
    return np.add.reduceat(np.add.reduceat(confusions, [0, 1], -2), [0, 1], -1)


def _overlap(
    confusions: np.ndarray,
    values_of: Callable[[np.ndarray], dict[str, np.ndarray]],
    reasons: dict[str, str],
    patients: Sequence[str] | None,
    classes: tuple[str, ...],
) -> dict[str, dict]:
    """Scores over all images and as means over images; `reasons` say by their names why they may be
    undefined.
    """
    n = len(confusions)
    single = values_of(confusions)
    means = _columns(single)
    per_image = [f"{name}_per_image" for name in single]
    flat = confusions.reshape(n, confusions.shape[1] ** 2).astype(np.float64)

    def statistic(weights):
        sums = (weights @ flat).reshape(-1, *confusions.shape[1:])
        return np.concatenate([_columns(values_of(sums)), mean_of(means)(weights)], 1)

    values = statistic(np.ones((1, n)))[0]
    counts = [n] * len(single) + [int(c) for c in np.sum(~np.isnan(means), 0)]
    why = [reasons[name] for name in single]
    why += [f"{reason}, in every image" for reason in why]
    defined = ~np.isnan(means)
    weights = np.concatenate([_fraction_weights(list(single), confusions, classes), defined], 1)
    names = [*single, *per_image]
    return _scored(names, values, counts, why, statistic, patients, weights, ["share"] * len(names))


def _fraction_weights(
    names: list[str], confusions: np.ndarray, classes: tuple[str, ...]
) -> np.ndarray:
    """What every image weighs in every score of all pixels, [N, S]: the pixels under its fraction
    line.

    In a mean over classes the rarest one decides how much patients differ, and so its pixels do.
    """
    true = confusions.sum(2)
    predicted = confusions.sum(1)
    both = true + predicted
    total = true.sum(1)
    rarest = int(np.argmin(np.where(both.sum(0) > 0, both.sum(0), np.iinfo(np.int64).max)))
    of = {name: total for name in OVERALL} | {
        "mean_dice": both[:, rarest],
        "mean_iou": both[:, rarest],
    }
    of["mean_accuracy"] = true[:, rarest]
    for k, name in enumerate(classes):
        of |= {
            f"accuracy_{name}": true[:, k],
            f"iou_{name}": both[:, k],
            f"dice_{name}": both[:, k],
        }
    return np.stack([of[name] for name in names], 1)


def surface_summary(
    values: dict[str, np.ndarray], classes: tuple[str, ...], patients: Sequence[str] | None = None
) -> dict[str, dict]:
    """Means over images of the boundary scores of every class.

    Args:
      values: of `surface_scores`, each float64 [N, K] with NaN where undefined.
      classes: names of the K classes.
      patients: [N], the patient of every image, "" where unknown. None: no intervals.

    Returns:
      name -> score (see `score`): bf_score_<class>_per_image for every class and mean_bf_score, their mean over the
      classes; hd95_, assd_ and nsd_<class>_per_image for every class but the first, the background. Each is the mean
      over the images where it is defined, and n their number.

    Raises:
      InputError: values are not those of the K classes, classes are not K distinct names, or patients are not N.
    """
    values = _surface_values(values, classes)
    n = len(values["bf_score"])
    names = [f"bf_score_{name}_per_image" for name in classes]
    columns = [values["bf_score"]]
    for kind in OUTLINES[1:]:
        names += [f"{kind}_{name}_per_image" for name in classes[1:]]
        columns.append(values[kind][:, 1:])
    columns = np.concatenate(columns, 1)
    means = mean_of(columns)
    defined = ~np.isnan(columns)

    def statistic(weights):
        per_class = means(weights)
        return np.concatenate(
            [per_class, _mean_over_classes(per_class[:, : len(classes)])[:, None]], 1
        )

    counts = [*(int(c) for c in defined.sum(0)), int(defined[:, : len(classes)].any(1).sum())]
    reasons = ["the class is absent from the truth of every image"] * len(classes)
    reasons += ["the class is absent from truth and prediction of every image"] * (
        len(names) - len(classes)
    )
    reasons.append("no class is in the truth of any image")
    values = statistic(np.ones((1, n)))[0]
    weights = np.concatenate([defined, defined[:, : len(classes)].any(1)[:, None]], 1)
    names.append("mean_bf_score")
    scales = [find("segmenter", name).scale for name in names]
    return _scored(names, values, counts, reasons, statistic, patients, weights, scales)


def _scored(
    names: list[str],
    values: np.ndarray,
    counts: list[int],
    reasons: list[str],
    statistic: Callable[[np.ndarray], np.ndarray],
    patients: Sequence[str] | None,
    weights: np.ndarray,
    scales: list[str],
) -> dict[str, dict]:
    limits = [Limits(None)] * len(names)
    n = len(weights)
    if patients is not None:
        check_patients(patients, n, "image")
        limits = t_intervals(statistic, patients, weights, scales)
    return {
        name: limited(value, count, limit, reason if n else "no images")
        for name, value, count, limit, reason in zip(
            names, values, counts, limits, reasons, strict=True
        )
    }


def per_image_dice(confusions: np.ndarray, cls: int = 1) -> np.ndarray:
    """Dice coefficient of one class in every image, float64 [N] in 0..1.

    NaN where the class is absent from truth and prediction; 0 where it is absent from one of them
    only.

    Args:
      confusions: integers [N, K, K], row = truth, column = predicted.
      cls: index of the class, 0..K-1.

    Raises:
      InputError: confusions are not integers [N, K, K], or cls is outside 0..K-1.
    """
    return _one_class(confusions, cls, _class_dice)


def per_image_iou(confusions: np.ndarray, cls: int = 1) -> np.ndarray:
    """Intersection over union of one class in every image; the rest as for `per_image_dice`."""
    return _one_class(confusions, cls, _class_iou)


def _one_class(
    confusions: np.ndarray, cls: int, of_classes: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    confusions = _check(confusions)
    whole = isinstance(cls, int | np.integer) and not isinstance(cls, bool)
    if not whole or not 0 <= cls < confusions.shape[1]:
        shown = cls if np.ndim(cls) == 0 else f"an array {np.shape(cls)}"
        raise InputError(
            f"cls: {shown}, give the index of a class in 0..{confusions.shape[1] - 1}{TWO_MASKS}"
        )
    return of_classes(confusions)[:, cls]


def _values(confusions: np.ndarray, classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Every score of every matrix [N, K, K]: name -> float64 [N], NaN where undefined."""
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    true = confusions.sum(axis=2)
    total = confusions.sum(axis=(1, 2))
    accuracy = ratio(hits, true)
    iou = _class_iou(confusions)
    dice = _class_dice(confusions)
    values = {
        "global_accuracy": ratio(hits.sum(axis=1), total),
        "mean_accuracy": _mean_over_classes(accuracy),
        "mean_iou": _mean_over_classes(iou),
        # A class without iou has no true pixels, so its weight is 0.
        "weighted_iou": ratio(np.sum(np.nan_to_num(iou) * true, axis=1), total),
    }
    for i, name in enumerate(classes):
        values[f"accuracy_{name}"] = accuracy[:, i]
        values[f"iou_{name}"] = iou[:, i]
        values[f"dice_{name}"] = dice[:, i]
    return values


def _class_iou(confusions: np.ndarray) -> np.ndarray:
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    return ratio(hits, confusions.sum(axis=2) + confusions.sum(axis=1) - hits)


def _class_dice(confusions: np.ndarray) -> np.ndarray:
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    return ratio(2 * hits, confusions.sum(axis=2) + confusions.sum(axis=1))


def _columns(values: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack(list(values.values()), 1)


def _mean_over_classes(values: np.ndarray) -> np.ndarray:
    return ratio(np.nansum(values, axis=1), np.sum(~np.isnan(values), axis=1))


def _reasons(classes: tuple[str, ...]) -> dict[str, str]:
    reasons = dict.fromkeys(OVERALL, "no pixel is counted")
    for name in classes:
        reasons[f"accuracy_{name}"] = f"{name} is absent from the truth"
        reasons[f"iou_{name}"] = reasons[f"dice_{name}"] = (
            f"{name} is absent from truth and prediction"
        )
    return reasons


def _surface_values(values: Any, classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Returns the boundary scores as arrays [N, K]."""
    if not isinstance(values, Mapping) or not set(OUTLINES) <= values.keys():
        raise InputError(f"values: give what surface_scores returned, {', '.join(OUTLINES)}")
    arrays = {
        name: as_array(f"values['{name}']", values[name], "scores [N, K]") for name in OUTLINES
    }
    shapes = [array.shape for array in arrays.values()]
    if len(set(shapes)) != 1 or len(shapes[0]) != 2:
        raise InputError(f"values: shapes {shapes}, give [N, K] each")
    check_names(classes, shapes[0][1])
    return arrays


def _check(confusions: np.ndarray) -> np.ndarray:
    confusions = as_array(
        "confusions", confusions, f"one integer matrix per image, [N, K, K]{TWO_MASKS}"
    )
    if (
        confusions.ndim != 3
        or confusions.shape[1] != confusions.shape[2]
        or confusions.shape[1] == 0
    ):
        raise InputError(
            f"confusions: shape {confusions.shape}, give one square matrix per image, [N, K, K]{TWO_MASKS}"
        )
    return _counts(confusions)


def _counts(confusions: np.ndarray) -> np.ndarray:
    if not np.issubdtype(confusions.dtype, np.integer):
        raise InputError(f"confusions: {confusions.dtype}, give integer counts{TWO_MASKS}")
    if confusions.size and confusions.min() < 0:
        raise InputError(f"confusions: {confusions.min()} pixels, give counts, 0 or more")
    return confusions.astype(np.int64)
