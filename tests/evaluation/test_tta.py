"""Test-time augmentation averages what the views say, and brings masks back exactly."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, special

from covjax.configs import classify
from covjax.data.loader import eval_batches
from covjax.errors import InputError
from covjax.evaluation.options import PLAIN, Options, make_options
from covjax.evaluation.predict import collect, make_predictor
from covjax.evaluation.tta import SCALES, averaged_outputs, check_tta
from covjax.settings import read_settings
from covjax.stages.stage import Calibration
from tests.evaluation.linear import KERNEL, LinearClassifier, LinearSegmenter, stage

SIZE = (21, 32)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, *SIZE)).astype(np.uint8)


def resized(x, size):
    return np.asarray(jax.image.resize(jnp.asarray(x), size, "bilinear"), np.float64)


def by_hand(image, tta, classify):
    """The average over all views of one slice, each computed with numpy and scipy."""
    found = []
    for axes in [(), (0,), (1,), (0, 1)] if "flips" in tta else [()]:
        for scale in SCALES if "scales" in tta else [1]:
            x = (
                resized(
                    np.flip(image, axes).astype(np.float32), [round(side * scale) for side in SIZE]
                )
                - 100
            )
            if classify:
                h, w = x.shape
                found.append(
                    special.expit(
                        (x * np.linspace(-1, 2, h)[:, None] * np.linspace(0, 1, w)).mean() / 50
                    )
                )
            else:
                p = special.expit(ndimage.correlate(x, KERNEL.astype(np.float64), mode="constant"))
                found.append(np.flip(resized(p, SIZE), axes))
    return np.mean(found, 0)


@pytest.mark.parametrize("tta", [("flips",), ("scales",), ("flips", "scales")])
@pytest.mark.parametrize(
    "model", [LinearClassifier(), LinearSegmenter()], ids=["classifier", "segmenter"]
)
def test_equals_the_average_by_hand(model, tta):
    outputs = averaged_outputs(stage(model, SIZE), {}, jnp.asarray(IMAGES), tta)
    want = np.stack([by_hand(image, tta, isinstance(model, LinearClassifier)) for image in IMAGES])
    got = jax.nn.softmax(outputs["logits"])
    np.testing.assert_allclose(got[..., 1], want, atol=2e-6)
    np.testing.assert_allclose(got.sum(-1), 1, atol=1e-6)
    one = jax.nn.softmax(stage(model, SIZE).logits({}, jnp.asarray(IMAGES), train=False))[..., 1]
    assert np.abs(one - want).max() > 1e-5


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_each_view_is_calibrated_before_the_average(temperature):
    plain = stage(LinearClassifier(), SIZE)
    calibrated = replace(plain, calibration=Calibration(temperature))
    items = [
        {"image": image, "mask": np.zeros(SIZE, np.uint8), "label": np.int32(1)} for image in IMAGES
    ]
    rows = collect(
        make_predictor(calibrated, (), Options(("flips",)))({}, eval_batches(items, batch_size=2))
    )
    views = [np.flip(IMAGES, axes) for axes in ((), 1, 2, (1, 2))]
    odds = [plain.logits({}, jnp.asarray(view), train=False).astype(jnp.float32) for view in views]
    want = np.mean(
        [special.softmax(np.asarray(o, np.float64) / temperature, -1)[:, 1] for o in odds], 0
    )
    np.testing.assert_allclose(rows["probability"], want, rtol=1e-4)
    np.testing.assert_allclose(rows["log_odds"], special.logit(want), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model, size, least", [("inception_v3", 96, 75), ("densenet201", 36, 29)])
def test_views_that_a_network_does_not_take_are_refused_before_it_starts(model, size, least):
    config = classify.get_config(f"model={model}").copy_and_resolve_references()
    with config.unlocked():
        config.classifier.input.size = (size, size)
    side = round(0.75 * size)
    words = (
        f"--tta: scales.*{side}x{side} pixels, but {model} takes {least} or more; "
        "use --tta=flips or leave"
    )
    with pytest.raises(InputError, match=words):
        check_tta(read_settings(config), ("scales",))
    check_tta(read_settings(config), ("flips",))  # the remedy
    check_tta(read_settings(config), ())


@pytest.mark.parametrize(
    "model", [LinearClassifier(), LinearSegmenter()], ids=["classifier", "segmenter"]
)
def test_mirrored_slices_get_mirrored_predictions(model):
    predict = jax.jit(
        lambda x: averaged_outputs(stage(model, SIZE), {}, x, ("flips", "scales"))["logits"]
    )
    plain = predict(jnp.asarray(IMAGES))
    for axis in (1, 2):
        mirrored = predict(jnp.flip(jnp.asarray(IMAGES), axis))
        back = jnp.flip(mirrored, axis) if mirrored.ndim == 4 else mirrored
        np.testing.assert_allclose(back, plain, atol=1e-4)


@pytest.mark.parametrize("tta", [(), ("flips", "scales")])
@pytest.mark.parametrize(
    "model", [LinearClassifier(), LinearSegmenter()], ids=["classifier", "segmenter"]
)
def test_rows_do_not_depend_on_the_batch(model, tta):
    items = [
        {"image": image, "mask": (image > 128).astype(np.uint8), "label": np.int32(1)}
        for image in IMAGES
    ]
    predict = make_predictor(
        stage(model, SIZE), ("predicted", "pixel_probability", "features"), Options(tta, 3)
    )
    one, two = (collect(predict({}, eval_batches(items, batch_size=size))) for size in (1, 2))
    one, two = ({k: np.array(v) for k, v in rows.items()} for rows in (one, two))
    assert two.keys() == one.keys()
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, atol=1e-6, rtol=1e-5, err_msg=name)
    if isinstance(model, LinearClassifier):
        np.testing.assert_allclose(one["features"][:, 1], 2 * one["features"][:, 0], rtol=1e-5)
        if not tta:
            np.testing.assert_allclose(
                special.expit(one["features"][:, 0]), one["probability"], rtol=1e-5
            )
    else:
        assert one["pixel_probability"].shape == (len(IMAGES), *SIZE)
        assert not one["predicted"][one["pixel_probability"] < 0.5].any()


def test_certain_probabilities_give_a_finite_loss():
    images = np.stack([np.full(SIZE, 255, np.uint8), np.zeros(SIZE, np.uint8)])
    model = stage(LinearSegmenter(), SIZE, normalize="standardize")
    certain = model.statistics.normalization._replace(std=np.full(1, 1e-4, np.float32))
    object.__setattr__(model, "statistics", model.statistics._replace(normalization=certain))
    items = [
        {"image": image, "mask": np.ones(SIZE, np.uint8), "label": np.int32(1)} for image in images
    ]
    rows = collect(
        make_predictor(model, (), Options(("flips",)))({}, eval_batches(items, batch_size=2))
    )
    assert np.isfinite(rows["loss"]).all() and rows["confusion"].sum() == images.size


def test_options():
    assert make_options() == PLAIN and PLAIN.in_force() == {}
    assert make_options(["scales", "flips"], 20).in_force() == {
        "tta": ["flips", "scales"],
        "min_size": 20,
    }
    for names in itertools.permutations(("flips", "scales")):
        assert make_options(names).tta == ("flips", "scales")
    with pytest.raises(InputError, match="--tta: 'flip' is unknown.*did you mean 'flips'"):
        make_options(["flip"])
    with pytest.raises(InputError, match="--min_size: -1"):
        make_options([], -1)
