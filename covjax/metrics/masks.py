"""Scores of masks as they are: two arrays, or a list of masks of several sizes."""

from collections.abc import Sequence
from typing import Any, TypeGuard, cast

import numpy as np

from covjax.errors import InputError
from covjax.metrics.checks import (
    Bools,
    Floats,
    Integers,
    Numbers,
    as_array,
    check_labels,
    check_names,
)
from covjax.metrics.outlines import surface_summary
from covjax.metrics.segmentation import infection_scores
from covjax.metrics.surface import IGNORE, surface_scores
from covjax.ops.checks import check_count

TWO = ("background", "infected")


def mask_scores(
    truth: Any,
    predicted: Any,
    classes: Sequence[str] = TWO,
    *,
    ignore: int | None = None,
    patients: Sequence[str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Scores of predicted masks: overlap of every class, and boundaries of all that is marked.

    Args:
      truth: masks [N, H, W], one mask [H, W], or a list of masks [H, W] of any sizes. Of two
        classes: truths, 0 and 1, or 0 and 255; of more: class numbers, the background 0.
        Floating-point masks hold whole numbers.
      predicted: as many masks of the same sizes.
      classes: names of the K classes, the background first.
      ignore: true label whose pixels are left out; None: every pixel counts.
      patients: [N], the patient of every mask, "" where unknown. None: no intervals.

    Returns:
      name -> score (see `score`): what `infection_scores` and `surface_summary` return. Distances
      are in pixels.

    Raises:
      InputError: the masks differ in number or size, are none (probabilities, NaN, colours), or
        hold other labels; classes are not two or more distinct names; patients are not N.
    """
    classes = tuple(classes) if isinstance(classes, list) else classes
    k = max(2, len(classes)) if isinstance(classes, tuple) else 2
    check_names(classes, k)
    if ignore is not None:
        check_count("ignore", ignore, 0, "the label of pixels to leave out, or None")
    truths = _masks("truth", truth)
    found = _masks("predicted", predicted)
    if len(truths) != len(found):
        raise InputError(
            f"truth: {len(truths)} masks, predicted: {len(found)}, give as many of both"
        )
    for i, (mask, other) in enumerate(zip(truths, found, strict=True)):
        if mask.shape != other.shape:
            raise InputError(
                f"truth[{i}]: {mask.shape}, predicted[{i}]: {other.shape}, "
                "give masks of the same size"
            )
    counted = [np.ones(mask.shape, bool) if ignore is None else mask != ignore for mask in truths]
    truths = _labels("truth", truths, k, counted)
    found = _labels("predicted", found, k, counted)
    confusions = np.zeros((len(truths), k, k), np.int64)
    surfaces: list[dict[str, Floats]] = []
    for i, (mask, other, here) in enumerate(zip(truths, found, counted, strict=True)):
        confusions[i] = np.bincount(k * mask[here] + other[here], minlength=k * k).reshape(k, k)
        marked = np.where(here, mask > 0, IGNORE)
        surfaces.append(surface_scores(marked[None], (here & (other > 0))[None]))
    scores = infection_scores(confusions, classes, patients)
    if not surfaces:
        return scores
    joined = {name: np.concatenate([one[name] for one in surfaces]) for name in surfaces[0]}
    return scores | surface_summary(joined, TWO, patients)


def _masks(name: str, masks: Any) -> list[Numbers]:
    """Returns masks [H, W] of whole numbers."""
    if _is_listed(masks):
        parts = [as_array(f"{name}[{k}]", one, "a mask [H, W]") for k, one in enumerate(masks)]
    else:
        array = as_array(name, masks, "masks [N, H, W], one [H, W], or a list of them")
        parts = list(array) if array.ndim == 3 else [array]
    for k, mask in enumerate(parts):
        if mask.ndim != 2 or not mask.size:
            raise InputError(
                f"{name}[{k}]: shape {mask.shape}, a mask is [H, W], "
                "give [N, H, W] or a list of masks"
            )
        if mask.dtype.kind == "f" and not (np.isfinite(mask) & (mask == np.rint(mask))).all():
            raise InputError(
                f"{name}[{k}]: {mask.dtype} values are no labels, compare them first (mask >= 0.5)"
            )
    return parts


def _is_listed(masks: Any) -> TypeGuard[Sequence[Any]]:
    """Whether they are a list of masks, and not one mask as nested lists."""
    if not isinstance(masks, list | tuple):
        return False
    each = cast("Sequence[Any]", masks)
    return all(np.ndim(one) == 2 for one in each if not isinstance(one, list))


def _labels(
    name: str, masks: list[Numbers], num_classes: int, counted: list[Bools]
) -> list[Integers]:
    """Returns masks as class numbers; 0 and 255 are those of two classes.

    What is not counted becomes 0.
    """
    labels = [
        np.where(here, mask, 0).astype(np.int64) for mask, here in zip(masks, counted, strict=True)
    ]
    hint = " and name each of them in classes"
    if num_classes == 2:
        hint = " or 0 and 255, e.g. mask > 0"
        if all(np.isin(mask, (0, 255)).all() for mask in labels):
            labels = [mask // 255 for mask in labels]
    for k, mask in enumerate(labels):
        check_labels(f"{name}[{k}]", mask, num_classes, np.ones(mask.shape, bool), hint)
    return labels
