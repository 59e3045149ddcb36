"""Draws the README's picture, the median of the test split of a finished run on the phantom.

python docs/make_example.py runs/quickstart
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from covjax.preprocess.enhance import enhance
from covjax.settings import load_settings

ROOT = Path(__file__).parents[1]
TRUE = "#56B4E9"
PREDICTED = "#E69F00"


def main(workdir: Path) -> None:
    config = load_settings(workdir)
    examples = np.load(workdir / "results" / "test" / "examples.npz")
    chosen = int(np.flatnonzero(examples["rank"] == "median")[0])
    image = examples["image"][chosen]
    preset = config.stages["classifier"].input
    seen = enhance(image[None, ..., None], preset.enhance, preset.gain, tuple(preset.size))[
        0, ..., 0
    ]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.imshow(image, cmap="gray", vmin=0, vmax=255)
    left.set_title("slice (synthetic)", fontsize=9)
    middle.imshow(seen, cmap="gray", vmin=0, vmax=255)
    middle.set_title(f"enhanced: {preset.enhance}, {preset.gain} gain", fontsize=9)
    right.imshow(image, cmap="gray", vmin=0, vmax=255)
    right.contour(examples["truth"][chosen], [0.5], colors=TRUE, linewidths=1.5)
    right.contour(
        examples["predicted"][chosen], [0.5], colors=PREDICTED, linewidths=1.5, linestyles="dashed"
    )
    right.set_title(f"true and predicted: Dice {examples['dice'][chosen]:.2f}", fontsize=9)
    for axes in (left, middle, right):
        axes.set_axis_off()
    figure.savefig(ROOT / "docs" / "example.png", dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
