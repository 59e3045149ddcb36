"""How much of slices and scans is infected: the lines of predictions.csv and scans.csv."""

from collections.abc import Sequence
from typing import Any

from covjax.screening.inputs import Scan
from covjax.screening.lungs import share_of_lung
from covjax.screening.screener import Screened

SLICE_COLUMNS = (
    "id", "scan", "slice", "file", "probability_infected", "called_infected", "infected_pixels", "infected_share",
    "infected_mm2", "extent_mm", "infected_outside_lung_pixels", "infected_share_of_lung", "mask",
)  # fmt: skip
SCAN_COLUMNS = (
    "scan", "file", "values", "window", "slices", "called_infected", "highest_probability", "spacing_mm", "infected_ml",
    "infected_outside_lung_ml", "lung_ml", "infected_share_of_lung", "mask", "notes",
)  # fmt: skip

Line = dict[str, Any]
Window = tuple[float, float] | None  # centre and width in HU; None: values as they are


def voxel_size(scan: Scan, index: int) -> float:
    """Returns the mm3 of a voxel of slice `index`; 1 where its spacing is not known."""
    return (scan.volume and scan.volume.voxel_mm3(index)) or 1.0


def slice_line(scan: Scan, index: int, found: Screened) -> Line:
    """Returns what is known of slice `index` of a scan, areas in mm2 where its spacing is known.

    The mask of `found` is without what lies outside the lung. The sum of areas times extents, mm
    along the normal of the slices, is the volume.
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
        "infected_share": None if found.mask is None else float((found.mask > 0).mean()),
        "infected_mm2": None
        if spacing is None or pixels is None
        else pixels * spacing[1] * spacing[2],
        "extent_mm": scan.volume.extents[index] if spacing else None,
    }


def scan_line(
    scan: Scan, window: Window, lines: Sequence[Line], sums: dict[str, float] | None
) -> Line:
    """Sums up the lines of a scan's slices and its `sums` (pixels times `voxel_size`; None: no
    segmenter).
    """
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
        "highest_probability": max(probabilities)
        if lines and probabilities[0] is not None
        else None,
        "spacing_mm": "x".join(f"{side:g}" for side in spacing) if spacing else None,
        "infected_ml": sums["infected"] * ml if ml else None,
        "infected_outside_lung_ml": sums["outside"] * ml if ml and sums["lung"] else None,
        "lung_ml": sums["lung"] * ml if ml and sums["lung"] else None,
        "infected_share_of_lung": share_of_lung(sums) if sums else None,
    }
