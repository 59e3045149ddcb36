"""Trains and evaluates CoV-RASeg from Python, small, on synthetic slices; prints its scores.

python examples/train_from_python.py [WORKDIR]
"""

import json
import sys
from pathlib import Path

from covjax.framework import train_run
from covjax.settings import default_config, read_settings

SCORES = ("dice_infected", "dice_infected_per_image", "iou_infected")


def small_config():
    """Returns a configuration that trains in about a minute; add "classifier" for both stages."""
    config = default_config("segmenter")
    config.data.phantom.update(patients=20, slices_per_patient=6, size=64)
    config.segmenter.input.update(size=(64, 64), slice_size=(64, 64), normalize="standardize")
    config.segmenter.model.features = 16
    config.segmenter.loss.name = "ce_dice"
    config.segmenter.optimizer.update(name="adamw", learning_rate=1e-2, schedule="cosine")
    config.segmenter.epochs = 20
    return config


def main(workdir: Path) -> None:
    train_run(read_settings(small_config()), workdir)
    summary = json.loads((workdir / "results" / "test" / "summary.json").read_text())
    for name in SCORES:
        score = summary["segmenter"]["scores"][name]
        print(f"{name} {score['value']:.3f}, n {score['n']}, interval {score.get('interval')}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/small"))
