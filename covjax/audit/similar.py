"""Near-duplicates: slices whose pictures correlate, all pairs compared by matrix products."""

import math

import numpy as np

MANY = 10  # slices from which on their mean is a picture of what they share


def looks(thumbnails: np.ndarray) -> np.ndarray:
    """Turns pictures [N, ...] into rows [N, 2, D], `standardised` with and without their mean.

    Both must correlate for `nearest`: without its mean a minority that looks different (inverted,
    with a margin) is alike in what sets it apart from the others.
    """
    return np.stack(
        [standardised(thumbnails), standardised(thumbnails, many=len(thumbnails) + 1)], 1
    )


def standardised(thumbnails: np.ndarray, many: int = MANY) -> np.ndarray:
    """Turns pictures [N, ...] into rows float32 [N, D] of mean 0 and length 1.

    Products of rows are correlations. From `many` pictures on, their mean is taken off first: what
    all share (a figure's margin, the outline of a chest) would make any two of them correlate. A
    picture without structure becomes zeros and correlates with none.
    """
    rows = np.asarray(thumbnails, np.float32).reshape(
        len(thumbnails), math.prod(np.shape(thumbnails)[1:])
    )
    if len(rows) >= many:
        rows = rows - rows.mean(0)
    rows = rows - rows.mean(1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    # Below half a grey level of standard deviation there is nothing but rounding.
    return np.where(length > 0.5 * np.sqrt(rows.shape[1]), rows / np.maximum(length, 1e-6), 0)


def nearest(
    queries: np.ndarray, candidates: np.ndarray | None = None, block: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    """Finds for each row of `queries` [Q, D] the candidate [C, D] that it correlates with most.

    Rows are as `standardised` makes them, or [Q, L, D] as `looks` does: then the least correlation
    of the L counts. Without candidates the queries are compared among themselves, none with itself.
    Returns correlation float32 [Q] (-1 where there is no candidate) and index int [Q] (-1
    likewise).
    """
    among = candidates is None
    candidates = queries if among else candidates
    correlation = np.full(len(queries), -1, np.float32)
    index = np.full(len(queries), -1)
    if len(candidates) <= among:
        return correlation, index
    for start in range(0, len(queries), block):
        product = _products(queries[start : start + block], candidates)
        here = np.arange(len(product))
        if among:
            product[here, start + here] = -np.inf
        best = product.argmax(1)
        index[start : start + block] = best
        correlation[start : start + block] = product[here, best]
    return correlation, index


def _products(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    if queries.ndim == 2:
        return queries @ candidates.T
    return np.minimum.reduce([queries[:, k] @ candidates[:, k].T for k in range(queries.shape[1])])


def correlation_inside(pictures: np.ndarray, boxes: np.ndarray) -> float:
    """Correlation of two pictures [2, S, S] inside the box that holds both of theirs.

    A box, one row of `boxes` [2, 4], is (top, left, bottom, right) of what a flat border leaves, as
    shares of the side. 1 where nothing is left.
    """
    side = pictures.shape[1]
    top, left = np.floor(boxes[:, :2].min(0) * side).astype(int)
    bottom, right = np.ceil(boxes[:, 2:].max(0) * side).astype(int)
    inside = pictures[:, top:bottom, left:right]
    if inside[0].size < 4:
        return 1.0
    first, second = standardised(inside, many=3)
    return float(first @ second)
