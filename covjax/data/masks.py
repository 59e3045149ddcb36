"""Label volumes: read slice by slice beside their images."""

from pathlib import Path

import numpy as np

from covjax.data.nifti import open_labels
from covjax.data.volumes import Geometry, Volume, canonical, canonical_shape, reading
from covjax.errors import InputError


def read_labels(path: Path, volume: Volume, index: int) -> np.ndarray:
    """Reads slice `index` of the label volume that belongs to `volume`: numbers [rows, columns].

    A fourth axis holds one binary mask per class, background first or left out. Where image and labels are stored
    alike they belong together voxel by voxel, else both are brought to canonical axes. Raises InputError naming the
    file when sizes differ or values are no whole numbers.
    """
    stored, geometry = open_labels(path)
    geometry = _shared(geometry, volume.geometry)
    if canonical_shape(geometry) != volume.shape:
        raise InputError(
            f"{path}: {canonical_shape(geometry)} slices, rows and columns, but its image {volume.path} has "
            f"{volume.shape}, export them alike"
        )
    with reading(path):
        planes = np.stack([canonical(stored[..., c], geometry)[index] for c in range(stored.shape[3])])
    if not np.isfinite(planes).all() or (planes < 0).any() or (planes != np.rint(planes)).any():
        raise InputError(f"{path}: slice {index} holds values that are no whole numbers from 0, it is no mask")
    if len(planes) == 1:
        return planes[0].astype(np.int64)
    marked = planes > 0
    if (marked.sum(0) == 1).all():  # the background has a mask too
        return marked.argmax(0)
    return np.where(marked.any(0), marked.argmax(0) + 1, 0)


def _shared(labels: Geometry, image: Geometry) -> Geometry:
    """Returns the geometry to read labels by: the image's, where nothing says that they are stored in another way."""
    alike = not (labels.known and image.known) or np.array_equal(labels.orientation, image.orientation)
    return image if labels.shape == image.shape and alike else labels
