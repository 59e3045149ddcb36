"""Copies of DICOM pictures: a slice that was exported or copied twice counts once."""

import filecmp
from collections.abc import Hashable, Sequence

import numpy as np

from covjax.data.formats.dicom import Frame, read_frame
from covjax.data.listing import Leave
from covjax.errors import InputError

COPY = "DICOM, an identical copy of a slice that is read"


def without_copies(frames: Sequence[Frame], leave: Leave) -> list[Frame]:
    """Returns the frames of a series without those that equal an earlier one in place and values.

    The files of these go to `leave`. Pixels are compared only where two frames claim one place.
    """
    kept: list[Frame] = []
    at: dict[Hashable, list[Frame]] = {}
    for frame in sorted(frames, key=lambda frame: (frame.path, frame.index)):
        place = _place(frame)
        if place is not None:
            others = at.setdefault(place, [])
            if any(_same(frame, other) for other in others):
                leave(frame.path, COPY)
                continue
            others.append(frame)
        kept.append(frame)
    return kept


def _place(frame: Frame) -> Hashable | None:
    """Returns where a frame says that it lies, or its number; None where it says neither."""
    if frame.position is not None:
        return frame.position, frame.orientation
    return None if np.isnan(frame.place).any() else frame.place


def _same(frame: Frame, other: Frame) -> bool:
    alike = (frame.shape, frame.slope, frame.intercept) == (
        other.shape,
        other.slope,
        other.intercept,
    )
    if not alike or frame.path == other.path:
        return False
    try:
        if frame.index == other.index and filecmp.cmp(frame.path, other.path, shallow=False):
            return True
        return np.array_equal(read_frame(frame), read_frame(other))
    except (InputError, OSError):  # damage is reported where the slice is read
        return False
