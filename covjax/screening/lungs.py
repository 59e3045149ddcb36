"""Where the lungs of a scan's slices are, and which of the infection that is marked lies in
them.
"""

from typing import NamedTuple

import numpy as np

from covjax.data.lungs.fields import lungs_and_chest
from covjax.data.lungs.thorax import Thorax, find_thorax
from covjax.screening.inputs import Scan

PARTS = ("infected", "outside", "in_lung", "lung")  # what is counted, see divide_infection
SAID = 0.05  # share of all that is marked: more of it outside the lung is said in the notes


class Lungs(NamedTuple):
    """The lungs of a scan: of a volume estimated from all its slices, of pictures one by one."""

    thorax: Thorax | None  # None: of pictures

    def divide(
        self, index: int, image: np.ndarray, mask: np.ndarray
    ) -> tuple[np.ndarray, dict[str, int]]:
        """Divides the mask [H, W] of slice `index`, whose picture is uint8 [H, W], as
        `divide_infection` does.
        """
        if self.thorax is None:
            return divide_infection(mask, *lungs_and_chest(image), known=False)
        return divide_infection(mask, *self.thorax.slice(index), known=self.thorax.found)

    @property
    def notes(self) -> tuple[str, ...]:
        """Returns what the estimate could not decide."""
        return self.thorax.notes if self.thorax else ()


def find_lungs(scan: Scan) -> Lungs:
    """Estimates the lungs of a scan; a volume is read once for it. Raises InputError if that
    fails.
    """
    volume = scan.volume
    return Lungs(
        find_thorax(scan.read, volume.shape, volume.spacing, scan.intensity) if volume else None
    )


def divide_infection(
    mask: np.ndarray, lungs: np.ndarray, chest: np.ndarray, known: bool
) -> tuple[np.ndarray, dict[str, int]]:
    """Divides a mask [H, W] into what lies in the lung and outside it.

    Args:
      mask: 0, or the class of infection.
      lungs: bool [H, W], air and small lesions.
      chest: bool [H, W], where infection belongs to the lung.
      known: whether an empty chest means that there is no lung here, as in a slice below the lungs of a volume; else
        none was found.

    Returns:
      The mask without what lies outside the lung (all of it where no lungs are known), and pixels: `infected` of it,
      `outside` of the rest, `in_lung` of infection where the lung is known, `lung`, air and that infection together.
    """
    marked = mask > 0
    if not chest.any() and not known:
        return mask, {"infected": int(marked.sum()), "outside": 0, "in_lung": 0, "lung": 0}
    inside = marked & chest
    counts = {"infected": int(inside.sum()), "outside": int(marked.sum() - inside.sum())}
    counts |= {"in_lung": counts["infected"], "lung": int((lungs | inside).sum())}
    return np.where(chest, mask, 0).astype(mask.dtype), counts


def share_of_lung(counts: dict[str, float]) -> float | None:
    """Returns infection in the lung as a share of the lung; None where there is none or it is not
    known.
    """
    return counts["in_lung"] / counts["lung"] if counts["lung"] else None


def lung_notes(scan: Scan, lungs: Lungs, sums: dict[str, float], without: int) -> list[str]:
    """Returns what is to be said of a scan's lungs and of infection outside them.

    Args:
      scan: of which `sums` are the counts of all slices, in mm3, or in pixels where the size of a voxel is not known.
      lungs: of the scan.
      sums: by PARTS.
      without: number of slices in which no lungs were found.
    """
    notes = list(lungs.notes)
    if scan.volume is None and without:
        notes.append(
            f"no lungs were found in {without} of {len(scan)} pictures: their share of the lung is unknown"
        )
    marked = sums["infected"] + sums["outside"]
    if sums["outside"] > SAID * marked:
        known = scan.volume is not None and scan.volume.spacing is not None
        amount = f"{sums['outside'] / 1000:.3g} ml" if known else f"{sums['outside']:.0f} pixels"
        share = sums["outside"] / marked
        notes.append(
            f"{amount} ({share:.0%}) of what is marked lie outside the lung and are counted apart"
        )
    return notes
