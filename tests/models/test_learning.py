"""Every classifier learns: on 64 phantom slices the training loss falls to half of what guessing
costs.

Compiling most of them takes a minute, so the tests take one, small; for all, or those named, in
both precisions, and in which epoch each gets there: python -m tests.models.test_learning
[NAME ..] [--dtypes bfloat16] [--size 48]
"""

import argparse
import time
from functools import cache, partial
from itertools import islice

import jax
import numpy as np
import pytest

from covjax.data.phantom.picture import phantom_slice
from covjax.models import list_models, model_options
from covjax.optim.optimizer import make_optimizer
from covjax.parallel import pmap_train, replicate, shard
from covjax.settings import default_config, read_settings
from covjax.stages.stage import init_variables, make_stage
from covjax.stages.statistics import measure_statistics
from covjax.training.state import create_state
from covjax.training.step import train_step

HALF = np.log(2) / 2  # of what guessing costs
EPOCHS = 40
BATCH = 8
SIZE = 82  # the paper's size
RATES = {"vgg": 3e-5}  # of what has another rate than 1e-3, by how its name begins


@cache
def batches(size):
    """64 slices of 16 patients, 4 of each, in batches."""
    places = [(patient, k) for patient in range(16) for k in (2, 4, 6, 8)]
    slices = [phantom_slice(patient, k, slices_per_patient=12, size=size) for patient, k in places]
    image, mask, label = (np.stack(part) for part in zip(*slices, strict=True))
    assert 16 < label.sum() < 48
    order = np.random.default_rng(0).permutation(len(label)).reshape(-1, BATCH)
    valid = np.ones(BATCH, bool)
    return [{"image": image[k], "mask": mask[k], "label": label[k], "valid": valid} for k in order]


def losses(name, dtype="float32", size=SIZE):
    """Yields the mean training loss, that of auxiliary heads included, of one epoch after
    another.
    """
    run = default_config("classifier").unlock()
    config = run.classifier
    options = model_options(name)
    if "dropout" in options:  # which only delays learning 64 slices by heart
        options["dropout"] = 0.0
    config.model = {"name": name, **options}
    config.update(dtype=dtype, batch_size=BATCH)
    config.input.update(
        enhance="none", size=(size, size), slice_size=(size, size), normalize="standardize"
    )
    rate = next((rate for beginning, rate in RATES.items() if name.startswith(beginning)), 1e-3)
    config.optimizer.update(name="adamw", learning_rate=rate)
    settings = read_settings(run).stages["classifier"]
    statistics = measure_statistics("classifier", settings, batches(size))
    stage = make_stage("classifier", settings, statistics)
    optimizer = make_optimizer(settings.optimizer, lambda step: rate)
    step = pmap_train(partial(train_step, stage=stage, optimizer=optimizer))
    variables = init_variables(stage.model, settings, 0)
    state = replicate(create_state(variables, optimizer, 0, ema=False))
    while True:
        epoch = []
        for batch in batches(size):
            state, metrics = step(state, shard(batch))
            assert bool(metrics["finite"]), (
                f"{name} in {dtype}: the loss or a parameter is not finite"
            )
            epoch.append(float(metrics["loss"]))
        yield np.mean(epoch)


def until_half(name, dtype="float32", size=SIZE):
    """Returns the losses up to the first of HALF or less, of at most EPOCHS epochs."""
    history = []
    for loss in islice(losses(name, dtype, size), EPOCHS):
        history.append(loss)
        if loss <= HALF:
            break
    return history


@pytest.mark.slow
def test_the_loss_falls_by_half():
    history = until_half("resnet18", size=48)  # the one that is compiled soonest
    assert history[-1] <= HALF, history


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=list_models("classification"))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--size", type=int, default=SIZE, help="side of the slices, in pixels")
    options = parser.parse_args()
    for name in options.names:
        for dtype in options.dtypes:
            begun = time.perf_counter()
            history = until_half(name, dtype, options.size)
            seconds = time.perf_counter() - begun
            outcome = "half" if history[-1] <= HALF else "NOT half"
            print(
                f"{name:20} {dtype:9} {outcome} in epoch {len(history)}  "
                f"{history[0]:.3f} -> {history[-1]:.3f}  {seconds:.0f} s",
                flush=True,
            )
            jax.clear_caches()


if __name__ == "__main__":
    main()
