"""Where the slices of a series lie: on one even grid, on one with gaps, or on several."""

from typing import NamedTuple

import numpy as np

EVEN = 0.1  # voxels by which a slice may lie off the grid that it is put on
FILLED = 1000  # slices that may be missing between those of one grid


class Row(NamedTuple):
    """Slices that follow each other on an even grid."""

    first: int  # of the slices
    places: np.ndarray  # int [n], of its slices on the grid, from 0
    origin: np.ndarray  # [3] mm, of place 0
    step: np.ndarray  # [3] mm, from one place to the next
    off: float  # voxels by which a slice lies off it, at most


def slice_extents(gaps: np.ndarray) -> np.ndarray:
    """Returns the mm [N] that each slice counts for, from the distances [N-1] between neighbours.

    The smaller distance to its neighbours: what lies in a gap is not known. The first and the last
    slice have one neighbour only and count no more than it does, as the gap may be next to them. N
    is 2 or more.
    """
    inner = np.minimum(gaps[:-1], gaps[1:])
    if not len(inner):
        return np.repeat(gaps, 2)
    return np.concatenate([[min(gaps[0], inner[0])], inner, [min(gaps[-1], inner[-1])]])


def lay_out(positions: np.ndarray, row: np.ndarray, column: np.ndarray) -> list[Row]:
    """Puts slices on as few even grids as they allow.

    On one, with places left out, where gaps are of whole steps.

    Args:
      positions: [N, 3] mm of the first pixel of each slice, N of 2 or more, in order along row x
        column.
      row: [3] mm from a pixel to the next of its row.
      column: [3] mm from a pixel to the next of its column.
    """
    normal = np.cross(row, column)
    gaps = np.diff(positions @ (normal / np.linalg.norm(normal)))
    extents = slice_extents(gaps)
    usual = np.median(extents)
    if np.abs(extents - usual).max() <= EVEN * usual:
        places = np.concatenate([[0], np.cumsum(np.rint(gaps / usual))])
        if places[-1] - len(gaps) <= FILLED:
            whole = _fitted(positions, 0, places.astype(int), row, column)
            if whole.off <= EVEN:
                return [whole]
    # mm for each mm along the normal
    slant = np.median(np.diff(positions, axis=0) / gaps[:, None], axis=0)
    joined = _joined(positions, gaps, extents, slant, row, column)
    ends = [*(np.flatnonzero(~joined) + 1).tolist(), len(positions)]
    rows = []
    first = 0
    for end in ends:
        while first < end:
            rows.append(_longest(positions, first, end, extents[first] * slant, row, column))
            first += len(rows[-1].places)
    return rows


def _joined(
    positions: np.ndarray,
    gaps: np.ndarray,
    extents: np.ndarray,
    slant: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
) -> np.ndarray:
    """Returns bool [N-1]: whether a slice and the next one may be neighbours on one grid."""
    residuals = np.diff(positions, axis=0) - gaps[:, None] * slant
    aside = np.stack([residuals @ axis / (axis @ axis) for axis in (row, column)])
    near = [np.abs(gaps - some) <= EVEN * some for some in (extents[:-1], extents[1:])]
    return near[0] & near[1] & (np.abs(aside) <= EVEN).all(0)


def _longest(
    positions: np.ndarray,
    first: int,
    end: int,
    step: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
) -> Row:
    """Returns the slices from `first` on that one grid takes; a single one has the given step."""
    while end - first > 1:
        found = _fitted(positions, first, np.arange(end - first), row, column)
        if found.off <= EVEN:
            return found
        end = first + (end - first) // 2
    return Row(first, np.zeros(1, int), positions[first], step, 0.0)


def _fitted(
    positions: np.ndarray, first: int, places: np.ndarray, row: np.ndarray, column: np.ndarray
) -> Row:
    some = positions[first : first + len(places)]
    step = (some[-1] - some[0]) / places[-1]
    residuals = some - some[0] - places[:, None] * step
    off = np.abs(np.linalg.solve(np.stack([row, column, step], 1), residuals.T)).max()
    return Row(first, places, some[0], step, float(off))
