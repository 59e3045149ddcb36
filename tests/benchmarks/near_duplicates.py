"""Time of comparing all pairs of slices, beside numpy's correlation matrix of the same thumbnails.

python -m tests.benchmarks.near_duplicates [SLICES]
"""

import sys
import time

import numpy as np

from covjax.audit import nearest, standardised
from covjax.audit.measure import SIDE


def seconds(work) -> float:
    work()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[1]


def main(count: int) -> None:
    thumbnails = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE), np.uint8)
    ours = seconds(lambda: nearest(standardised(thumbnails)))
    numpy = seconds(lambda: np.corrcoef(thumbnails.reshape(count, -1)))
    print(
        f"all pairs of {count:,} slices: {ours:.2f} s, {numpy / ours:.2f} times as fast as "
        "numpy.corrcoef"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
