"""Scores of masks as they are: two arrays, or a list of masks of several sizes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from covjax.errors import InputError
from covjax.metrics.checks import as_array, check_labels, check_names
from covjax.metrics.segmentation import infection_scores, surface_summary
from covjax.metrics.surface import surface_scores
from covjax.ops.checks import check_count

TWO = ("background", "infected")
IGNORED = 255  # of `surface_scores`


def mask_scores(
    truth: Any,
    predicted: Any,
    classes: Sequence[str] = TWO,
    *,
    ignore: int | None = None,
    patients: Sequence[str] | None = None,
) -> dict[str, dict]:
    """Scores of predicted masks against true ones: overlap of every class, and boundaries of all
    that is marked.

    Args:
      truth: masks [N, H, W], one mask [H, W], or a list of masks [H, W] of any sizes. Of two classes: truths, 0 and 1,
        or 0 and 255; of more: class numbers, the background 0. Floating-point masks hold whole numbers.
      predicted: as many masks of the same sizes.
      classes: names of the K classes, the background first.
      ignore: true label whose pixels are left out; None: every pixel counts.
      patients: [N], the patient of every mask, "" where unknown. None: no intervals.

    Returns:
      name -> score (see `score`): what `infection_scores` and `surface_summary` return. Distances are in pixels.

    Raises:
      InputError: the masks differ in number or size, are none (probabilities, NaN, colours), or hold other labels;
        classes are not two or more distinct names; patients are not N.
    """
    classes = tuple(classes) if isinstance(classes, list) else classes
    check_names(classes, max(2, len(classes)) if isinstance(classes, tuple) else 2)
    if ignore is not None:
        check_count("ignore", ignore, 0, "the label of pixels to leave out, or None")
    truths, found = (
        _listed(name, masks) for name, masks in (("truth", truth), ("predicted", predicted))
    )
    if len(truths) != len(found):
        raise InputError(
            f"truth: {len(truths)} masks, predicted: {len(found)}, give as many of both"
        )
    for k, (mask, other) in enumerate(zip(truths, found, strict=True)):
        if mask.shape != other.shape:
            raise InputError(
                f"truth[{k}]: {mask.shape}, predicted[{k}]: {other.shape}, give masks of the same size"
            )
    counted = [
        mask != ignore if ignore is not None else np.ones(mask.shape, bool) for mask in truths
    ]
    truths = _labels("truth", truths, len(classes), counted)
    found = _labels("predicted", found, len(classes), counted)
    confusions = np.zeros((len(truths), len(classes), len(classes)), np.int64)
    surfaces = []
    for k, (mask, other, here) in enumerate(zip(truths, found, counted, strict=True)):
        cells = np.bincount(len(classes) * mask[here] + other[here], minlength=len(classes) ** 2)
        confusions[k] = cells.reshape(len(classes), len(classes))
        surfaces.append(
            surface_scores(np.where(here, mask > 0, IGNORED)[None], (here & (other > 0))[None])
        )
    scores = infection_scores(confusions, classes, patients)
    if not surfaces:
        return scores
    joined = {name: np.concatenate([one[name] for one in surfaces]) for name in surfaces[0]}
    return scores | surface_summary(joined, TWO, patients)


def _listed(name: str, masks: Any) -> list[np.ndarray]:
    """Returns masks [H, W] of whole numbers."""
    if isinstance(masks, list | tuple) and all(
        np.ndim(one) == 2 for one in masks if not isinstance(one, list)
    ):
        parts = [as_array(f"{name}[{k}]", one, "a mask [H, W]") for k, one in enumerate(masks)]
    else:
        array = as_array(name, masks, "masks [N, H, W], one [H, W], or a list of them")
        parts = [array] if array.ndim == 2 else list(array) if array.ndim == 3 else [array]
    whole = []
    for k, mask in enumerate(parts):
        if mask.ndim != 2 or not mask.size:
            raise InputError(
                f"{name}[{k}]: shape {mask.shape}, a mask is [H, W], give [N, H, W] or a list of masks"
            )
        if mask.dtype.kind == "f":
            if not (np.isfinite(mask) & (mask == np.rint(mask))).all():
                raise InputError(
                    f"{name}[{k}]: {mask.dtype} values are no labels, compare them first (mask >= 0.5)"
                )
            mask = mask.astype(np.int64)
        whole.append(mask)
    return whole


def _labels(
    name: str, masks: list[np.ndarray], num_classes: int, counted: list[np.ndarray]
) -> list[np.ndarray]:
    """Returns masks as class numbers int64; 0 and 255 are those of two classes. What is not counted
    becomes 0.
    """
    masks = [
        np.where(here, mask, 0).astype(np.int64) for mask, here in zip(masks, counted, strict=True)
    ]
    if num_classes == 2 and all(np.isin(mask, (0, 255)).all() for mask in masks):
        masks = [mask // 255 for mask in masks]
    hint = (
        " or 0 and 255, e.g. mask > 0" if num_classes == 2 else " and name each of them in classes"
    )
    for k, mask in enumerate(masks):
        check_labels(f"{name}[{k}]", mask, num_classes, np.ones(mask.shape, bool), hint)
    return masks
