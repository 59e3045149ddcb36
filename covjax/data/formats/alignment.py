"""Whether labels lie where their image lies, by what both files say."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from covjax.data.formats.geometry import Geometry, canonical_affine, canonical_shape
from covjax.data.formats.volumes import Volume
from covjax.errors import InputError

STRETCHED = 0.01  # share by which the voxels of labels and image may differ in size
TURNED = 0.5  # degrees by which their axes may
# voxels from which on labels that lie elsewhere are noted, less what single precision makes of it
AWAY = 0.5
GEOMETRIES = {
    "file": "labels lie where their file says, which must agree with their image",
    "image": "labels are stored voxel by voxel as their image, whatever their file says",
}
UNSAID = "its mask, or it itself, does not say where it lies: they are taken to be stored alike"
UNSIZED = "the size of its voxels is not known, so that of its mask's was not compared"
IN_ORDER = (
    "its mask has a slice for each slice and is taken in order: unevenly spaced, they lie on "
    "no grid"
)


class Alignment(NamedTuple):
    """How labels are read with their image."""

    geometry: Geometry  # to read them by
    places: Sequence[int]  # canonical slice of the labels, of each canonical slice of the image
    notes: tuple[str, ...] = ()


def align(path: Path, labels: Geometry, volume: Volume, by: str = "file") -> Alignment:
    """Finds the slices of labels that belong to those of a volume; `by` is one of GEOMETRIES.

    Raises InputError naming the file when sizes, voxels or directions contradict each other.
    """
    own = range(len(volume))
    # of a series with gaps: with the slices it lacks
    whole = volume.grids[0] if len(volume.grids) == 1 else None
    stored = [(volume.geometry, own), *([(whole.geometry, whole.places)] if whole else [])]
    alike = next(((image, places) for image, places in stored if image.shape == labels.shape), None)
    if by == "image" and alike is None:
        raise InputError(
            f"{path}: {labels.shape} voxels as stored, but its image {volume.path} has "
            f"{volume.geometry.shape}, so they are not stored alike; set data.mask_geometry=file"
        )
    said = labels.known and volume.geometry.known
    if alike and (by == "image" or not said):
        return Alignment(
            *alike, () if by == "image" or labels.known == volume.geometry.known else (UNSAID,)
        )
    # At 45 degrees the nearest axes of two files that agree may differ by rounding, so what is
    # stored counts first.
    if alike and _agree(labels.affine * labels.unit, alike[0].affine * alike[0].unit):
        labels = labels._replace(turn=alike[0].orientation)
    if whole and canonical_shape(labels) == canonical_shape(whole.geometry):
        if not said:
            return Alignment(labels, whole.places, (UNSAID,))
        return Alignment(labels, whole.places, _compare(path, labels, whole.geometry, volume))
    if canonical_shape(labels) == volume.shape:
        if said:
            _check_voxels(
                path,
                canonical_affine(labels),
                canonical_affine(volume.geometry),
                volume,
                [0, 1],
                alike is not None,
            )
        return Alignment(labels, own, (IN_ORDER,))
    raise InputError(
        f"{path}: {canonical_shape(labels)} slices, rows and columns, but its image {volume.path} "
        "has "
        f"{volume.shape}, export them alike" + (", a slice for each" if whole is None else "")
    )


def _compare(path: Path, labels: Geometry, image: Geometry, volume: Volume) -> tuple[str, ...]:
    """Returns notes on labels that lie elsewhere. Raises InputError for other voxels."""
    theirs = canonical_affine(labels)
    ours = canonical_affine(image)
    _check_voxels(path, theirs, ours, volume, [0, 1, 2], labels.shape == image.shape)
    if volume.spacing is None:
        return (UNSIZED,)
    ends = [(0, size - 1) for size in canonical_shape(image)[::-1]]
    corners = np.array([(*corner, 1) for corner in product(*ends)]).T
    offsets = ((theirs - ours) @ corners)[:3]
    voxels = np.abs(np.linalg.solve(ours[:3, :3], offsets)).max()
    if voxels < AWAY - 1e-4:
        return ()
    distance = np.linalg.norm(offsets, axis=0).max()
    return (
        f"its mask lies up to {distance:.3g} mm ({voxels:.3g} voxels) away from it, by what the "
        "files say",
    )


def _check_voxels(
    path: Path,
    labels: np.ndarray,
    image: np.ndarray,
    volume: Volume,
    axes: Sequence[int],
    alike: bool,
) -> None:
    """Raises InputError if voxels differ in size or direction along some axes (column, row, slice).

    Sizes that the image does not say contradict nothing.
    """
    others, sizes, turned = _differences(labels, image, axes)
    remedy = "save the mask with the affine of its image"
    if alike:
        remedy += ", or set data.mask_geometry=image if the two are stored voxel by voxel alike"
    if volume.spacing is not None and np.abs(others / sizes - 1).max() > STRETCHED:
        one, other = ("x".join(f"{size:.4g}" for size in some[::-1]) for some in (others, sizes))
        raise InputError(
            f"{path}: voxels of {one} mm, but its image {volume.path} has {other} mm; {remedy}"
        )
    if turned > TURNED:
        raise InputError(
            f"{path}: turned by {turned:.3g} degrees against its image {volume.path}; {remedy}"
        )


def _agree(labels: np.ndarray, image: np.ndarray) -> bool:
    others, sizes, turned = _differences(labels, image, [0, 1, 2])
    return bool(turned <= TURNED and np.abs(others / sizes - 1).max() <= STRETCHED)


def _differences(
    labels: np.ndarray, image: np.ndarray, axes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns mm between voxels along some axes of two affines, and the degrees between them."""
    theirs, ours = (affine[:3, :3][:, axes] for affine in (labels, image))
    others, sizes = (np.linalg.norm(axis, axis=0) for axis in (theirs, ours))
    turned = np.rad2deg(np.arccos(np.clip((ours * theirs).sum(0) / (sizes * others), -1, 1)))
    return others, sizes, float(turned.max())
