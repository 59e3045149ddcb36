"""Where the lungs of a scan are, and which of the marked infection lies in them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from covjax.data.lungs.fields import lungs_and_chest
from covjax.data.lungs.thorax import Thorax, find_thorax
from covjax.screening.inputs import Scan

COUNTS = ("infected", "outside", "in_lung", "lung")  # see `divide_infection`
NOTED = 0.05  # share of all that is marked: more of it outside the lung is noted


class Lungs(NamedTuple):
    """The lungs of a scan: of a volume estimated from all its slices, of pictures one by one."""

    thorax: Thorax | None  # None: of pictures

    def divide(
        self, index: int, image: np.ndarray, mask: np.ndarray
    ) -> tuple[np.ndarray, dict[str, int]]:
        """Divides the mask [H, W] of slice `index`, whose picture is `image` uint8 [H, W].

        As `divide_infection` does.
        """
        if self.thorax is None:
            return divide_infection(mask, *lungs_and_chest(image), known=False)
        return divide_infection(mask, *self.thorax.slice(index), known=self.thorax.found)

    @property
    def notes(self) -> tuple[str, ...]:
        """Returns what the estimate could not decide."""
        return self.thorax.notes if self.thorax else ()


def find_lungs(scan: Scan) -> Lungs:
    """Estimates the lungs of a scan; a volume is read once for it. Raises InputError."""
    volume = scan.volume
    if volume is None:
        return Lungs(None)
    return Lungs(find_thorax(scan.read, volume.shape, volume.spacing, scan.intensity))


def divide_infection(
    mask: np.ndarray, lungs: np.ndarray, chest: np.ndarray, known: bool
) -> tuple[np.ndarray, dict[str, int]]:
    """Divides a mask [H, W] into what lies in the lung and outside it.

    Args:
      mask: 0, or the class of infection.
      lungs: bool [H, W], air and small lesions.
      chest: bool [H, W], where infection belongs to the lung.
      known: whether an empty chest means that there is no lung here, as in a slice below the
        lungs of a volume; else none was found.

    Returns:
      The mask without what lies outside the lung (all of it where no lungs are known), and pixels
      by COUNTS: `infected` of it, `outside` of the rest, `in_lung` of infection where the lung is
      known, `lung`, air and that infection together.
    """
    marked = mask > 0
    if not chest.any() and not known:
        return mask, {"infected": int(marked.sum()), "outside": 0, "in_lung": 0, "lung": 0}
    inside = marked & chest
    counts = {"infected": int(inside.sum()), "outside": int(marked.sum() - inside.sum())}
    counts |= {"in_lung": counts["infected"], "lung": int((lungs | inside).sum())}
    return np.where(chest, mask, 0).astype(mask.dtype), counts


def share_of_lung(counts: Mapping[str, float]) -> float | None:
    """Returns infection in the lung as a share of the lung; None where no lung is known."""
    return counts["in_lung"] / counts["lung"] if counts["lung"] else None


def lung_notes(scan: Scan, lungs: Lungs, sums: Mapping[str, float], without: int) -> list[str]:
    """Returns what is to be said of a scan's lungs and of infection outside them.

    Args:
      scan: of which all is.
      lungs: of the scan.
      sums: by COUNTS, over all slices, in mm3, or in pixels where the size of a voxel is unknown.
      without: number of slices in which no lungs were found.
    """
    notes = list(lungs.notes)
    if scan.volume is None and without:
        notes.append(
            f"no lungs were found in {without} of {len(scan)} pictures: their share of the lung "
            "is unknown"
        )
    marked = sums["infected"] + sums["outside"]
    if sums["outside"] > NOTED * marked:
        outside = sums["outside"]
        ml = outside / 1000
        digits = ".0f" if ml >= 100 else ".3g"
        amount = f"{ml:{digits}} ml" if scan.spacing else f"{outside:.0f} pixels"
        share = outside / marked
        notes.append(
            f"{amount} ({share:.0%}) of what is marked lie outside the lung and are counted apart"
        )
    return notes
