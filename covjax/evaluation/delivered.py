"""From a prediction to the delivered mask and its scores, the same in evaluation and screening.

Everything here is computed slice by slice on the host, so that no batch and no number of devices
makes a difference.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from covjax.data.label_map import infected
from covjax.data.resizing import Shape
from covjax.data.views import Native, View
from covjax.evaluation.postprocess import remove_small
from covjax.metrics import own_value, surface_scores
from covjax.metrics.own import ROW
from covjax.scores import registered

_TOUCHING = np.ones((3, 3))  # lesions touch by a side or a corner


def deliver(
    view: View, probability: np.ndarray, min_size: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the delivered mask of a slice and the probability of infection, both in its size.

    Probabilities are enlarged first and called after: infected where that is likelier than
    background, or of several classes the likeliest; of a tie the first, background above all. What
    a network does not see is background.

    Args:
      view: what the network saw of the slice.
      probability: of infection float32 [h, w], or of K classes, background first, [h, w, K].
      min_size: pixels of the slice; smaller components of the mask are dropped (see
        `remove_small`).

    Returns:
      mask uint8 [H, W] of 0 and 1 (or up to K - 1), probability float32 [H, W] before anything is
      dropped.
    """
    if probability.ndim == 2:
        infection = view.back(probability)
        mask = (infection > 0.5).astype(np.uint8)
    else:
        classes = np.stack([view.back(probability[..., k]) for k in range(probability.shape[-1])])
        mask = classes.argmax(0).astype(np.uint8)  # outside of the view all are 0, so the first
        infection = classes[1:].sum(0)
    return (remove_small(mask[None], min_size)[0] if min_size > 1 else mask), infection


def delivered_rows(
    natives: Sequence[Native],
    probability: np.ndarray,
    keep: set[str],
    min_size: int,
    unit: str = "pixels",
) -> dict[str, Any]:
    """Returns the rows of a batch's slices in their own size, of its probabilities.

    `probability` is [n, h, w], or [n, h, w, K] of K classes.

    "confusion" int64 [n, K, K] where the truth is known; of what `keep` names also "predicted" and
    "pixel_probability", lists of [H, W] each; with "surface" the scores of the outlines of the
    infected region, float64 [n, 2] each, distances in `unit` (mm or pixels of the slice), and those
    of plug-ins, float64 [n]; with "lesions" what `lesion_rows` returns.
    """
    several = probability.shape[-1] if probability.ndim == 4 else 2
    rows: dict[str, list[Any]] = {}

    def add(found: Mapping[str, Any]) -> None:
        for name, value in found.items():
            rows.setdefault(name, []).append(value)

    for native, values in zip(natives, probability, strict=True):
        mask, infection = deliver(native.view, values, min_size)
        add({"predicted": mask} if "predicted" in keep else {})
        add({"pixel_probability": infection} if "pixel_probability" in keep else {})
        if native.truth is None:
            continue
        if "surface" in keep:
            spacing = native.spacing if unit == "mm" else None
            add(mask_rows(native.truth, mask, several, spacing))
        else:
            add({"confusion": confusion_of(native.truth, mask, several)})
        if "lesions" in keep:
            add(lesion_rows(native.view, native.truth, (values.shape[0], values.shape[1])))
    return {
        k: v if k in ("predicted", "pixel_probability") else np.array(v) for k, v in rows.items()
    }


def mask_rows(
    truth: np.ndarray, mask: np.ndarray, classes: int, spacing: tuple[float, float] | None
) -> dict[str, Any]:
    """Returns the rows of one slice: "confusion", outlines in mm or pixels, scores of plug-ins.

    `truth` (255 ignored) and `mask` are uint8 [H, W] of classes below `classes`.
    """
    return {
        "confusion": confusion_of(truth, mask, classes),
        **_of_outlines(truth, mask, spacing),
        **_of_plugins(truth, mask, spacing),
    }


def confusion_of(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts the pixels of every (true, predicted) pair of classes, int64 [K, K], but ignored."""
    true, called = ([mask == k for k in range(classes)] for mask in (truth, predicted))
    return np.array([[np.count_nonzero(a & b) for b in called] for a in true], np.int64)


def lesion_rows(view: View, truth: np.ndarray, size: Shape) -> dict[str, int]:
    """Counts the lesions of a slice whose truth is known, and those that vanish for the network.

    A lesion is a set of infected pixels, of whatever classes, that touch by a side or a corner; it
    vanishes where none of its pixels is left in the truth sampled at `size`, the nearest pixel for
    each of the network's.

    Returns:
      "lesions" and "lesions_lost": how many, and "unseen": infected pixels outside of what the
      network sees.
    """
    sick = infected(truth)
    if not sick.any():
        return {"lesions": 0, "lesions_lost": 0, "unseen": 0}
    components, count = ndimage.label(sick, _TOUCHING)
    left = np.unique(view.truth(components.astype(np.int32), size, outside=0))
    seen = np.count_nonzero(sick[view.box])
    return {
        "lesions": count,
        "lesions_lost": count - int(np.count_nonzero(left)),
        "unseen": int(np.count_nonzero(sick) - seen),
    }


def _of_outlines(
    truth: np.ndarray, mask: np.ndarray, spacing: tuple[float, float] | None
) -> dict[str, Any]:
    either = np.where(infected(truth), 1, truth)
    scores = surface_scores(either[None], (mask > 0)[None].astype(np.uint8), spacing=spacing)
    return {name: values[0] for name, values in scores.items()}


def _of_plugins(
    truth: np.ndarray, mask: np.ndarray, spacing: tuple[float, float] | None
) -> dict[str, float]:
    return {
        ROW + score.name: own_value(score, truth, mask, spacing)
        for score in registered("segmenter")
    }
