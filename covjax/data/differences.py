"""How far two sets of slices are apart: sizes, grey values, prevalence."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import wasserstein_distance

from covjax.data.prepared.dataset import Prepared

LOOKED_AT = 200  # slices of a set whose grey values are read, evenly over it
GREY = np.arange(256)


@dataclass(frozen=True)
class Described:
    """What is known of a set of slices."""

    facts: dict[str, Any]  # for a table; null where unknown
    greys: np.ndarray  # float64 [256], share of pixels of each grey value, in the network's window


def describe(data: Prepared, indices: np.ndarray) -> Described:
    """Returns sizes, grey values and prevalence of the slices at `indices` [N]."""
    some = indices[np.linspace(0, len(indices) - 1, min(len(indices), LOOKED_AT)).astype(int)]
    counts = sum(np.bincount(data.decode(i)[0].ravel(), minlength=256) for i in some)
    greys = counts / np.sum(counts)
    low, median, high = np.searchsorted(np.cumsum(greys), [0.05, 0.5, 0.95])
    mean = float(greys @ GREY)
    shapes = np.array([data.shapes[i] for i in indices])
    spacings = [data.spacings[i] for i in indices]
    known = [spacing for spacing in spacings if spacing is not None]
    marked = indices[data.has_mask[indices] & (data.labels[indices] == 1)]
    shares = data.infected_pixels[marked] / np.maximum(data.counted_pixels[marked], 1)
    facts = {
        "slices": len(indices),
        "patients": len({data.patients[i] for i in indices} - {""}) or None,
        "infected_slices_share": float(data.labels[indices].mean()),
        "infected_pixels_share_median": float(np.median(shares)) if len(shares) else None,
        "rows_median": float(np.median(shapes[:, 0])),
        "columns_median": float(np.median(shapes[:, 1])),
        "spacing_mm_median": float(np.median(known)) if len(known) == len(spacings) else None,
        "grey_mean": mean,
        "grey_sd": float(np.sqrt(greys @ (GREY - mean) ** 2)),
        "grey_5_percent": int(low),
        "grey_median": int(median),
        "grey_95_percent": int(high),
    }
    return Described(facts, greys)


def grey_distance(one: Described, other: Described) -> float:
    """Returns by how many grey values of 0..255 pixels differ on average (Wasserstein distance)."""
    return float(wasserstein_distance(GREY, GREY, one.greys, other.greys))
