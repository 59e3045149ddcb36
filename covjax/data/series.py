"""Series of DICOM pictures as volumes: grouped, sorted by position, in the patient's directions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from covjax.data.copies import without_copies
from covjax.data.dicom import Frame, Tags, read_frame, read_frames
from covjax.data.listing import Leave, Skip, unsaid
from covjax.data.volumes import Geometry, Volume, canonical, canonical_shape, canonical_spacing, check_geometry
from covjax.errors import InputError

UNEVEN = 0.1  # share of the distance between slices by which they may differ
UNEVEN_NOTE = "slices are not evenly spaced, one may be missing; volumes are approximate"


def read_series(files: Sequence[Path], skip: Skip, leave: Leave = unsaid) -> dict[str, tuple[Tags, list[Frame]]]:
    """Groups the frames of DICOM files by series.

    What is wrong with a file that cannot be used is handed to `skip`; what is certainly no axial CT and copies of
    slices are handed to `leave`.
    """
    found: dict[str, tuple[Tags, list[Frame]]] = {}
    for path in files:
        try:
            tags, frames = read_frames(path)
        except InputError as error:
            skip(error)
            continue
        if tags.no_ct:
            leave(path, tags.no_ct)
            continue
        found.setdefault(tags.series, (tags, []))[1].extend(frames)
    return {series: (tags, without_copies(frames, leave)) for series, (tags, frames) in found.items()}


def open_series(path: Path, tags: Tags, frames: list[Frame], told: str = "auto") -> Volume:
    """Makes a volume of the frames of one axial series; `path` is what errors name. Raises InputError."""
    frames = _sorted(path, frames)
    geometry, even = _geometry(path, frames)
    axis = int(geometry.orientation[2, 0])
    if axis != 2:
        raise InputError(f"{path}: a {('sagittal', 'coronal')[axis]} series, export the axial one")
    last_first = geometry.orientation[2, 1] < 0
    flat = Geometry((*geometry.shape[:2], 1), geometry.affine, geometry.known)

    def raw(index: int) -> np.ndarray:
        frame = frames[len(frames) - 1 - index if last_first else index]
        values = read_frame(frame).astype(np.float32) * np.float32(frame.slope) + np.float32(frame.intercept)
        return canonical(values.T[..., None], flat)[0]

    known = all(f.position and f.orientation and f.spacing for f in frames) and (len(frames) > 1 or frames[0].thickness)
    return Volume(
        path=path,
        shape=canonical_shape(geometry),
        spacing=canonical_spacing(geometry) if known else None,
        geometry=geometry,
        raw=raw,
        declared="hu" if all(frame.hu for frame in frames) else "auto",
        told=told,
        padding=tuple(sorted({frame.padding for frame in frames if frame.padding})),
        patient=tags.patient,
        study=tags.study,
        inverted=frames[0].inverted,
        frames=frames,
        notes=() if even else (UNEVEN_NOTE,),
    )


def _sorted(path: Path, frames: list[Frame]) -> list[Frame]:
    """Sorts the frames of a series along its normal, or by slice location or number where positions are missing."""
    for field in ("shape", "orientation", "spacing"):
        kinds = {getattr(frame, field) and tuple(np.round(getattr(frame, field), 3)) for frame in frames}
        if len(kinds) > 1:
            other = next(f for f in frames if getattr(f, field) != getattr(frames[0], field))
            raise InputError(f"{other.path}: differs in {field} from the rest of its series, remove it from {path}")
    if len(frames) == 1:
        return frames
    if frames[0].orientation is None or any(frame.position is None for frame in frames):
        places = [frame.place for frame in frames]
        several = len({frame.path for frame in frames}) > 1
        if several and (np.isnan(places).any() or len(set(places)) < len(places)):
            raise InputError(
                f"{path}: its slices have no positions, locations or numbers to sort them by, export again"
            )
        return sorted(frames, key=lambda frame: frame.place if several else frame.index)
    frames = sorted(frames, key=_height)
    for one, next_ in zip(frames, frames[1:], strict=False):
        if _height(next_) - _height(one) < 1e-3:
            raise InputError(
                f"{next_.path}: lies where {one.path.name} lies, keep one (is it of another phase or reconstruction?)"
            )
    return frames


def _height(frame: Frame) -> float:
    """Returns how far along the normal of the slices a frame lies, in mm."""
    return float(np.cross(frame.orientation[:3], frame.orientation[3:]) @ np.array(frame.position))


def _geometry(path: Path, frames: list[Frame]) -> tuple[Geometry, bool]:
    """Returns the geometry of an array stored as [columns, rows, slices], and whether slices are evenly spaced."""
    first, last, even = frames[0], frames[-1], True
    row, column = np.reshape(first.orientation or (1, 0, 0, 0, 1, 0), (2, 3))
    vertical, horizontal = first.spacing or (1, 1)
    step = np.cross(row, column) * (first.thickness or 1)
    if len(frames) > 1 and first.orientation and all(frame.position for frame in frames):
        step = (np.array(last.position) - first.position) / (len(frames) - 1)
        gaps = np.diff([_height(frame) for frame in frames])
        even = bool(np.ptp(gaps) <= UNEVEN * np.median(gaps))
    affine = np.eye(4)
    affine[:3] = np.stack([row * horizontal, column * vertical, step, first.position or (0, 0, 0)], 1)
    affine[:2] *= -1  # DICOM counts towards left and back, NIfTI towards right and front
    known = bool(first.position and first.orientation)
    geometry = Geometry((first.shape[1], first.shape[0], len(frames)), affine, known)
    check_geometry(path, geometry)
    return geometry, even
