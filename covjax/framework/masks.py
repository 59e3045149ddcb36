"""Masks of screened slices: drawn over the slice, measured class by class."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from covjax.colours import COLOURS, rgb


def overlay(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draws the contours of a mask [H, W] over its slice uint8 [H, W], each class in its colour: uint8 [H, W, 3]."""
    picture = np.repeat(image[..., None], 3, -1)
    for k in range(1, int(mask.max(initial=0)) + 1):
        padded = np.pad(mask == k, 1)
        inside = padded[1:-1, 1:-1]
        eroded = inside & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        picture[inside & ~eroded] = rgb(COLOURS[k - 1])
    return picture


def slice_columns(classes: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns of predictions.csv that classes of infection add."""
    return tuple(f"{name}_{unit}" for name in classes for unit in ("pixels", "mm2"))


def scan_columns(classes: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns of scans.csv that classes of infection add."""
    return tuple(f"{name}_ml" for name in classes)


def class_areas(mask: np.ndarray, classes: Sequence[str], spacing: Sequence[float] | None) -> dict[str, Any]:
    """Returns the columns of a slice: pixels of each class in its mask, and mm2 if `spacing` (3 axes) is known."""
    found: dict[str, Any] = {}
    for k, name in enumerate(classes, start=1):
        found[f"{name}_pixels"] = pixels = int((mask == k).sum())
        found[f"{name}_mm2"] = None if spacing is None else pixels * spacing[1] * spacing[2]
    return found


def class_volumes(
    slices: Sequence[dict[str, Any]], classes: Sequence[str], spacing: Sequence[float] | None
) -> dict[str, Any]:
    """Returns the columns of a scan from those of its slices: ml of each class, None where `spacing` is not known."""
    ml = None if spacing is None else np.prod(spacing) / 1000
    return {
        f"{name}_ml": None if ml is None else sum(line[f"{name}_pixels"] for line in slices) * ml for name in classes
    }
