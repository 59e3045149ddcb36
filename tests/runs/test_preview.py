"""The picture of what augmentation does: slices that training begins with, mixed as their labels
say.
"""

import io

import numpy as np
import pytest
from PIL import Image

from covjax.data.prepared.dataset import prepare
from covjax.data.splits.splits import make_splits, split_indices
from covjax.report import augmentation_grid
from covjax.runs.preview import DRAWS, SLICES, preview_augmentation
from covjax.settings import read_settings
from tests.trained import tiny_config


def test_slices_of_the_training_split_as_they_are_and_augmented(tmp_path):
    config = tiny_config(tmp_path).unlock()
    config.classifier.augment.update(mixup=0.5, rotation=0.0, scale=0.0, intensity=0.0)
    config.segmenter.input.size = (48, 48)
    config.seed = 3  # with which healthy and infected slices are neighbours
    previews = preview_augmentation(read_settings(config))
    data = prepare(config.data)
    train = split_indices(
        data, make_splits(data, read_settings(config).split, config.seed), "train"
    )
    for name, (ids, images, masks, infected) in previews.items():
        assert (
            images.shape == (1 + DRAWS, SLICES, 48, 48)
            and masks.shape[:2] == infected.shape == images.shape[:2]
        )
        for k, i in enumerate(map(data.ids.index, ids)):
            assert i in train and infected[0, k] == data.labels[i]
            np.testing.assert_array_equal(images[0, k], data.decode(i)[0])
        assert all(np.abs(images[k] - images[0]).max() > 1 for k in range(1, 1 + DRAWS)), name
    # The flips and then the mixing, by hand.
    _, images, _, infected = previews["classifier"]
    flips = [images[0, ..., ::r, ::c] for r in (1, -1) for c in (1, -1)]
    for k in np.ndindex(infected[1:].shape):
        image = images[1:][k]
        pair = (k[1], k[1] ^ 1)
        fits = [
            np.linalg.lstsq(np.stack([a[pair[0]].ravel(), b[pair[1]].ravel()], 1), image.ravel())
            for a in flips
            for b in flips
        ]
        weights, error, *_ = min(fits, key=lambda fit: fit[1].sum())
        assert error.sum() < 1 and weights[0] >= 0.5 - 1e-3
        assert infected[1:][k] == pytest.approx(weights @ infected[0, list(pair)], abs=1e-3)
    assert ((infected > 0) & (infected < 1)).any()
    width, height = Image.open(io.BytesIO(augmentation_grid(previews))).size
    assert width > 1000 and height > 1.3 * width * 2 * SLICES / (1 + DRAWS) * 0.7
