"""Prediction gives the same rows, in order, whatever the batch size and the number of devices."""

import numpy as np
import pytest

from covjax.evaluation.predict import collect, mean_loss

pytestmark = pytest.mark.slow  # two processes that compile both networks
SIZES = (3, 8)
SLICES = 13


def rows(found, stage, size, kind="batch"):
    prefix = f"{stage} {kind}{size}"
    return {k.removeprefix(prefix)[2:-2]: v for k, v in found.items() if k.startswith(prefix + "[")}


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("size", SIZES)
def test_classifier(on_devices, size, devices):
    want = rows(on_devices[1], "classifier", 3)
    got = rows(on_devices[devices], "classifier", size)
    assert got["probability"].shape == (SLICES,)
    assert got.keys() == {"probability", "log_odds", "label", "loss", "weight"}
    # as devices.py made them: in order
    np.testing.assert_array_equal(got["label"], np.arange(SLICES) % 2)
    np.testing.assert_allclose(got["probability"], want["probability"], atol=1e-6)
    np.testing.assert_allclose(got["loss"], want["loss"], rtol=1e-5)
    assert len(np.unique(want["probability"])) == SLICES


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("size", SIZES)
def test_segmenter(on_devices, size, devices):
    want = rows(on_devices[1], "segmenter", 3)
    got = rows(on_devices[devices], "segmenter", size)
    assert got["confusion"].shape == (SLICES, 2, 2) and got["predicted"].shape == (SLICES, 48, 40)
    np.testing.assert_array_equal(got["confusion"], want["confusion"])
    np.testing.assert_array_equal(got["predicted"], want["predicted"])
    # two rows of every mask are to be ignored
    np.testing.assert_array_equal(got["confusion"].sum((1, 2)), 46 * 40)
    np.testing.assert_array_equal(
        got["confusion"][:, :, 1].sum(1), got["predicted"][:, 2:].sum((1, 2))
    )
    np.testing.assert_allclose(got["loss"], want["loss"], rtol=1e-5)
    assert len({c.tobytes() for c in want["confusion"]}) > SLICES // 2


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("size", SIZES)
def test_delivered_masks(on_devices, size, devices):
    want, got = (
        rows(on_devices[n], "segmenter", k, "native") for n, k in ((1, 3), (devices, size))
    )
    assert got["predicted"].shape == (SLICES, 75, 61)
    for name in (
        "predicted",
        "confusion",
        "lesions",
        "lesions_lost",
        "nsd",
        "hd95",
        "assd",
        "bf_score",
    ):
        np.testing.assert_array_equal(got[name], want[name], err_msg=name)


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("stage", ["classifier", "segmenter"])
def test_options(on_devices, stage, devices):
    want = rows(on_devices[1], stage, 1, "options")
    for size in (1, 8):
        got = rows(on_devices[devices], stage, size, "options")
        assert got.keys() == want.keys() and len(got["loss"]) == SLICES
        for name, values in want.items():
            np.testing.assert_allclose(got[name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    if stage == "segmenter":
        np.testing.assert_array_equal(
            got["confusion"][:, :, 1].sum(1), got["predicted"][:, 2:].sum((1, 2))
        )


def test_mean_loss_does_not_depend_on_batches():
    whole = {"loss": np.array([1.0, 2.0, 6.0]), "weight": np.array([1.0, 4.0, 1.0])}
    parts = [{k: v[part] for k, v in whole.items()} for part in (slice(0, 2), slice(2, 3))]
    assert mean_loss(collect(parts)) == mean_loss(whole) == 9 / 6
    assert np.isnan(mean_loss({"loss": np.zeros(2), "weight": np.zeros(2)}))
