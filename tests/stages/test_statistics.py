"""What is measured of the training split, against counts by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from covjax.configs import cov_raseg
from covjax.data.loader import eval_batches
from covjax.data.prepared.dataset import prepare
from covjax.data.splits.splits import make_splits
from covjax.optim.settings import LossSettings
from covjax.preprocess.settings import InputSettings
from covjax.runs.slices import split_reader
from covjax.settings import read_settings
from covjax.stages import task_of
from covjax.stages.statistics import measure_statistics, statistics_from_json, statistics_to_json
from tests import places

REAL = places.REAL / "prlab21"
SIZE = (6, 8)


def stage_config(task, rule):
    """The settings of a stage for tiny slices, whatever its network takes."""
    size = InputSettings(size=SIZE, slice_size=SIZE, channels=3 if task == "segmenter" else 1)
    made = task_of(task).settings()
    return replace(made, input=size, loss=LossSettings(class_weights=rule))


def measured(task, rule, images, masks, labels, batch_size):
    """Statistics of slices in padded batches."""
    items = [
        {"image": i, "mask": m, "label": n} for i, m, n in zip(images, masks, labels, strict=True)
    ]
    return measure_statistics(
        task, stage_config(task, rule), list(eval_batches(items, batch_size=batch_size))
    )


SLICES = st.lists(
    st.sampled_from([(0,), (1,), (0, 1), (0, 255), (1, 255), (0, 1, 255)]), min_size=2, max_size=9
)


@settings(max_examples=25, deadline=None)
@given(SLICES, st.integers(0, 999))
def test_median_frequency_counts_the_pixels_of_the_slices_in_which_a_class_occurs(values, seed):
    rng = np.random.default_rng(seed)
    masks = np.stack([rng.choice(some, SIZE) for some in values]).astype(np.uint8)
    assume((masks == 0).any() and (masks == 1).any())
    images = rng.integers(0, 256, masks.shape).astype(np.uint8)
    got = measured("segmenter", "median_frequency", images, masks, np.ones(len(masks), np.int32), 4)
    counts = np.array([(masks == k).sum() for k in (0, 1)])
    pixels = np.array(
        [sum((mask != 255).sum() for mask in masks if (mask == k).any()) for k in (0, 1)]
    )
    np.testing.assert_array_equal(got.class_counts, counts)
    np.testing.assert_array_equal(got.image_pixels, pixels)
    np.testing.assert_allclose(
        got.class_weights, np.median(counts / pixels) / (counts / pixels), rtol=1e-6
    )
    np.testing.assert_allclose(got.normalization.mean, images.mean(), rtol=1e-5)
    np.testing.assert_allclose(got.normalization.std, images.std(), rtol=1e-4)
    again = statistics_from_json(statistics_to_json(got))
    for field in ("class_counts", "class_weights", "image_pixels"):
        np.testing.assert_array_equal(getattr(again, field), getattr(got, field))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mean", [None]),
        ("mean", 3.0),
        ("std", [float("nan")]),
        ("std", [-2.0]),
        ("std", [1.0, 1.0]),
        ("class_counts", [3, -1]),
        ("class_weights", [1.0, float("inf")]),
        ("class_weights", [1.0]),
    ],
)
def test_statistics_that_nothing_can_have_are_refused(field, value):
    images = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8)
    labels = np.array([0, 1, 0, 1], np.int32)
    stored = statistics_to_json(measured("classifier", "none", images, images, labels, 4))
    statistics_from_json(stored)
    with pytest.raises(ValueError, match="out of range|differ in length"):
        statistics_from_json(stored | {field: value})


def test_of_a_classifier_the_frequencies_are_those_of_slices():
    images = np.zeros((10, *SIZE), np.uint8)
    labels = np.array([0] * 8 + [1] * 2, np.int32)
    got = measured("classifier", "median_frequency", images, images, labels, 4)
    np.testing.assert_allclose(got.class_weights, [0.5 / 0.8, 0.5 / 0.2], rtol=1e-6)
    assert (
        got.image_pixels is None
        and statistics_from_json(statistics_to_json(got)).image_pixels is None
    )


def test_static_attention_of_the_papers_slices(tmp_path):
    """All 829 slices: infection is rare over all, and half as rare in the slices that have any."""
    if not REAL.is_dir():
        pytest.skip(f"{REAL} absent; set COVJAX_TEST_DATA to run this on real slices")
    config = cov_raseg.get_config()
    with config.unlocked():
        config.data.update(source="prlab21", path=str(REAL), prepared_dir=str(tmp_path))
        config.segmenter.update(slices="all")
        config.segmenter.loss.class_weights = "median_frequency"
    settings = read_settings(config)
    data = prepare(settings.data)
    splits = make_splits(data, settings.split, 0)
    reader = split_reader("segmenter", settings, data, splits, "train", cache=False)
    reader.indices = np.arange(len(data))
    statistics = measure_statistics(
        "segmenter",
        settings.stages["segmenter"],
        eval_batches(reader, batch_size=32),
        settings.data,
    )
    background, infected = statistics.class_weights
    over_all = statistics.class_counts[0] / statistics.class_counts[1]
    assert over_all == pytest.approx(133, abs=3) and infected / background == pytest.approx(
        59, abs=2
    )
