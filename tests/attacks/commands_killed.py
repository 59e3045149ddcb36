"""What a kill leaves at every change that commands make to the file system, also below Python.

    python -m tests.attacks.commands_killed

needs a C compiler: a training, an evaluation and a screening run with pause.c before them. At each
of their changes (open to write, write, fsync, rename, unlink, mkdir, ..) they are paused, and what
then lies on disk is looked at: it is what a kill at that moment leaves. Screenings go on from all
of these states, trainings from every RESUMED-th, and must end with the same bytes.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
from PIL import Image

from covjax.files import current_folder
from covjax.locks import LOCK
from covjax.optim.optimizer import make_optimizer, make_schedule
from covjax.runs.trained import load_trained, read_statistics
from covjax.screening import screen as screening
from covjax.screening.screener import Screener
from covjax.settings import load_settings
from covjax.stages.stage import make_stage, variable_shapes
from covjax.stages.statistics import statistics_digest
from covjax.training.checkpoint import Checkpoints
from covjax.training.state import create_state
from tests.commands import Commands

RESUMED = 20
STAGE = "segmenter"
FLAGS = (
    "--config=cov_raseg",
    "--config.data.phantom.patients=6",
    "--config.data.phantom.slices_per_patient=3",
    "--config.data.phantom.size=48",
    "--config.segmenter.input.size=(32,32)",
    "--config.segmenter.model.features=4",
    "--config.segmenter.batch_size=4",
    "--config.segmenter.checkpoint_every=1",
    "--config.segmenter.optimizer.schedule=constant",
)


def preloaded(folder: Path) -> Commands:
    """Returns what runs commands with pause.c before them."""
    library = folder / "pause.so"
    source = Path(__file__).with_name("pause.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    os.environ["LD_PRELOAD"] = str(library)
    try:
        return Commands()
    finally:
        del os.environ["LD_PRELOAD"]


def paused(commands: Commands, root: Path, *command: object) -> Iterator[str]:
    """Runs a command and yields before each of its changes below `root`, while it is paused."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:
        pipes = {name: f"{folder}/{name}" for name in ("PAUSE_TELL", "PAUSE_WAIT")}
        for pipe in pipes.values():
            os.mkfifo(pipe)
        done = pool.submit(commands, *command, PAUSE_ROOT=str(root), **pipes)
        with open(pipes["PAUSE_TELL"]) as told, open(pipes["PAUSE_WAIT"], "wb", 0) as go:
            for line in told:
                yield line.strip()
                go.write(b".")
        assert done.result().returncode == 0, done.result().stderr


def content(folder: Path) -> dict[str, bytes]:
    """Returns what the files of a folder hold, without its lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != LOCK]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def reader_of(workdir: Path) -> Callable[[], tuple[int, int]]:
    """Returns what reads the steps of the newest checkpoints, latest and best, whole or not."""
    settings = load_settings(workdir)
    config = settings.stages[STAGE]
    statistics = read_statistics(STAGE, workdir)
    stage = make_stage(STAGE, config, statistics)
    optimizer = make_optimizer(config.optimizer, make_schedule(config.optimizer, 2, 2))
    variables = variable_shapes(stage.model, config)
    shapes = jax.eval_shape(
        lambda found: create_state(found, optimizer, settings.seed, False, ""), variables
    )

    def step_of(kind: str, template: object) -> int:
        folder = workdir / "checkpoints" / STAGE / kind
        checkpoints = Checkpoints(folder, statistics=statistics_digest(statistics))
        try:
            newest = checkpoints.newest()
            assert newest is not None, f"{kind}: lost"
            problem = checkpoints._read(newest, template)[2]  # without going back to another
            assert problem is None, f"{kind}: {problem}"
            return newest
        finally:
            checkpoints.close()

    return lambda: (step_of("latest", shapes), step_of("best", variables))


def saves(commands: Commands, folder: Path) -> str:
    """Pauses the second epoch of a training at every change to its checkpoints."""
    workdir = folder / "run"
    before = folder / "before"
    shutil.copytree(workdir, before)
    steps = reader_of(workdir)
    seen = steps()
    kept = []
    longer = ("train.py", *FLAGS, "--config.segmenter.epochs=2")
    root = workdir / "checkpoints"
    kinds = Counter[str]()
    count = 0
    for count, change in enumerate(paused(commands, root, *longer, f"--workdir={workdir}"), 1):
        kinds[change.split()[0]] += 1
        now = steps()
        assert now >= seen, f"before {change}: {seen} was there, now {now}"
        seen = now
        if count % RESUMED == 0:
            kept.append(shutil.copytree(workdir, folder / f"killed{count}"))
    want = load_trained(STAGE, load_settings(workdir), workdir)[1]
    for killed in kept:
        (killed / LOCK).unlink(missing_ok=True)
        done = commands(*longer, f"--workdir={killed}")
        assert done.returncode == 0, done.stderr
        got = load_trained(STAGE, load_settings(killed), killed)[1]
        jax.tree.map(np.testing.assert_array_equal, got, want)
    return f"{count} changes ({dict(kinds)}), {len(kept)} resumed to the same bits"


def evaluations(commands: Commands, folder: Path) -> str:
    """Pauses an evaluation with other options than the one before at every change to results/."""
    results = folder / "run" / "results"
    old = content(results / "test")
    states = []
    command = ("eval.py", f"--workdir={folder / 'run'}", "--min_size=9")
    for _ in paused(commands, results, *command):
        states.append(content(current_folder(results / "test")))
    new = content(results / "test")
    assert old != new
    assert all(state in (old, new) for state in states)
    return f"{len(states)} changes, {states.count(old)} leave the old results, else the new"


def screenings(commands: Commands, folder: Path) -> str:
    """Pauses a screening at every change; each state is gone on from."""
    workdir = folder / "run"
    pictures = folder / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for k in range(12):
        image = Image.fromarray(rng.integers(0, 256, (48, 48), dtype=np.uint8))
        image.save(pictures / f"{k}.png")
    screener = Screener.from_workdir(workdir, 1)
    loaded = SimpleNamespace(from_workdir=lambda *_: screener)
    screening.Screener = loaded

    def screened(out: Path) -> dict[str, bytes]:
        screening.screen(workdir, pictures, out, 1)
        return content(out)

    want = screened(folder / "straight")
    out = folder / "out"
    partial = folder / "out.partial"
    command = ("eval.py", f"--workdir={workdir}", f"--input={pictures}", f"--output={out}")
    count = 0
    for count, change in enumerate(paused(commands, out, *command, "--batch_size=1"), 1):
        there = content(out) if out.exists() else {}
        assert not there or want.items() <= there.items(), f"before {change}: a mixture"
        again = folder / f"again{count}"
        if partial.exists():
            shutil.copytree(partial, again.with_name(f"{again.name}.partial"))
            (again.with_name(f"{again.name}.partial") / LOCK).unlink(missing_ok=True)
        assert screened(again) == want, f"before {change}: another result"
        shutil.rmtree(again)
    return f"{count} changes, all gone on from to the same bytes"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CACHE_HOME"] = f"{scratch}/cache"
        commands = preloaded(Path(scratch))
        trained = commands(
            "train.py", *FLAGS, "--config.segmenter.epochs=1", f"--workdir={scratch}/run"
        )
        assert trained.returncode == 0, trained.stderr
        for job in (evaluations, screenings, saves):
            print(f"{job.__name__}: {job(commands, Path(scratch))}", flush=True)
        commands.close()
    sys.exit()
