"""How much of slices and scans is infected: the lines of predictions.csv and scans.csv."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from covjax.data.lungs import lung_field
from covjax.data.screened import Scan
from covjax.framework.screener import Screened

SLICE_COLUMNS = (
    "id", "scan", "slice", "file", "probability_infected", "called_infected", "infected_pixels", "infected_share",
    "infected_mm2", "extent_mm", "infected_share_of_lung", "mask",
)  # fmt: skip
SCAN_COLUMNS = (
    "scan", "file", "values", "window", "slices", "called_infected", "highest_probability", "spacing_mm", "infected_ml",
    "lung_ml", "infected_share_of_lung", "mask", "notes",
)  # fmt: skip

Line = dict[str, Any]
Window = tuple[float, float] | None  # centre and width in HU; None: values as they are


def count_pixels(mask: np.ndarray, image: np.ndarray) -> dict[str, int]:
    """Counts the pixels of infection, of lung, and of either; all but infection 0 where no lung is found."""
    lungs = lung_field(image)
    either = int((lungs | (mask > 0)).sum()) if lungs.any() else 0
    return {"infected": int((mask > 0).sum()), "lung": int(lungs.sum()), "either": either}


def share_of_lung(counts: dict[str, float]) -> float | None:
    """Infected share of the lung: dense infection at the chest wall, which the lung field misses, is lung too."""
    return min(1.0, counts["infected"] / counts["either"]) if counts["either"] else None


def voxel_size(scan: Scan, index: int) -> float:
    """Returns the mm3 of a voxel of slice `index`; 1 where its spacing is not known."""
    return (scan.volume and scan.volume.voxel_mm3(index)) or 1.0


def slice_line(scan: Scan, index: int, found: Screened) -> Line:
    """Returns what is known of slice `index` of a scan, areas in mm2 where its spacing is known.

    The sum of areas times extents, mm along the normal of the slices, is the volume.
    """
    spacing = scan.volume.spacing if scan.volume else None
    pixels = None if found.mask is None else int((found.mask > 0).sum())
    return {
        "id": scan.ids[index],
        "scan": scan.name,
        "slice": index,
        "file": (scan.path if scan.volume else scan.files[index]).name,
        "probability_infected": found.probability,
        "called_infected": int(found.infected),
        "infected_pixels": pixels,
        "infected_share": found.share,
        "infected_mm2": None if spacing is None or pixels is None else pixels * spacing[1] * spacing[2],
        "extent_mm": scan.volume.extents[index] if spacing else None,
    }


def scan_line(scan: Scan, window: Window, lines: Sequence[Line], sums: dict[str, float] | None) -> Line:
    """Sums up the lines of a scan's slices and its `sums` (`count_pixels` times `voxel_size`; None: no segmenter)."""
    spacing = scan.volume.spacing if scan.volume else None
    ml = 0.001 if spacing and sums else None
    probabilities = [line["probability_infected"] for line in lines]
    return {
        "scan": scan.name,
        "file": scan.path.name,
        "values": scan.intensity,
        "window": ",".join(f"{part:g}" for part in window) if window else "as_is",
        "slices": len(lines),
        "called_infected": sum(line["called_infected"] for line in lines),
        "highest_probability": max(probabilities) if lines and probabilities[0] is not None else None,
        "spacing_mm": "x".join(f"{side:g}" for side in spacing) if spacing else None,
        "infected_ml": sums["infected"] * ml if ml else None,
        "lung_ml": sums["lung"] * ml if ml and sums["lung"] else None,
        "infected_share_of_lung": share_of_lung(sums) if sums else None,
    }
