"""What a run spends beside computing: waiting for data, the wait for the first step, evaluation as
a whole.

    python -m tests.benchmarks.overhead [--source prlab21 --path PATH]

Trains CoV-CTNet by the loop of train.py and then evaluates every slice, in a process that has
nothing compiled yet and in one that finds everything in the compilation cache. Prints for each

- decoded, cached: slices per second that the loader reads from disk (ArrayRecord, decoded,
  resized), and from memory;
- trained: slices per second of 100 training steps that read from disk, and busy: the share of their
  wall time during which XLA computed, from a profile; the rest is all the time that steps wait, for
  data or anything else;
- first_step_seconds: from the data being ready to the first step done;
- eval_seconds: of all slices, from prepared data to scores, including the compilation of the
  program.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from covjax.settings import read_settings
from tests.benchmarks.speed import ROOT

WARM_UP = 20
STEPS = 100


class Watch:
    """Stands in for pmap_train: times the first step and profiles STEPS later ones."""

    def __init__(self, pmap_train, folder):
        self.pmap_train = pmap_train
        self.folder = folder
        self.calls = 0
        self.start = time.perf_counter()
        self.first_step = None
        self.seconds = None

    def __call__(self, step):
        import jax

        mapped = self.pmap_train(step)
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0
        options.host_tracer_level = 1

        def watched(state, batch):
            self.calls += 1
            if self.calls == WARM_UP:
                jax.block_until_ready(state)
                jax.profiler.start_trace(self.folder, profiler_options=options)
                self.start = time.perf_counter()
            state, metrics = mapped(state, batch)
            if self.calls in (1, WARM_UP + STEPS - 1):
                jax.block_until_ready(state)
                seconds = time.perf_counter() - self.start
                if self.calls == 1:
                    self.first_step = seconds
                else:
                    self.seconds = seconds
                    jax.profiler.stop_trace()
            return state, metrics

        return watched


def busy_seconds(folder):
    """Seconds of a profile during which at least one program was executing."""
    from jax.profiler import ProfileData

    profile = ProfileData.from_file(str(next(Path(folder).rglob("*.xplane.pb"))))
    lines = (line for plane in profile.planes for line in plane.lines if "XLAExecute" in line.name)
    events = (
        e for line in lines for e in line.events if e.name.startswith("ThunkExecutor::Execute")
    )
    total = 0.0
    until = 0.0
    for start, end in sorted((e.start_ns, e.end_ns) for e in events):
        total = total + max(0.0, end - max(start, until))
        until = max(until, end)
    return total / 1e9


def loader_rates(data, sizes, batch_size):
    """Slices per second of an epoch that is decoded and one that is cached, with nothing else to
    do.
    """
    import numpy as np

    from covjax.data.loader import SliceReader, train_batches

    reader = SliceReader(data, np.arange(len(data)), sizes, cache=True)
    found = {}
    for what in ("decoded", "cached"):
        start = time.perf_counter()
        count = sum(
            len(b["label"]) for b in train_batches(reader, batch_size=batch_size, seed=0, epoch=0)
        )
        found[what] = round(count / (time.perf_counter() - start), 1)
    return found


def run(source, path, folder):
    """Trains and evaluates in this process and prints what it found."""
    import numpy as np

    from covjax.configs import cov_ctnet
    from covjax.data.loader import SliceReader, eval_batches
    from covjax.data.prepared.dataset import prepare
    from covjax.data.views import ViewSettings
    from covjax.evaluation.predict import collect, make_predictor
    from covjax.parallel import replicate
    from covjax.preprocess.network_input import Normalization, slice_size
    from covjax.runtime import enable_compilation_cache
    from covjax.stages.stage import Statistics, init_variables, make_stage
    from covjax.training import loop

    enable_compilation_cache()
    config = cov_ctnet.get_config()
    config.data.update(source=source, path=path, prepared_dir=folder)
    config.classifier.epochs = 1
    settings = read_settings(config)
    data = prepare(settings.data)
    stage_config = settings.stages["classifier"]
    statistics = Statistics(
        Normalization(np.full(1, 127, np.float32), np.ones(1, np.float32)), np.ones(2), np.ones(2)
    )
    sizes = ViewSettings(slice_size(stage_config.input), tuple(stage_config.input.size))
    everything = np.arange(len(data))

    def reader(indices):
        return SliceReader(data, indices, sizes, cache=False)

    with tempfile.TemporaryDirectory() as workdir, tempfile.TemporaryDirectory() as profile:
        training = np.resize(everything, (WARM_UP + STEPS) * stage_config.batch_size)
        readers = {"train": reader(training), "val": reader(everything[:16])}
        watch = loop.pmap_train = Watch(loop.pmap_train, profile)
        stage = make_stage("classifier", stage_config, statistics)
        loop.train_stage(stage, readers, settings, Path(workdir), verbose=False)
        found = {
            "first_step_seconds": watch.first_step,
            "trained": round(STEPS * stage_config.batch_size / watch.seconds, 1),
            "busy": busy_seconds(profile) / watch.seconds,
        }

    start = time.perf_counter()
    stage = make_stage("classifier", stage_config, statistics)
    predict = make_predictor(stage)
    variables = replicate(init_variables(stage.model, stage.config, 0))
    batches = eval_batches(reader(everything), batch_size=stage_config.batch_size)
    stage.task.scores(collect(predict(variables, batches)), stage.threshold, None)
    found |= {"eval_seconds": time.perf_counter() - start, "slices": len(everything)}
    print(json.dumps(found | loader_rates(data, sizes, stage_config.batch_size)))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="phantom")
    parser.add_argument("--path", default="")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return run(options.source, options.path, options.child)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.overhead",
            "--source",
            options.source,
            "--path",
            options.path,
        ]
        for cache in ("empty", "warm"):
            environment = os.environ | {"XDG_CACHE_HOME": folder}
            subprocess.run([*command, "--child", folder], cwd=ROOT, env=environment, check=True)
            print(f"(compilation cache: {cache})", flush=True)


if __name__ == "__main__":
    main()
