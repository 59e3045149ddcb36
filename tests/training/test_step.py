"""One training step, and several, on one device and on four: the same batch gives the same
result.
"""

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # two processes that compile both networks
STAGES = ("classifier", "segmenter")
STEPS = 5


def of(found, prefix):
    return {k: v for k, v in found.items() if k.startswith(prefix)}


def assert_same(one, four, tolerance):
    """Leaf by leaf, relative to the largest value of the leaf, or to 0.1 where all are small."""
    assert one.keys() == four.keys() and one
    for key, want in one.items():
        error = np.abs(four[key].astype(float) - want).max() / max(np.abs(want).max(), 0.1)
        assert error <= tolerance, (key, error)


def test_the_devices_are_really_there(on_devices):
    assert {count: int(found["devices"]) for count, found in on_devices.items()} == {1: 1, 4: 4}


@pytest.mark.parametrize("stage", STAGES)
def test_loss_and_state_with_dropout_augmentation_and_padding(on_devices, stage):
    one = on_devices[1]
    four = on_devices[4]
    # nor does the start depend on them
    assert_same(of(one, f"{stage} before"), of(four, f"{stage} before"), 0)
    for k in range(1, STEPS + 1):
        # The loss after a step inherits what test_gradients says of max-pooling.
        assert_same(
            of(one, f"{stage} step{k} metrics"),
            of(four, f"{stage} step{k} metrics"),
            1e-5 if k == 1 else 1e-4,
        )
        assert_same(of(one, f"{stage} step{k}["), of(four, f"{stage} step{k}["), 1e-5)
    losses = {float(one[f"{stage} step{k} metrics['loss']"]) for k in range(1, STEPS + 1)}
    assert len(losses) == STEPS  # fresh augmentation and dropout every step


@pytest.mark.parametrize("stage", STAGES)
def test_gradients(on_devices, stage):
    errors = []
    for k in range(1, STEPS + 1):
        one, four = (of(on_devices[n], f"{stage} step{k} gradient") for n in (1, 4))
        assert one.keys() == four.keys() and len(one) > 20
        one, four = (
            np.concatenate([g[name].ravel() for name in one]).astype(float) for g in (one, four)
        )
        errors.append(np.linalg.norm(four - one) / np.linalg.norm(one))
    # Where two pixels of a max-pool are alike but for rounding, the gradient of that step may go to
    # either.
    assert np.median(errors) <= 1e-5 and max(errors) < 0.1, errors


@pytest.mark.parametrize("stage", STAGES)
def test_batch_norm_finalised_over_the_training_set(on_devices, stage):
    one, four = (of(on_devices[n], f"{stage} finalised") for n in (1, 4))
    assert_same(one, four, 1e-5)


def test_padding_weighs_nothing(on_devices):
    # Six of eight slices are valid; of a segmenter's pixels, those to ignore do not count either.
    assert on_devices[1]["classifier step1 metrics['weight']"] == 6
    assert 0 < on_devices[1]["segmenter step1 metrics['weight']"] < 6 * 48 * 40


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("stage", STAGES)
def test_the_state_is_donated(on_devices, stage, count):
    for k in range(1, STEPS + 1):
        assert on_devices[count][f"{stage} step{k} donated"].all()


def test_a_batch_that_devices_cannot_share_is_an_error(on_devices):
    assert on_devices[4]["uneven"] == "batch_size: 6 is not a multiple of the 4 devices"
    assert "uneven" not in on_devices[1]


@pytest.mark.parametrize("stage", STAGES)
def test_steps_are_finite(on_devices, stage):
    assert all(
        bool(on_devices[1][f"{stage} step{k} metrics['finite']"]) for k in range(1, STEPS + 1)
    )


def test_a_stochastic_pooling_draws_by_the_place_in_the_global_batch(on_devices):
    one, four = (on_devices[count]["stochastic pooling"] for count in (1, 4))
    np.testing.assert_array_equal(one, four)
    assert one.shape == (8, 4, 4, 4) and len({sample.tobytes() for sample in one}) == 8
