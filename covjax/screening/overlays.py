"""Masks of screened slices: drawn over the slice, measured class by class."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from covjax.colours import COLOURS, rgb
from covjax.data.formats.geometry import is_sheared
from covjax.data.formats.volumes import Volume

SHEARED_DICOM = (
    "the scan is sheared, as by a tilted gantry, and so is its mask: viewers and tools based on "
    "ITK (ITK-SNAP, SimpleITK) refuse such a NIfTI mask; with --masks=dicom_seg it is one that "
    "they show over the scan"
)
SHEARED_NIFTI = (
    "the scan is sheared, as by a tilted gantry, and so is its mask: viewers and tools based on "
    "ITK (ITK-SNAP, SimpleITK) refuse both; FSLeyes, MRIcroGL and nibabel read them, or screen "
    "the DICOM scan with --masks=dicom_seg"
)


def overlay(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draws the contours of a mask over its slice uint8 [H, W]: uint8 [H, W, 3].

    Each class has its colour.
    """
    picture = np.repeat(image[..., None], 3, -1)
    for k in range(1, int(mask.max(initial=0)) + 1):
        padded = np.pad(mask == k, 1)
        inside = padded[1:-1, 1:-1]
        eroded = (
            inside & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        )
        picture[inside & ~eroded] = rgb(COLOURS[k - 1])
    return picture


def slice_columns(classes: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns of predictions.csv that classes of infection add."""
    return tuple(f"{name}_{unit}" for name in classes for unit in ("pixels", "mm2"))


def scan_columns(classes: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns of scans.csv that classes of infection add."""
    return tuple(f"{name}_ml" for name in classes)


def class_areas(
    mask: np.ndarray, classes: Sequence[str], spacing: Sequence[float] | None
) -> dict[str, Any]:
    """Returns pixels of each class in a slice's mask, and mm2 if `spacing` (3 axes) is known."""
    found: dict[str, Any] = {}
    for k, name in enumerate(classes, start=1):
        pixels = int((mask == k).sum())
        found[f"{name}_pixels"] = pixels
        found[f"{name}_mm2"] = None if spacing is None else pixels * spacing[1] * spacing[2]
    return found


def class_volumes(slices: Sequence[dict[str, Any]], classes: Sequence[str]) -> dict[str, Any]:
    """Returns ml of each class from the lines of a scan's slices, None where sizes are unknown."""
    known = all(line["extent_mm"] is not None for line in slices)
    return {
        f"{name}_ml": sum(line[f"{name}_mm2"] * line["extent_mm"] for line in slices) / 1000
        if known
        else None
        for name in classes
    }


def mask_notes(volume: Volume, files: int, segmentation: bool) -> list[str]:
    """Returns notes on a volume's mask in so many files, a DICOM segmentation or NIfTI."""
    notes = []
    grids = volume.grids
    gaps = any(len(grid.places) < grid.geometry.shape[2] for grid in grids) and bool(volume.frames)
    if gaps or len(grids) > 1:
        notes.append("ml counts each slice with the smaller distance to its neighbours")
    if segmentation:
        return notes
    if gaps:
        notes.append("the mask has empty slices where the scan has none")
    if files > 1:
        notes.append(f"the mask is in {files} files, one for each run of evenly spaced slices")
    if any(is_sheared(grid.geometry) for grid in grids):
        notes.append(SHEARED_DICOM if volume.frames else SHEARED_NIFTI)
    return notes
