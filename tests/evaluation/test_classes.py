"""A segmenter that keeps classes apart: what it predicts, what is counted, scored and written."""

from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from covjax.data.loader import eval_batches
from covjax.evaluation.options import PLAIN, Options
from covjax.evaluation.postprocess import remove_small
from covjax.evaluation.predict import collect, make_predictor
from covjax.evaluation.results import evaluate_stage
from covjax.metrics import confusion_matrix, per_image_dice, surface_scores
from covjax.stages.segmentation import segmentation_task
from tests.evaluation.linear import stage

CLASSES = ("background", "consolidation", "effusion")


class Brightness(nn.Module):
    """Class 1 from a brightness of 60 on, class 2 from 160 on."""

    @nn.compact
    def __call__(self, x, *, train=False):
        x = x[..., 0] + 100  # which the stage subtracts
        return jnp.stack([0 * x, x - 60, 2 * x - 220], -1) / 50


@pytest.fixture(scope="module")
def made():
    """The stage, slices of random brightness and their masks."""
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 255], (5, 12, 9), p=[0.6, 0.2, 0.1, 0.1]).astype(np.uint8)
    images = rng.integers(0, 256, truth.shape).astype(np.uint8)
    images[rng.random(images.shape) < 0.5] = 20
    model = stage(Brightness(), truth.shape[1:], "segmenter")
    statistics = model.statistics._replace(class_counts=np.ones(3), class_weights=np.ones(3))
    config = replace(model.config, slices="all")
    task = segmentation_task(CLASSES)
    return replace(model, config=config, task=task, statistics=statistics), images, truth


def predicted_by_hand(images):
    return np.where(images > 160, 2, np.where(images > 60, 1, 0)).astype(np.uint8)


def rows_of(made, keep, options=PLAIN):
    model, images, truth = made
    items = [
        {"image": i, "mask": m, "label": np.int32(1)} for i, m in zip(images, truth, strict=True)
    ]
    return collect(make_predictor(model, keep, options)({}, eval_batches(items, batch_size=2)))


def test_the_likeliest_class_is_predicted_and_its_boundary_is_that_of_all(made):
    _, images, truth = made
    rows = rows_of(made, ("predicted", "pixel_probability", "surface"))
    want = predicted_by_hand(images)
    np.testing.assert_array_equal(rows["predicted"], want)
    np.testing.assert_array_equal(rows["confusion"], confusion_matrix(truth, want, 3))
    x = images.astype(np.float64)
    e = np.exp(np.stack([0 * x, x - 60, 2 * x - 220], -1) / 50)
    np.testing.assert_allclose(rows["pixel_probability"], 1 - e[..., 0] / e.sum(-1), atol=1e-5)
    boundary = surface_scores(np.where(truth == 255, 255, truth > 0), (want > 0).astype(int))
    for name, values in boundary.items():
        np.testing.assert_array_equal(rows[name], values)


def test_small_components_go_whatever_their_class(made):
    _, images, truth = made
    rows = rows_of(made, ("predicted",), Options(min_size=6))
    want = remove_small(predicted_by_hand(images), 6)
    np.testing.assert_array_equal(rows["predicted"], want)
    np.testing.assert_array_equal(rows["confusion"], confusion_matrix(truth, want, 3))


def test_results_name_the_classes(made):
    model, _, truth = made
    data = SimpleNamespace(patients=("p", "p", "q", "q", "r"), unit="pixels")
    found = evaluate_stage(model, rows_of(made, ("surface", "lesions")), data, np.arange(5))
    assert found.section["classes"] == list(CLASSES) and np.shape(found.section["confusion"]) == (
        3,
        3,
    )
    scores = found.section["scores"]
    confusion = np.array(found.section["confusion"])
    assert scores["iou_effusion"]["value"] == pytest.approx(
        confusion[2, 2] / (confusion[2].sum() + confusion[:, 2].sum() - confusion[2, 2])
    )
    assert (
        model.task.best == "mean_dice"
        and {"dice_infected", "hd95_infected_per_image"} <= scores.keys()
    )
    np.testing.assert_array_equal(found.columns["dice"], per_image_dice(found.confusion))
    counted = (truth != 255).sum((1, 2))
    for k, name in enumerate(CLASSES[1:], start=1):
        np.testing.assert_allclose(
            found.columns[f"true_share_{name}"], (truth == k).sum((1, 2)) / counted
        )
    whole = sum(found.columns[f"predicted_share_{name}"] for name in CLASSES[1:])
    np.testing.assert_allclose(whole, found.columns["predicted_share"])
