"""Label volumes: read slice by slice as their images."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from covjax.data.formats.alignment import align
from covjax.data.formats.damage import reading
from covjax.data.formats.geometry import canonical
from covjax.data.formats.nifti import open_labels
from covjax.data.formats.volumes import Volume
from covjax.errors import InputError

# by which a number may miss the whole number that it is: a slope of 1/255 makes 1.00000006 of 255
NEARLY = 1e-3
UNMARKED = 0.05  # share of a volume whose voxels may have no mask where the background has one


def label_notes(
    path: Path, volume: Volume, by: str = "file", name: str = "mask"
) -> tuple[str, ...]:
    """Returns what is uncertain about the place of labels, which notes call `name`."""
    notes = align(path, open_labels(path).geometry, volume, by).notes
    return tuple(note.replace("its mask", f"its {name}") for note in notes)


def read_labels(path: Path, volume: Volume, index: int, by: str = "file") -> np.ndarray:
    """Reads slice `index` of the label volume that belongs to `volume`: numbers [rows, columns].

    A fourth axis holds one binary mask per class, background first or left out, which the whole
    volume decides; no voxel may be in two. `by` is one of alignment.GEOMETRIES. Raises
    InputError naming the file when labels and image contradict each other, values are no whole
    numbers, or it is not clear whether the background has a mask.
    """
    labels = open_labels(path)
    geometry, places, _ = align(path, labels.geometry, volume, by)
    with reading(path):
        classes = [
            canonical(labels.stored[..., c], geometry) for c in range(labels.stored.shape[3])
        ]
        planes = labels.numbers(np.stack([one[places[index]] for one in classes]))
    nearest = np.rint(planes)
    whole = np.isfinite(planes) & (nearest >= 0) & (np.abs(planes - nearest) <= NEARLY)
    if not whole.all():
        raise InputError(
            f"{path}: slice {index} holds values that are no whole numbers from 0, it is no mask"
        )
    if len(planes) == 1:
        return nearest[0].astype(np.int64)
    marked = nearest > 0
    state = path.stat()
    background = _background_first(path, (state.st_size, state.st_mtime_ns))
    if (marked.sum(0) > 1).any():
        raise InputError(
            f"{path}: slice {index} has voxels in several of its {len(planes)} masks, so their "
            "class is not clear; save one volume of class numbers, 0 for the background"
        )
    return marked.argmax(0) if background else np.where(marked.any(0), marked.argmax(0) + 1, 0)


@lru_cache(maxsize=64)
def _background_first(path: Path, state: tuple[int, int]) -> bool:
    """Returns whether the first mask on the fourth axis is the background's.

    It is where it covers most voxels and shares none with the other masks, which leave next to none
    unmarked. Raises InputError where that is not clear.
    """
    labels = open_labels(path)
    stored = labels.stored
    voxels = int(np.prod(stored.shape[:3]))
    first = shared = unmarked = 0
    with reading(path):
        for k in range(stored.shape[2]):
            marked = np.rint(labels.numbers(stored[:, :, k])) > 0
            others = marked[..., 1:].any(-1)
            first += int(marked[..., 0].sum())
            shared += int((marked[..., 0] & others).sum())
            unmarked += int((~marked[..., 0] & ~others).sum())
    if first <= voxels / 2 and (shared or unmarked):
        return False
    if first > voxels / 2 and not shared and unmarked <= UNMARKED * voxels:
        return True
    raise InputError(
        f"{path}: whether the first of its {stored.shape[3]} masks is the background is not clear: "
        f"it marks {first / voxels:.0%} of the voxels, {shared} of them with another mask, and "
        f"{unmarked / voxels:.0%} are not marked at all; save one volume of class numbers, 0 for "
        "the background"
    )
