"""Trains and predicts on as many devices as XLA is told to pretend, and saves what came out:
`devices.py OUT.npz`.

A script of its own, because the number of devices is fixed when jax starts. See `on_devices` in
conftest.py.
"""

import sys
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from covjax.configs import framework
from covjax.data.loader import eval_batches
from covjax.data.views import Native, whole_view
from covjax.errors import InputError
from covjax.evaluation.options import make_options
from covjax.evaluation.predict import collect, make_predictor
from covjax.nn.pooling import Pool
from covjax.ops.synchronise import synchronised
from covjax.optim.optimizer import make_optimizer, make_schedule
from covjax.parallel import AXIS, pmap_eval, pmap_train, replicate, round_up, shard, unshard
from covjax.preprocess.network_input import Normalization, slice_size
from covjax.settings import read_settings
from covjax.stages.stage import Statistics, init_variables, make_model, make_stage
from covjax.training.batch_norm import make_finaliser
from covjax.training.state import create_state
from covjax.training.step import train_step
from tests.evaluation.linear import LinearClassifier, LinearSegmenter
from tests.evaluation.linear import stage as linear_stage

BATCH = 8
STEPS = 5
SLICES = 13
SIZES = (48, 40)  # of the network's picture


def stage_config(name, dtype="float32"):
    run = framework.get_config().unlock()
    config = run[name]
    config.dtype = dtype
    config.input.update(size=SIZES, slice_size=(64, 64))
    # An area of one value, cut out or moved in from outside, makes ties in a max-pool, which
    # rounding decides. So nothing is cut out, and only the segmenter's slices are moved.
    moved = (
        {"rotation": 15.0, "scale": 0.1, "elastic": 0.1}
        if name == "segmenter"
        else {"rotation": 0.0, "scale": 0.0}
    )
    config.augment.update({"flip": True, "intensity": 0.1, **moved})
    if name == "classifier":
        config.augment.update(mixup=0.4, noise=0.05)
    config.optimizer.update(
        learning_rate=1e-6, momentum=0.0, weight_decay=0.0, schedule="constant", warmup_epochs=0.0
    )
    if name == "segmenter":
        config.model.features = 8
    return read_settings(run).stages[name]


def slices(config, count, seed=0):
    """Random blobs with their masks, some pixels to ignore."""
    rng = np.random.default_rng(seed)
    size = slice_size(config.input)
    y, x = np.indices(config.input.size) / np.array(config.input.size)[:, None, None]
    items = []
    for k in range(count):
        mask = ((x - rng.uniform(0.2, 0.8)) ** 2 + (y - rng.uniform(0.2, 0.8)) ** 2 < 0.05).astype(
            np.uint8
        )
        mask[:2] = 255
        image = rng.integers(0, 255, size).astype(np.uint8)
        items.append({"image": image, "mask": mask, "label": np.int32(k % 2)})
    return items


def natives(config, count):
    """The same slices, with themselves in a size of their own, the mask enlarged."""
    items = slices(config, count)
    for item in items:
        truth = np.asarray(Image.fromarray(item["mask"]).resize((61, 75), Image.Resampling.NEAREST))
        item["native"] = Native(
            whole_view(truth.shape)._replace(shape=SIZES, size=SIZES), truth, (0.8, 0.7)
        )
    return items


@jax.jit
def copied(tree):
    return jax.tree.map(jnp.copy, tree)


def made_up_statistics(config):
    normalization = Normalization(
        np.full(config.input.channels, 127, np.float32), np.ones(1, np.float32)
    )
    return Statistics(normalization, np.ones(2), np.ones(2))


