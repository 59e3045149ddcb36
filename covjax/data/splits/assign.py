"""Random divisions of groups of slices that come nearest to the wanted shares of each class."""

import numpy as np

from covjax.data.prepared.dataset import Prepared
from covjax.errors import InputError

TRIALS = 2000  # random divisions to choose from
FEW_TRIALS = 20  # with so many groups, any random division is close to the shares
LACKING = 1e6  # cost of a part without a class: more than any imbalance


def slice_groups(data: Prepared, by: str) -> np.ndarray:
    """Returns the group number [M] of each slice: what must stay together."""
    if by == "slice":
        return np.arange(len(data))
    if by == "patient" and "" in data.patients:
        unknown_id = data.ids[data.patients.index("")]
        raise InputError(
            f"{unknown_id}: patient unknown, so patients cannot be kept apart; add a patient "
            "column to index.csv, keep neighbours together with --config.split.by=block or accept "
            "optimistic scores with split.by=slice"
        )
    names, groups = np.unique(np.array(data.patients), return_inverse=True)
    if by == "patient" and len(names) < 3:
        raise InputError(
            f"data: {len(names)} patient(s) cannot be split into train, val and test, add patients "
            "or accept optimistic scores with --config.split.by=slice"
        )
    return groups


def assign(
    groups: np.ndarray, labels: np.ndarray, shares: np.ndarray, seed: int, least: int = 1
) -> np.ndarray:
    """Returns the part [M] of each slice: the best of many random assignments of groups.

    Every part gets at least `least` groups.
    """
    count = groups.max() + 1
    parts = len(shares)
    rng = np.random.default_rng(seed)
    per_group = np.stack([np.bincount(groups, labels == k, count) for k in (0, 1)], 1)  # [G, 2]
    target = shares[:, None] * per_group.sum(0)
    possible = (per_group > 0).sum(0) >= parts  # classes that can be in every part
    spread = 0.75 / parts if count <= 50 else 0
    best = np.zeros(count, int)
    best_cost = np.inf
    for trial in range(TRIALS):
        if count > TRIALS and trial >= FEW_TRIALS and best_cost < LACKING:
            break
        # A permutation cut at random near the shares.
        order = rng.permutation(count)
        cuts = np.cumsum(shares[:-1]) * count + (
            rng.uniform(-spread, spread, parts - 1) * count if spread else 0
        )
        part = np.empty(count, int)
        start = 0
        for k, cut in enumerate([*cuts, count]):
            end = int(np.clip(round(cut), start + least, count - least * (parts - 1 - k)))
            part[order[start:end]] = k
            start = end
        got = np.stack([np.bincount(part, counts, parts) for counts in per_group.T], 1)
        cost = (((got - target) / np.maximum(target, 1)) ** 2).sum() + LACKING * (got == 0)[
            :, possible
        ].sum()
        if cost < best_cost:
            best = part
            best_cost = cost
    return best[groups]
