"""Label volumes: read slice by slice beside their images."""

from pathlib import Path

import numpy as np

from covjax.data.alignment import align
from covjax.data.geometry import canonical
from covjax.data.nifti import open_labels
from covjax.data.volumes import Volume, reading
from covjax.errors import InputError


def label_notes(path: Path, volume: Volume, by: str = "file") -> tuple[str, ...]:
    """Returns what is uncertain about the place of labels; the rest as `read_labels`."""
    return align(path, open_labels(path)[1], volume, by).notes


def read_labels(path: Path, volume: Volume, index: int, by: str = "file") -> np.ndarray:
    """Reads slice `index` of the label volume that belongs to `volume`: numbers [rows, columns].

    A fourth axis holds one binary mask per class, background first or left out. `by` is one of alignment.GEOMETRIES.
    Raises InputError naming the file when labels and image contradict each other or values are no whole numbers.
    """
    stored, geometry = open_labels(path)
    geometry, places, _ = align(path, geometry, volume, by)
    with reading(path):
        planes = np.stack([canonical(stored[..., c], geometry)[places[index]] for c in range(stored.shape[3])])
    if not np.isfinite(planes).all() or (planes < 0).any() or (planes != np.rint(planes)).any():
        raise InputError(f"{path}: slice {index} holds values that are no whole numbers from 0, it is no mask")
    if len(planes) == 1:
        return planes[0].astype(np.int64)
    marked = planes > 0
    if (marked.sum(0) == 1).all():  # the background has a mask too
        return marked.argmax(0)
    return np.where(marked.any(0), marked.argmax(0) + 1, 0)