def flat(prefix, tree):
    # A copy, because a numpy view of a buffer would keep it from being donated to the next step.
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(copied(tree)))
    return {prefix + jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def training(name, variables):
    config = stage_config(name)
    stage = make_stage(name, config, made_up_statistics(config))
    optimizer = make_optimizer(config.optimizer, make_schedule(config.optimizer, STEPS, 1))
    step = pmap_train(partial(train_step, stage=stage, optimizer=optimizer))
    state = replicate(create_state(copied(variables), optimizer, 0, ema=True))
    items = slices(config, BATCH)
    batch = {k: np.stack([item[k] for item in items]) for k in items[0]}
    batch["valid"] = np.array([True] * 5 + [False, True, False])
    image = {"image": batch["image"]}
    found = flat(f"{name} before", (state.params, state.batch_stats))
    found |= flat(
        f"{name} finalised", make_finaliser(stage)(state.params, state.batch_stats, [image, image])
    )
    program = step.lower(state, shard(batch)).compile()
    found |= {
        f"{name} program": np.array(program.as_text()),
        f"{name} leaves": np.array(len(jax.tree.leaves(state))),
    }
    found[f"{name} weights"] = np.array(sum(leaf.size for leaf in jax.tree.leaves(state.params)))
    for k in range(1, STEPS + 1):
        old = jax.tree.leaves(state)
        state, metrics = program(state, shard(batch))
        found |= flat(f"{name} step{k} metrics", metrics) | flat(
            f"{name} step{k}", (state.params, state.batch_stats)
        )
        # without momentum that is all it holds
        found |= flat(f"{name} step{k} gradient", state.opt_state)
        found[f"{name} step{k} donated"] = np.array([leaf.is_deleted() for leaf in old])
    return found


def cuda_program(name, dtype, variables):
    """The training step as XLA gets it on an NVIDIA GPU, which it takes none to write down:
    StableHLO.
    """
    config = stage_config(name, dtype)
    stage = make_stage(name, config, made_up_statistics(config))
    optimizer = make_optimizer(config.optimizer, make_schedule(config.optimizer, STEPS, 1))
    step = jax.jit(pmap_train(partial(train_step, stage=stage, optimizer=optimizer)))
    state = replicate(create_state(copied(variables), optimizer, 0, ema=True))
    items = slices(config, BATCH)
    batch = {k: np.stack([item[k] for item in items]) for k in items[0]} | {
        "valid": np.ones(BATCH, bool)
    }
    return step.trace(state, shard(batch)).lower(lowering_platforms=("cuda",)).as_text()


def stacked(rows):
    """Rows whose slices are all of one size, as arrays."""
    return {k: np.stack(v) if isinstance(v, list) else v for k, v in rows.items()}


def prediction(name, variables):
    config = stage_config(name)
    stage = make_stage(name, config, made_up_statistics(config))
    predict = make_predictor(stage, keep=("predicted",))
    found = {}
    for size in (3, 8):
        batches = eval_batches(slices(config, SLICES), batch_size=round_up(size))
        found |= flat(f"{name} batch{size}", stacked(collect(predict(variables, batches))))
        if name == "segmenter":
            batches = eval_batches(natives(config, SLICES), batch_size=round_up(size))
            rows = collect(predict(variables, batches, keep=("predicted", "surface", "lesions")))
            found |= flat(f"{name} native{size}", stacked(rows))
    return found


def options():
    """Every view of every slice and cleaned masks, of networks small enough to be compiled at
    once.
    """
    found = {}
    for name, model in (("classifier", LinearClassifier()), ("segmenter", LinearSegmenter())):
        stage = linear_stage(model, (24, 20))
        predict = make_predictor(
            stage, ("predicted", "features"), make_options(("flips", "scales"), 4)
        )
        items = slices(stage.config, SLICES)
        for size in (1, 8):
            rows = collect(predict({}, eval_batches(items, batch_size=round_up(size))))
            found |= flat(f"{name} options{size}", stacked(rows))
    return found


def stochastic_pooling():
    """What eight samples alike draw, in training."""
    pool = Pool("stochastic")
    x = np.tile(np.random.default_rng(0).random((1, 8, 8, 4)), (8, 1, 1, 1))

    @pmap_eval
    def draw(key, batch):
        with synchronised(AXIS):
            drawn, _ = pool.apply({}, batch["x"], train=True, rngs={"pooling": key})
        return {"drawn": drawn}

    return {
        "stochastic pooling": unshard(
            draw(jax.random.PRNGKey(0), shard({"x": x.astype(np.float32)}))
        )["drawn"]
    }


def main(out):
    warnings.filterwarnings("error", message=".*donated")  # copies of a state, or two in memory
    found = {"devices": np.array(jax.local_device_count())} | options() | stochastic_pooling()
    for name in ("classifier", "segmenter"):
        config = stage_config(name)
        variables = init_variables(make_model(name, config), config, 3)
        found |= training(name, variables) | prediction(name, replicate(variables))
        for dtype in ("float32", "bfloat16") if jax.local_device_count() == 1 else ():
            found[f"{name} cuda {dtype}"] = np.array(cuda_program(name, dtype, variables))
    try:
        shard({"image": np.zeros((6, 2))})
    except InputError as error:
        found["uneven"] = np.array(str(error))
    np.savez(out, **found)


if __name__ == "__main__":
    main(sys.argv[1])
