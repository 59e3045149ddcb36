"""Scores predictions that come from anywhere: numpy arrays in, scores with intervals out.

python examples/metrics_alone.py
"""

import numpy as np

from covjax.metrics import (
    classification_scores,
    confusion_matrix,
    segmentation_scores,
    surface_scores,
)


def show(name: str, score: dict) -> None:
    interval = score.get("interval") or score.get("no_interval")
    print(f"{name} {score['value']:.3f}, n {score['n']}: {interval}")


def main() -> None:
    random = np.random.default_rng(0)
    patients = [f"patient{k // 5}" for k in range(60)]  # 12 patients, 5 slices each
    labels = random.integers(0, 2, 60)
    log_odds = 2.0 * labels - 1 + random.normal(size=60)
    calls = classification_scores(labels, log_odds=log_odds, patients=patients)
    for name in ("accuracy", "sensitivity", "roc_auc"):
        show(name, calls[name])

    truth = np.zeros((60, 64, 64), np.int32)
    truth[:, 20:40, 16:32] = 1
    shifts = random.integers(1, 6, 60)  # rows that each prediction lies too low
    predicted = np.stack(
        [np.roll(mask, by, axis=0) for mask, by in zip(truth, shifts, strict=True)]
    )
    counts = confusion_matrix(truth, predicted, num_classes=2)
    masks = segmentation_scores(counts, ("background", "infected"), patients)
    show("dice_infected", masks["dice_infected"])
    distances = surface_scores(truth, predicted, spacing=(0.7, 0.7))  # mm
    print(f"hd95 {distances['hd95'][:, 1].mean():.2f} mm")


if __name__ == "__main__":
    main()
