"""How often 95 % intervals hold the true score, and how often p is below 0.05 where nothing
differs, by patients.

python -m tests.benchmarks.coverage [DRAWS]

Made-up patients differ as real ones do: in how many slices they have (median 10), in how large
their lesions are (standard deviation 1 of the logarithm), and in how well they are segmented (Dice
0.75, standard deviation 0.15) and classified (a random effect of 0.8 on log-odds).
"""

import functools
import sys
from collections.abc import Callable

import numpy as np
from scipy.special import ndtr

from covjax.metrics import classification_scores, mean_of, paired_test, segmentation_scores

COUNTS = (5, 8, 12, 20, 50)  # patients
SCORES = {
    "Dice, pooled": ("segmentation", "dice_infected"),
    "Dice, per slice": ("segmentation", "dice_infected_per_image"),
    "sensitivity": ("classification", "sensitivity"),
    "ROC AUC": ("classification", "roc_auc"),
}


def slices_of(rng: np.random.Generator, patients: int) -> np.ndarray:
    """The patient of every slice, int [N]."""
    counts = np.clip(np.round(np.exp(rng.normal(2.3, 0.5, patients))), 2, 40).astype(int)
    return np.repeat(np.arange(patients), counts)


def dice_of(rng: np.random.Generator, owner: np.ndarray) -> np.ndarray:
    """Dice of every slice: patients differ, and the slices of one."""
    patients = int(owner.max()) + 1
    common = 0.75 * 0.25 / 0.15**2 - 1
    mean = rng.beta(0.75 * common, 0.25 * common, patients)[owner]
    return rng.beta(10 * mean + 1e-3, 10 * (1 - mean) + 1e-3)


def segmentation(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, list[str]]:
    """Confusion matrices [N, 2, 2] of slices, and their patients."""
    owner = slices_of(rng, patients)
    size = (
        np.exp(rng.normal(6, 1, patients)[owner] + rng.normal(0, 0.7, owner.size)).astype(int) + 1
    )
    hit = np.round(dice_of(rng, owner) * size).astype(int)
    missed = size - hit
    confusion = np.stack(
        [np.stack([np.full_like(hit, 10**5), missed], 1), np.stack([missed, hit], 1)], 1
    )
    return confusion, [str(k) for k in owner]


def classification(
    rng: np.random.Generator, patients: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Labels, log-odds and patients of slices: about half are infected, in every patient another
    share.
    """
    owner = slices_of(rng, patients)
    label = (rng.random(owner.size) < rng.beta(2, 2, patients)[owner]).astype(int)
    log_odds = (
        3 * label
        - 1.5
        + 0.8 * rng.standard_normal(patients)[owner]
        + 1.2 * rng.standard_normal(owner.size)
    )
    return label, log_odds, [str(k) for k in owner]


def scores_of(kind: str, rng: np.random.Generator, patients: int) -> dict[str, dict]:
    if kind == "segmentation":
        confusion, owner = segmentation(rng, patients)
        return segmentation_scores(confusion, ("background", "infected"), owner)
    label, log_odds, owner = classification(rng, patients)
    return classification_scores(label, log_odds=log_odds, patients=owner)


@functools.cache
def true_scores() -> dict[str, float]:
    """The scores of so many patients that they are exact to three decimals."""
    rng = np.random.default_rng(99)
    found = {}
    confusion, _ = segmentation(rng, 60_000)
    hit = 2.0 * confusion[:, 1, 1]
    whole = (confusion[:, 1].sum(1) + confusion[:, :, 1].sum(1)).astype(float)
    found["Dice, pooled"] = hit.sum() / whole.sum()
    found["Dice, per slice"] = (hit / whole).mean()
    label, log_odds, _ = classification(rng, 60_000)
    found["sensitivity"] = (log_odds[label == 1] >= 0).mean()
    # Of two slices, mostly of two patients: a normal distribution of the difference.
    found["ROC AUC"] = float(ndtr(3 / np.sqrt(2 * (0.8**2 + 1.2**2))))
    return found


def coverage(
    patients: int, draws: int, kinds: tuple[str, ...] = ("segmentation", "classification")
) -> dict:
    """Share of intervals that hold the true score, and of draws without an interval: name ->
    (share, share).
    """
    truth = true_scores()
    rng = np.random.default_rng(patients)
    names = {name: of for name, of in SCORES.items() if of[0] in kinds}
    held = dict.fromkeys(names, 0)
    given = dict.fromkeys(names, 0)
    for _ in range(draws):
        found = {kind: scores_of(kind, rng, patients) for kind in kinds}
        for name, (kind, score) in names.items():
            interval = found[kind][score].get("interval")
            if interval:
                given[name] += 1
                held[name] += interval[0] <= truth[name] <= interval[1]
    return {name: (held[name] / max(given[name], 1), 1 - given[name] / draws) for name in names}


def alike(rng: np.random.Generator, owner: np.ndarray) -> np.ndarray:
    """Dice of the same slices by two methods that do not differ, [2N]: each has its own luck with
    every patient.
    """
    patients = int(owner.max()) + 1
    common = dice_of(rng, owner)
    own = [
        0.1 * rng.standard_normal(patients)[owner] + 0.05 * rng.standard_normal(owner.size)
        for _ in range(2)
    ]
    return np.clip(np.concatenate([common + one for one in own]), 0, 1)


def false_alarms(patients: int, draws: int, of: Callable = alike, flips: int = 999) -> float:
    """Share of tests with p < 0.05 of two methods that do not differ."""
    rng = np.random.default_rng(patients)
    found = 0
    for _ in range(draws):
        owner = slices_of(rng, patients)
        both = of(rng, owner)
        names = [str(k) for k in owner]
        test = paired_test(
            mean_of(both), names, np.ones(owner.size), flips=flips, seed=int(rng.integers(2**31))
        )
        found += test["p_value"] < 0.05
    return found / draws


def main(draws: int) -> None:
    print(
        f"95 % intervals that hold the true score, of {draws:,} draws each "
        "(in brackets: draws without an interval)"
    )
    print(
        "patients".ljust(10)
        + "".join(name.rjust(20) for name in SCORES)
        + "p < 0.05, no difference".rjust(26)
    )
    for patients in COUNTS:
        found = coverage(patients, draws)
        cells = [f"{held:.1%} ({none:.1%})".rjust(20) for held, none in found.values()]
        print(
            str(patients).ljust(10)
            + "".join(cells)
            + f"{false_alarms(patients, draws):.1%}".rjust(26),
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
