"""Series of DICOM pictures as volumes: grouped, sorted by position, in the patient's directions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from covjax.data.formats.copies import without_copies
from covjax.data.formats.dicom import Frame, Tags, read_frame, read_frames
from covjax.data.formats.geometry import (
    Geometry,
    Grid,
    canonical,
    canonical_shape,
    canonical_spacing,
    check_geometry,
)
from covjax.data.formats.positions import Row, lay_out
from covjax.data.formats.volumes import Volume
from covjax.data.listing import Leave, Skip, unsaid
from covjax.errors import InputError

TURNED = 0.5  # degrees by which slices of one series may be turned against each other
STRETCHED = 1e-3  # share by which their pixels may differ in size
OFF = 0.01  # voxels off an even grid from which on it is said

Series = tuple[Tags, list[Frame]]


def read_series(files: Sequence[Path], skip: Skip, leave: Leave = unsaid) -> list[Series]:
    """Groups the frames of DICOM files by series.

    A series has one patient, study, number, size and orientation: numbers alone are at times given
    twice. What is wrong with a file that cannot be used is handed to `skip`; what is certainly no
    axial CT and copies of slices are handed to `leave`.
    """
    found: dict[tuple, list[Series]] = {}
    for path in files:
        try:
            tags, frames = read_frames(path)
        except InputError as error:
            skip(error)
            continue
        if tags.no_ct:
            leave(path, tags.no_ct)
            continue
        for frame in frames:
            key = (tags.patient, tags.study, tags.series, frame.shape)
            _add(found.setdefault(key, []), tags, frame)
    return [
        (tags, without_copies(frames, leave)) for alike in found.values() for tags, frames in alike
    ]


def _add(alike: list[Series], tags: Tags, frame: Frame) -> None:
    """Puts a frame to those of its orientation."""
    for _, frames in alike:
        if _turned(frames[0], frame) <= TURNED:
            frames.append(frame)
            return
    alike.append((tags, [frame]))


def _turned(one: Frame, other: Frame) -> float:
    """Returns the degrees between rows or columns of two frames; 180 if one does not say."""
    if one.orientation is None or other.orientation is None:
        return 0.0 if one.orientation is other.orientation else 180.0
    a, b = np.reshape([one.orientation, other.orientation], (2, 2, 3))
    return float(np.rad2deg(2 * np.arcsin(np.minimum(np.linalg.norm(a - b, axis=1) / 2, 1))).max())


def open_series(path: Path, tags: Tags, frames: list[Frame], declared: str = "auto") -> Volume:
    """Makes a volume of one axial series; `path` is what errors name. Raises InputError."""
    row, column = _directions(frames)
    frames = _sorted(path, frames, np.cross(row, column))
    geometry, rows = _geometry(path, frames, row, column)
    axis = int(geometry.orientation[2, 0])
    if axis != 2:
        raise InputError(f"{path}: a {('sagittal', 'coronal')[axis]} series, export the axial one")
    last_first = geometry.orientation[2, 1] < 0
    flat = Geometry((*geometry.shape[:2], 1), geometry.affine, geometry.known)

    def raw(index: int) -> np.ndarray:
        frame = frames[len(frames) - 1 - index if last_first else index]
        values = read_frame(frame).astype(np.float32) * np.float32(frame.slope) + np.float32(
            frame.intercept
        )
        return canonical(values.T[..., None], flat)[0]

    parts = _grids(geometry, rows, last_first)
    for part in parts:
        check_geometry(path, part.geometry)
    measured = all(f.position and f.orientation and f.spacing for f in frames)
    spacing = None
    if measured and (len(frames) > 1 or frames[0].thickness):
        sizes = [size for size in (canonical_spacing(part.geometry) for part in parts) if size]
        if len(sizes) == len(parts):
            spacing = (float(np.median([size[0] for size in sizes])), *sizes[0][1:])
    return Volume(
        path=path,
        shape=canonical_shape(geometry),
        spacing=spacing,
        geometry=geometry,
        raw=raw,
        stated="hu" if all(frame.hu for frame in frames) else "auto",
        declared=declared,
        padding=tuple(sorted({frame.padding for frame in frames if frame.padding})),
        patient=tags.patient,
        study=tags.study,
        inverted=frames[0].inverted,
        frames=frames,
        parts=parts,
        notes=_notes(frames, rows, row, column, spacing),
    )


def _directions(frames: Sequence[Frame]) -> np.ndarray:
    """Returns the unit directions [2, 3] of rows and columns, the mean of those of all frames."""
    known = [frame.orientation for frame in frames if frame.orientation]
    if not known:
        return np.eye(3)[:2]
    row, column = np.mean(known, 0).reshape(2, 3)
    row /= np.linalg.norm(row)
    column -= (column @ row) * row
    return np.stack([row, column / np.linalg.norm(column)])


def _sorted(path: Path, frames: list[Frame], normal: np.ndarray) -> list[Frame]:
    """Sorts frames along their normal; by slice location or number where positions are missing."""
    for frame in frames:
        if (frame.spacing is None) != (frames[0].spacing is None) or not np.allclose(
            frame.spacing or 1, frames[0].spacing or 1, rtol=STRETCHED, atol=0
        ):
            raise InputError(
                f"{frame.path}: differs in spacing from the rest of its series, remove it from "
                f"{path}"
            )
    if len(frames) == 1:
        return frames
    if frames[0].orientation is None or any(frame.position is None for frame in frames):
        places = [frame.place for frame in frames]
        several = len({frame.path for frame in frames}) > 1
        if several and (np.isnan(places).any() or len(set(places)) < len(places)):
            raise InputError(
                f"{path}: its slices have no positions, locations or numbers to sort them by, "
                "export again"
            )
        return sorted(frames, key=lambda frame: frame.place if several else frame.index)
    frames = sorted(frames, key=lambda frame: _height(frame, normal))
    for one, next_ in zip(frames, frames[1:], strict=False):
        if _height(next_, normal) - _height(one, normal) < 1e-3:
            raise InputError(
                f"{next_.path}: lies where {one.path.name} lies, keep one (is it of another phase "
                "or reconstruction?)"
            )
    return frames


def _height(frame: Frame, normal: np.ndarray) -> float:
    """Returns how far along the normal of the slices a frame lies, in mm."""
    return float(normal @ np.array(frame.position))


def _geometry(
    path: Path, frames: Sequence[Frame], row: np.ndarray, column: np.ndarray
) -> tuple[Geometry, list[Row]]:
    """Returns the geometry of an array stored as [columns, rows, slices], and where its slices lie.

    What is not known is 1 mm.
    """
    first = frames[0]
    count = len(frames)
    vertical, horizontal = first.spacing or (1, 1)
    placed = first.orientation is not None and all(frame.position for frame in frames)
    if placed and count > 1:
        rows = lay_out(
            np.array([frame.position for frame in frames]), row * horizontal, column * vertical
        )
    else:
        origin = np.array(first.position or (0, 0, 0))
        step = np.cross(row, column) * (first.thickness or 1)
        rows = [Row(0, np.arange(count), origin, step, 0.0)]
    affine = np.eye(4)
    affine[:3] = np.stack([row * horizontal, column * vertical, rows[0].step, rows[0].origin], 1)
    affine[:2] *= -1  # DICOM counts towards left and back, NIfTI towards right and front
    geometry = Geometry((first.shape[1], first.shape[0], count), affine, placed)
    check_geometry(path, geometry)
    return geometry, rows


def _grids(geometry: Geometry, rows: Sequence[Row], last_first: bool) -> tuple[Grid, ...]:
    """Returns the grids of a series in the order of its canonical slices."""
    grids = []
    for one in rows:
        affine = geometry.affine.copy()
        size = int(one.places[-1]) + 1
        affine[:3, 2:] = np.stack([one.step, one.origin], 1) * [[-1], [-1], [1]]
        first = one.first
        places = one.places
        if last_first:
            first = geometry.shape[2] - first - len(places)
            places = size - 1 - places[::-1]
        shape = (*geometry.shape[:2], size)
        grids.append(
            Grid(geometry._replace(shape=shape, affine=affine), first, tuple(places.tolist()))
        )
    return tuple(grids[::-1] if last_first else grids)


def _notes(
    frames: Sequence[Frame],
    rows: Sequence[Row],
    row: np.ndarray,
    column: np.ndarray,
    spacing: object,
) -> tuple[str, ...]:
    notes = []
    if spacing is None:
        notes.append("the size of its voxels is not known: no mm2, no ml")
    if frames[0].orientation is None or not all(frame.position for frame in frames):
        notes.append(
            "where its slices lie is not known: they are in the order of their locations or numbers"
        )
    elif len(rows) > 1 or len(rows[0].places) <= rows[0].places[-1]:
        gaps = np.diff([_height(frame, np.cross(row, column)) for frame in frames])
        notes.append(
            f"slices are not evenly spaced, they lie {gaps.min():.4g} to {gaps.max():.4g} mm apart"
        )
    if (off := max(one.off for one in rows)) > OFF:
        notes.append(f"slices lie up to {off:.2g} voxels off the even grid that they are put on")
    return tuple(notes)
