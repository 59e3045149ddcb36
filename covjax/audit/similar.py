"""Near-duplicates: slices whose pictures correlate, all pairs compared by blocks of one matrix product."""

import math

import numpy as np

MANY = 10  # slices from which on their mean is a picture of what they share


def standardised(thumbnails: np.ndarray) -> np.ndarray:
    """Turns pictures [N, ...] into rows float32 [N, D] of mean 0 and length 1, whose products are correlations.

    From MANY pictures on, their mean is taken off first: what all share (a figure's margin, the outline of a chest)
    would make any two of them correlate. A picture without structure becomes zeros and correlates with none.
    """
    rows = np.asarray(thumbnails, np.float32).reshape(len(thumbnails), math.prod(np.shape(thumbnails)[1:]))
    if len(rows) >= MANY:
        rows = rows - rows.mean(0)
    rows = rows - rows.mean(1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    # Below half a grey level of standard deviation there is nothing but rounding.
    return np.where(length > 0.5 * np.sqrt(rows.shape[1]), rows / np.maximum(length, 1e-6), 0)


def nearest(
    queries: np.ndarray, candidates: np.ndarray | None = None, block: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    """Finds for each row of `queries` [Q, D] the candidate [C, D] that it correlates with most.

    Rows are as `standardised` makes them. Without candidates the queries are compared among themselves, none with
    itself. Returns correlation float32 [Q] (-1 where there is no candidate) and index int [Q] (-1 likewise).
    """
    among = candidates is None
    candidates = queries if among else candidates
    correlation, index = np.full(len(queries), -1, np.float32), np.full(len(queries), -1)
    if len(candidates) <= among:
        return correlation, index
    for start in range(0, len(queries), block):
        product = queries[start : start + block] @ candidates.T
        here = np.arange(len(product))
        if among:
            product[here, start + here] = -np.inf
        best = product.argmax(1)
        index[start : start + block], correlation[start : start + block] = best, product[here, best]
    return correlation, index
