"""Boundary scores against a distance transform per image, and the bootstrap of all scores of a
split.

    python -m tests.benchmarks.metrics [--source prlab21 --path PATH]

Prints, for 74 masks of 304x304 and as prediction the mask of another threshold or the mask moved
and roughened, the seconds of covjax and of the plain loop over images in the same run (the fastest
of 5), their ratio, and the largest difference of a value; then the seconds of 10,000 resamples of
829 images for all scores of a classifier and of a segmenter.
"""

import argparse
import json
import time

import numpy as np
from scipy import ndimage

from covjax.data.sources.registry import open_source
from covjax.metrics import classification_scores, segmentation_scores, surface_scores
from covjax.settings import default_config
from tests.metrics import surface_oracle

COUNT = 74
SIZE = 304
RUNS = 5


def masks(source: str, path: str, frame: str) -> np.ndarray:
    """Returns the masks of the first infected slices of a source, uint8 [74, 304, 304]."""
    config = default_config().data.unlock()
    config.update(source=source, path=path, frame=frame)
    slices = open_source(config)
    found = []
    for i in range(len(slices.ids)):
        mask = slices.load(i).mask
        if mask is not None and (mask == 1).any():
            top, left = ((SIZE - side) // 2 for side in mask.shape)
            found.append(
                np.pad(
                    mask, ((top, SIZE - mask.shape[0] - top), (left, SIZE - mask.shape[1] - left))
                )
            )
        if len(found) == COUNT:
            return np.stack(found)
    raise SystemExit(f"{source}: fewer than {COUNT} infected slices")


def imperfect(truth: np.ndarray) -> np.ndarray:
    """Returns masks as a network might predict them: blurred, moved and with a rough outline."""
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.standard_normal(truth.shape), (0, 4, 4))
    blurred = ndimage.gaussian_filter(truth.astype(float), (0, 3, 3))
    return np.roll(blurred + noise > 0.4, (2, -3), (1, 2)).astype(np.uint8)


def fastest(function, *arguments):
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        result = function(*arguments)
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def compare(name: str, truth: np.ndarray, predicted: np.ndarray) -> None:
    ours, got = fastest(surface_scores, truth, predicted)
    plain, expected = fastest(surface_oracle.surface_scores, truth, predicted)
    for key, values in got.items():
        np.testing.assert_array_equal(np.isnan(values), np.isnan(expected[key]))
    difference = max(np.nanmax(np.abs(got[key] - expected[key]), initial=0) for key in got)
    result = {"masks": name, "covjax_s": round(ours, 3), "plain_s": round(plain, 3)}
    print(
        json.dumps(
            result | {"times_plain": round(plain / ours, 2), "difference": float(difference)}
        ),
        flush=True,
    )


def resample(rng: np.random.Generator) -> None:
    """Times 10,000 resamples of 829 slices of unknown patients, all scores at once."""
    slices = 829
    unknown = [""] * 829
    labels = rng.integers(0, 2, slices)
    probability = rng.random(slices)
    confusions = rng.integers(0, 1000, (slices, 2, 2))
    classifier, _ = fastest(classification_scores, labels, probability, 0.5, unknown)
    segmenter, _ = fastest(segmentation_scores, confusions, ("background", "infected"), unknown)
    print(
        json.dumps(
            {"resamples_classifier_s": round(classifier, 3), "segmenter_s": round(segmenter, 3)}
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="phantom")
    parser.add_argument("--path", default="")
    options = parser.parse_args()
    for frame in ("ct", "full") if options.source == "prlab21" else ("ct",):
        truth = masks(options.source, options.path, frame)
        compare(f"{options.source}, {frame}", truth, imperfect(truth))
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.standard_normal((2, COUNT, SIZE, SIZE)), (0, 0, 3, 3)) > 0
    compare("half the picture, many outlines", *smooth.astype(np.uint8))
    compare("noise", *(rng.random((2, COUNT, SIZE, SIZE)) < 0.5).astype(np.uint8))
    resample(rng)


if __name__ == "__main__":
    main()
