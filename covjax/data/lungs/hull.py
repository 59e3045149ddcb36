"""The convex hull of points of a picture."""

import numpy as np


def hull(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the pixels bool [*shape] within the convex hull of points [n, 2] (row, column)."""
    corners = _corners(_ends(points))
    rows = np.arange(shape[0])
    columns = np.arange(shape[1])
    low = np.full(shape[0], np.inf)
    high = np.full(shape[0], -np.inf)
    for one, other in zip(corners, np.roll(corners, -1, 0), strict=True):
        first, last = sorted((one, other), key=tuple)
        along = (rows >= first[0]) & (rows <= last[0])
        part = (rows[along] - first[0]) / max(1e-9, last[0] - first[0])
        at = first[1] + part * (last[1] - first[1])
        for end in (at, last[1]) if first[0] == last[0] else (at,):
            low[along] = np.minimum(low[along], end)
            high[along] = np.maximum(high[along], end)
    return (columns >= low[:, None] - 1e-6) & (columns <= high[:, None] + 1e-6)


def _ends(points: np.ndarray) -> np.ndarray:
    """Returns the first and the last point of every row."""
    rows = [points[points[:, 0] == row] for row in np.unique(points[:, 0])]
    return np.concatenate([[row.min(0), row.max(0)] for row in rows])


def _corners(points: np.ndarray) -> np.ndarray:
    """Returns the corners of the hull, around it (Andrew's monotone chain, 1979)."""
    ordered = sorted(set(map(tuple, points)))
    return np.array(_chain(ordered) + _chain(ordered[::-1]) or ordered, float)


def _chain(points: list[tuple]) -> list[tuple]:
    found: list[tuple] = []
    for point in points:
        while len(found) > 1 and _turn(found[-2], found[-1], point) <= 0:
            found.pop()
        found.append(point)
    return found[:-1]


def _turn(a: tuple, b: tuple, c: tuple) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
