"""What a kill leaves at every change that commands make to the file system, also below Python.

    python -m tests.attacks.commands_killed

needs a C compiler: a training, an evaluation and a screening run with pause.c before them. At each
of their changes (open to write, write, fsync, rename, unlink, mkdir, ..), and in the middle of each
write, they are paused, and what then lies on disk is looked at: it is what a kill at that moment
leaves. Screenings and records of epochs go on from all of these states, trainings from every
RESUMED-th, and must end as if nobody had killed them.
"""

import json
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
from unittest import mock

import jax
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from covjax.files import current_folder
from covjax.locks import LOCK
from covjax.optim.optimizer import make_optimizer, make_schedule
from covjax.report import build_report
from covjax.runs.trained import load_trained, read_statistics
from covjax.screening import screen as screening
from covjax.screening.screener import Screener
from covjax.settings import load_settings
from covjax.stages.stage import make_stage, variable_shapes
from covjax.stages.statistics import statistics_digest
from covjax.training.checkpoint import Checkpoints
from covjax.training.state import create_state
from tests.attacks import epochs
from tests.commands import Commands

RESUMED = 30
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


def check_whole(folder: Path) -> None:
    """Raises AssertionError if a page or a JSON file below a folder is only half there."""
    for path in folder.rglob("*.html"):
        assert path.read_bytes().rstrip().endswith(b"</html>"), f"{path}: half a page"
    for path in folder.rglob("*.json"):
        json.loads(path.read_bytes())


def known(record: dict) -> dict:
    """Returns what of a line of metrics.jsonl is the same in every training."""
    timed = ("seconds", "slices_per_second")
    return {name: value for name, value in record.items() if name not in timed}


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
    """Pauses the second epoch of a training at every change to its folder."""
    workdir = folder / "run"
    steps = reader_of(workdir)
    seen = steps()
    kept = []
    longer = ("train.py", *FLAGS, "--config.segmenter.epochs=2")
    kinds = Counter[str]()
    count = 0
    for count, change in enumerate(paused(commands, workdir, *longer, f"--workdir={workdir}"), 1):
        kinds[change.split()[0]] += 1
        check_whole(workdir)
        if "/checkpoints/" in change:
            now = steps()
            assert now >= seen, f"before {change}: {seen} was there, now {now}"
            seen = now
        if count % RESUMED == 0 or (kinds["half"] % 3 == 0 and change.endswith("metrics.jsonl")):
            kept.append(shutil.copytree(workdir, folder / f"killed{count}"))
    want = load_trained(STAGE, load_settings(workdir), workdir)[1]
    lines = [known(record) for record in epochs.records(workdir)]
    for killed in kept:
        (killed / LOCK).unlink(missing_ok=True)
        done = commands(*longer, f"--workdir={killed}")
        assert done.returncode == 0, done.stderr
        got = load_trained(STAGE, load_settings(killed), killed)[1]
        jax.tree.map(np.testing.assert_array_equal, got, want)
        assert [known(record) for record in epochs.records(killed)] == lines
        check_board(epochs.board(killed), epochs.board(workdir))
        check_whole(killed)
    return f"{count} changes ({dict(kinds)}), {len(kept)} resumed to the same bits"


def check_board(found: list[tuple[str, int, float]], want: list[tuple[str, int, float]]) -> None:
    """Raises AssertionError if TensorBoard shows more or less, or the same twice."""
    timed = ("seconds", "slices_per_second")
    shown, wanted = ([one for one in some if one[0] not in timed] for some in (found, want))
    assert sorted(shown) == sorted(wanted), f"{sorted(shown)} in place of {sorted(wanted)}"


def histories(commands: Commands, folder: Path) -> str:
    """Pauses what writes metrics.jsonl and TensorBoard's files at every change; all go on."""
    workdir = folder / "history"
    straight = folder / "straight_history"
    epochs.write(straight, 0)
    want = epochs.records(straight), epochs.board(straight)
    assert len(want[0]) == epochs.EPOCHS and len(want[1]) == 2 * epochs.EPOCHS
    kinds = Counter[str]()
    command = ("tests.attacks.epochs", workdir, 0)
    for change in paused(commands, workdir, *command):
        kinds[change.split()[0]] += 1
        # the newest checkpoint may be of any epoch but the one whose records are being written
        for epoch in range(max(1, len(epochs.records(workdir)))):
            killed = folder / "killed_history"
            shutil.copytree(workdir, killed) if workdir.exists() else killed.mkdir()
            with mock.patch("socket.gethostname", return_value="another"):  # in the same second
                epochs.write(killed, epoch * epochs.STEPS)
            assert epochs.records(killed) == want[0], f"before {change}: other records"
            check_board(epochs.board(killed), want[1])
            shutil.rmtree(killed)
    return f"{kinds.total()} changes ({dict(kinds)}), all gone on from: each record and value once"


def evaluations(commands: Commands, folder: Path) -> str:
    """Pauses an evaluation with other options than the one before at every change of the run."""
    run = folder / "run"
    results = run / "results"
    old = content(results / "test")
    states = []
    again = folder / "again"
    pages = 0
    command = ("eval.py", f"--workdir={run}", "--min_size=9")
    for change in paused(commands, run, *command):
        states.append(content(current_folder(results / "test")))
        check_whole(run)
        if "/report/" in change:
            pages += 1
            if pages % RESUMED == 0:
                shutil.copytree(run, again / str(pages))
    new = content(results / "test")
    assert old != new
    assert all(state in (old, new) for state in states)
    with mock.patch.object(Figure, "savefig"):  # which takes most of the time
        want = content(build_report(run).parent)
        for place in again.iterdir():
            assert content(build_report(place).parent) == want
    return (
        f"{len(states)} changes, {states.count(old)} leave the old results, else the new; "
        f"{pages} of pages, {len(list(again.iterdir()))} of them made again: the same"
    )


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
        check_whole(out)
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
        for job in (histories, evaluations, screenings, saves):
            print(f"{job.__name__}: {job(commands, Path(scratch))}", flush=True)
        commands.close()
    sys.exit()
