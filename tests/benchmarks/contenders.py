"""One contender of the speed benchmark: a process that takes a training step or evaluates a batch
when told to.

Started by speed.py: `python -m tests.benchmarks.contenders NETWORK MODE BATCH`. It prints one JSON
line once ready, one for every line ("train" or "eval") it reads, and the last one, with its peak
memory, when its input ends.
"""

import json
import os
import resource
import sys
import time
from functools import partial

import numpy as np

CLASSIFIERS = (
    "cov_ctnet",
    "densenet201",
    "efficientnet_lite0",
    "googlenet",
    "inception_v3",
    "resnet18",
    "resnet50",
    "shufflenet_v1",
    "shufflenet_v2_x1_0",
    "vgg16",
    "vgg19",
    "xception",
)
# The paper's sizes.
NETWORKS = {name: (82, 82, 1) for name in CLASSIFIERS} | {
    "cov_raseg": (304, 304, 3),
    "unet": (304, 304, 3),
}
TORCH_MODES = ("eager", "channels_last", "compile", "bf16", "compile_bf16")
COVJAX_MODES = {"covjax": "float32", "covjax_bf16": "bfloat16"}


def covjax_functions(network, dtype, batch_size):
    """(train, evaluate): the step of train.py without augmentation, the prediction of eval.py."""
    from covjax.parallel import shard

    step, state, predict, variables, batch = covjax_parts(network, dtype, batch_size)

    def train():
        nonlocal state
        state, metrics = step(state, shard(batch))
        assert bool(metrics["finite"])

    return train, lambda: list(predict(variables, [batch]))


def covjax_parts(network, dtype, batch_size):
    """(training step, its state, predictor, its variables, batch), to call and to look into."""
    import jax

    from covjax.evaluation.predict import make_predictor
    from covjax.models import model_options
    from covjax.optim.optimizer import make_optimizer
    from covjax.parallel import pmap_train, replicate
    from covjax.preprocess.network_input import Normalization
    from covjax.settings import default_config, read_settings
    from covjax.stages.stage import Statistics, init_variables, make_stage
    from covjax.training.state import create_state
    from covjax.training.step import train_step

    name = "classifier" if network in CLASSIFIERS else "segmenter"
    run = default_config(name).unlock()
    config = run[name]
    if network != config.model.name:
        config.model = dict(name=network, **model_options(network))
    height, width, channels = NETWORKS[network]
    config.update(dtype=dtype, batch_size=batch_size)
    config.input.update(enhance="none", size=(height, width), slice_size=(height, width))
    config.augment.flip = False
    config.optimizer.learning_rate = 1e-6  # VGG does not stand the same noise over and over at more
    config = read_settings(run).stages[name]
    standardised = Normalization(np.full(channels, 127, np.float32), np.full(1, 74, np.float32))
    statistics = Statistics(standardised, np.ones(2), np.ones(2))
    stage = make_stage(name, config, statistics)
    optimizer = make_optimizer(config.optimizer, lambda step: config.optimizer.learning_rate)
    step = pmap_train(partial(train_step, stage=stage, optimizer=optimizer))
    variables = init_variables(stage.model, config, 0)
    state = replicate(create_state(variables, optimizer, 0, ema=False))
    predict = make_predictor(make_stage(name, config, statistics))
    variables = replicate(jax.tree.map(np.asarray, variables))
    image, label, mask = random_batch(batch_size, height, width)
    batch = {"image": image, "label": label, "mask": mask, "valid": np.ones(batch_size, bool)}
    return step, state, predict, variables, batch


def torch_functions(network, mode, batch_size):
    """(train, evaluate) of the same network with the same optimiser."""
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    height, width, channels = NETWORKS[network]
    net, auxiliary_weight = torch_network(network, channels)
    image, label, mask = random_batch(batch_size, height, width)
    x = (
        torch.tensor(image, dtype=torch.float32)[:, None].expand(-1, channels, -1, -1).contiguous()
        - 127
    )
    truth = torch.tensor(label if network in CLASSIFIERS else mask, dtype=torch.long)
    if mode != "eager":
        net = net.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 1e-4, momentum=0.95, weight_decay=1e-4)
    run = torch.compile(net) if "compile" in mode else net

    def logits():
        """Those of the network, then of its auxiliary heads."""
        with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in mode):
            out = run(x)
        return [values.float() for values in ([out] if torch.is_tensor(out) else out)]

    def loss_of(values):
        return F.cross_entropy(values.flatten(0, -2), truth.flatten())

    def train():
        net.train()
        optimizer.zero_grad(set_to_none=True)
        main, *auxiliary = map(loss_of, logits())
        loss = main + auxiliary_weight * sum(auxiliary)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    def evaluate():
        net.eval()
        with torch.no_grad():
            (out,) = logits()
            return out.argmax(-1).numpy(), loss_of(out)

    return train, evaluate


def torch_network(name, channels):
    """(the network in PyTorch for two classes, the weight of its auxiliary losses)."""
    if name not in CLASSIFIERS or name == "cov_ctnet":
        from tests.models.torch_networks import build

        return build(name, {"final": "linear"} if name == "cov_raseg" else {})[0], 0.0
    from covjax.models import create_model
    from tests.models.torch_published import built  # needs torchvision and timm

    model = create_model(name)
    return built(model, name, channels), getattr(model, "auxiliary_weight", 0.0)


def random_batch(n, height, width):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (n, height, width)).astype(np.uint8)
    return (
        image,
        (np.arange(n) % 2).astype(np.int32),
        (rng.random((n, height, width)) < 0.1).astype(np.uint8),
    )


def timed(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main(network, mode, batch_size):
    make = covjax_functions if mode in COVJAX_MODES else torch_functions
    train, evaluate = make(network, COVJAX_MODES.get(mode, mode), int(batch_size))
    functions = {"train": train, "eval": evaluate}
    first = {what: timed(function) for what, function in functions.items()}
    second = {what: timed(function) for what, function in functions.items()}
    print(
        json.dumps({"compile": {what: first[what] - second[what] for what in functions}}),
        flush=True,
    )
    for line in sys.stdin:
        print(json.dumps(timed(functions[line.strip()])), flush=True)
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
