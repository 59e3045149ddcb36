"""Means over images of what `surface_scores` measures of the outlines of masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from covjax.errors import InputError
from covjax.metrics.checks import Floats, Numbers, as_array, check_names
from covjax.metrics.means import Column, scores_over_images
from covjax.metrics.resampling import mean_of, ratio
from covjax.scores import OUTLINES, find


def surface_summary(
    values: Mapping[str, Numbers], classes: Sequence[str], patients: Sequence[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Means over images of the boundary scores of every class.

    Args:
      values: of `surface_scores`, each float64 [N, K] with NaN where undefined.
      classes: names of the K classes.
      patients: [N], the patient of every image, "" where unknown. None: no intervals.

    Returns:
      name -> score (see `score`): bf_score_<class>_per_image for every class and mean_bf_score,
      their mean over the classes; hd95_, assd_ and nsd_<class>_per_image for every class but the
      first, the background. Each is the mean over the images where it is defined, and n their
      number.

    Raises:
      InputError: values are not those of the K classes, classes are not K distinct names, or
        patients are not N.
    """
    arrays = _checked(values, classes)
    k = len(classes)
    names = [f"bf_score_{name}_per_image" for name in classes]
    names += [f"{kind}_{name}_per_image" for kind in OUTLINES[1:] for name in classes[1:]]
    reasons = ["the class is absent from the truth of every image"] * k
    reasons += ["the class is absent from truth and prediction of every image"] * (len(names) - k)
    each = np.concatenate([arrays["bf_score"], *(arrays[kind][:, 1:] for kind in OUTLINES[1:])], 1)
    means = mean_of(each)

    def statistic(weights: Floats) -> Floats:
        per_class = means(weights)
        return np.concatenate([per_class, mean_over_classes(per_class[:, :k])[:, None]], 1)

    defined = ~np.isnan(each)
    defined = np.concatenate([defined, defined[:, :k].any(1, keepdims=True)], 1)
    names.append("mean_bf_score")
    reasons.append("no class is in the truth of any image")
    columns = [
        Column(name, int(count), reason, find("segmenter", name).scale or "share")
        for name, count, reason in zip(names, defined.sum(0), reasons, strict=True)
    ]
    return scores_over_images(columns, statistic, defined, patients)


def mean_over_classes(values: Floats) -> Floats:
    """Mean of the defined values of each row [N, K]; NaN where there is none."""
    return ratio(np.nansum(values, axis=1), np.sum(~np.isnan(values), axis=1))


def _checked(values: Any, classes: Sequence[str]) -> dict[str, Numbers]:
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
