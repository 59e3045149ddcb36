"""A made-up source: slices of noise with whatever is to be found planted in them."""

import numpy as np

from covjax.audit import measure
from covjax.data.sources.source import Slice


def chest(seed, size=(60, 50)):
    """A picture without a flat border, unlike every other one."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 230, (size[0] // 4 + 1, size[1] // 4 + 1)).repeat(4, 0).repeat(4, 1)
    return np.clip(coarse[: size[0], : size[1]] + rng.integers(-9, 10, size), 0, 255).astype(
        np.uint8
    )


def lesion(size=(60, 50), where=np.s_[20:30, 20:32]):
    mask = np.zeros(size, np.uint8)
    mask[where] = 1
    return mask


def healthy_set(count=24, patients=6):
    """A data set with nothing wrong: half the slices infected, every patient with as many
    slices.
    """
    return [
        Slice(
            f"s{i:02d}",
            chest(i),
            lesion() if i % 2 else lesion(where=np.s_[:0]),
            i % 2,
            f"p{i * patients // count}",
            "",
        )
        for i in range(count)
    ]


def measured(slices):
    def load(i):
        if isinstance(slices[i], Exception):
            raise slices[i]
        return slices[i]

    ids = [s.id if isinstance(s, Slice) else f"bad{i}" for i, s in enumerate(slices)]
    return measure("made", "f" * 16, ids, load)


def splits_by_patient(m):
    """Patients p0 to p3 in train, p4 in val, p5 in test."""
    return np.array([{"p4": "val", "p5": "test"}.get(p, "train") for p in m.patients])
