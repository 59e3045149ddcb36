"""How much of slices and scans is infected: the lines of predictions.csv and scans.csv."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from covjax.screening.inputs import Scan
from covjax.screening.lungs import share_of_lung
from covjax.screening.screener import ScreenedSlice

SLICE_COLUMNS = (
    "id", "scan", "slice", "file", "probability_infected", "called_infected", "infected_pixels",
    "infected_share", "infected_mm2", "extent_mm", "infected_outside_lung_pixels",
    "infected_share_of_lung", "mask",
)  # fmt: skip
SCAN_COLUMNS = (
    "scan", "file", "values", "window", "slices", "called_infected", "highest_probability",
    "spacing_mm", "infected_ml", "infected_outside_lung_ml", "lung_ml", "infected_share_of_lung",
    "mask", "notes",
)  # fmt: skip

Line = dict[str, Any]
Window = tuple[float, float] | None  # centre and width in HU; None: values as they are


def voxel_size(scan: Scan, index: int) -> float:
    """Returns the mm3 of a voxel of slice `index`; 1 where its spacing is not known."""
    size = scan.volume.voxel_mm3(index) if scan.volume else None
    return size or 1.0


def slice_line(scan: Scan, index: int, found: ScreenedSlice) -> Line:
    """Returns what is known of slice `index` of a scan but for its mask.

    The sum of areas times extents, mm along the normal of the slices, is the volume.
    """
    volume = scan.volume
    return {
        "id": scan.ids[index],
        "scan": scan.name,
        "slice": index,
        "file": (scan.path if volume else scan.files[index]).name,
        "probability_infected": found.probability,
        "called_infected": int(found.infected),
        "extent_mm": volume.extents[index] if volume and volume.extents else None,
    }


def mask_columns(scan: Scan, mask: np.ndarray, counts: Mapping[str, int]) -> Line:
    """Returns what the mask of a slice says, areas in mm2 where the spacing is known.

    `mask` is without what lies outside the lung, of which `counts` are (`divide_infection`).
    """
    pixels = int((mask > 0).sum())
    spacing = scan.spacing
    return {
        "infected_pixels": pixels,
        "infected_share": float((mask > 0).mean()),
        "infected_mm2": None if spacing is None else pixels * spacing[1] * spacing[2],
        "infected_outside_lung_pixels": counts["outside"],
        "infected_share_of_lung": share_of_lung(counts),
    }


def scan_line(
    scan: Scan, window: Window, lines: Sequence[Line], sums: Mapping[str, float] | None
) -> Line:
    """Sums up the lines of a scan's slices.

    `sums` are pixels times `voxel_size` by COUNTS, None without a segmenter.
    """
    spacing = scan.spacing
    probabilities = [line["probability_infected"] for line in lines]
    line: Line = {
        "scan": scan.name,
        "file": scan.path.name,
        "values": scan.intensity,
        "window": ",".join(f"{part:g}" for part in window) if window else "as_is",
        "slices": len(lines),
        "called_infected": sum(line["called_infected"] for line in lines),
        "highest_probability": None if None in probabilities else max(probabilities, default=None),
        "spacing_mm": "x".join(f"{side:g}" for side in spacing) if spacing else None,
    }
    if sums is not None:
        line["infected_share_of_lung"] = share_of_lung(sums)
        if spacing is not None:
            line["infected_ml"] = sums["infected"] * 0.001
            if sums["lung"]:
                line["infected_outside_lung_ml"] = sums["outside"] * 0.001
                line["lung_ml"] = sums["lung"] * 0.001
    return line
