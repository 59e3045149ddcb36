"""Resuming with real processes and real kills: the result is the same to the bit as if nothing had
happened.
"""

import json
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

SEGMENTER_FLAGS = [
    "--config.data.phantom.patients=8",
    "--config.data.phantom.slices_per_patient=4",
    "--config.data.phantom.size=64",
    "--config.segmenter.input.size=(32,32)",
    "--config.segmenter.model.features=8",
    "--config.segmenter.epochs=3",
    "--config.segmenter.batch_size=4",
    "--config.segmenter.checkpoint_every=1",
    "--config.segmenter.optimizer.ema=0.5",
    "--config.segmenter.augment.rotation=10.0",
    "--config.segmenter.augment.scale=0.1",
    "--config.segmenter.augment.intensity=0.1",
]
FLAGS = [
    *SEGMENTER_FLAGS,
    "--config.classifier.input.slice_size=(64,64)",
    "--config.classifier.input.size=(32,32)",
    "--config.classifier.epochs=2",
    "--config.classifier.batch_size=4",
    "--config.classifier.checkpoint_every=3",
    "--config.classifier.augment.rotation=10.0",
]
STEPS = {"classifier": 10, "segmenter": 6}  # 5 and 2 steps an epoch

# Sends the process a signal right before or after the n-th call of a function of the training loop:
# a real kill, at a moment that does not depend on the speed of the machine.
DRIVER = """
import os, signal
from covjax.training import checkpoint, history, loop, validation
owners = {{
    "shard": loop,
    "collect": validation,
    "save": checkpoint.Checkpoints,
    "write": history.History,
}}
when, name, count, kind = "{}".split()
original, calls = getattr(owners[name], name), []
def counted(*args, **kwargs):
    calls.append(name)
    hit = len(calls) == int(count)
    if hit and when == "before":
        os.kill(os.getpid(), getattr(signal, kind))
    result = original(*args, **kwargs)
    if hit and when == "after":
        os.kill(os.getpid(), getattr(signal, kind))
    return result
setattr(owners[name], name, counted)
"""
# shard: a training step; collect: a validation; write: the record of an epoch; save: a checkpoint
# (still being written when the call returns). Counted from the start of each process.
KILLS = [
    ("before shard 2 SIGKILL", "classifier"),  # nothing saved yet
    ("before shard 2 SIGTERM", "classifier"),  # inside an epoch
    ("after save 1 SIGKILL", "classifier"),  # while a checkpoint is being written
    ("before collect 1 SIGINT", "classifier"),  # between the last step and validation
    # recorded, but not yet saved: the record must not come twice
    ("after write 3 SIGKILL", "segmenter"),
]
STATUS = {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def start(run_command, cache):
    def start(workdir, config="cov_raseg", flags=SEGMENTER_FLAGS, before=""):
        command = ("train.py", f"--config=configs/{config}.py", f"--workdir={workdir}", *flags)
        return run_command(*command, before=before, XDG_CACHE_HOME=cache)

    return start


@pytest.fixture(scope="module")
def train(start):
    def train(workdir, **kwargs):
        done = start(workdir, **kwargs)
        assert done.returncode == 0, done.stderr
        return done

    return train


def arrays(workdir, stage, kind):
    """{path: array} of the newest checkpoint, and its step."""
    folder = workdir / "checkpoints" / stage / kind
    step = max(int(p.name) for p in folder.iterdir() if p.name.isdigit())
    with ocp.StandardCheckpointer() as reader:
        tree = reader.restore((folder / str(step) / "state").absolute())
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}, step


def assert_same_checkpoints(workdir, reference, stage):
    for kind in ("latest", "best"):
        got, step = arrays(workdir, stage, kind)
        want, want_step = arrays(reference, stage, kind)
        assert (step, got.keys()) == (want_step, want.keys())
        different = [
            k
            for k in want
            if got[k].dtype != want[k].dtype or got[k].tobytes() != want[k].tobytes()
        ]
        assert not different, f"{stage} {kind}: {different}"


def records(workdir):
    """The records of all epochs but for the clock."""
    lines = [
        json.loads(line)
        for line in (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    return [
        {k: v for k, v in line.items() if k not in ("seconds", "slices_per_second")}
        for line in lines
    ]


def timing(workdir):
    return json.loads((workdir / "results" / "timing.json").read_text(encoding="utf-8"))


def damage(folder):
    """Overwrites a byte in the middle of the largest file of a checkpoint."""
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, train):
    """Workdir of a run of both stages that nobody interrupted."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    train(workdir, config="framework", flags=FLAGS)
    return workdir


@pytest.fixture(scope="module")
def small(tmp_path_factory, train):
    """Workdir of a run of the segmenter alone, the first one of its configuration."""
    workdir = tmp_path_factory.mktemp("small") / "run"
    train(workdir)
    return workdir


def test_reference_run_is_what_it_is_meant_to_be(whole):
    names = [(r["stage"], r["epoch"]) for r in records(whole)]
    assert names == [("classifier", 1), ("classifier", 2), *[("segmenter", k) for k in (1, 2, 3)]]
    for stage, steps in STEPS.items():
        state, step = arrays(whole, stage, "latest")
        assert step == steps
        assert steps in state["['int32']"]
        best, _ = arrays(whole, stage, "best")  # without the optimizer's state
        assert state["['float32']"].size > best["['float32']"].size


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bits(whole, start, train, tmp_path):
    workdir = tmp_path / "run"
    for kill, stage in KILLS:
        done = start(workdir, "framework", FLAGS, before=DRIVER.format(kill))
        kind = kill.split()[-1]
        assert done.returncode == STATUS[kind], f"{kill}: {done.returncode}\n{done.stderr}"
        assert (workdir / "checkpoints" / "segmenter").exists() == (stage == "segmenter"), kill
        if kind != "SIGKILL":
            last = done.stderr.strip().splitlines()[-1]
            assert (
                last.startswith(f"{stage}: stopped at step")
                and "run the same command to resume" in last
            )
    done = train(workdir, config="framework", flags=FLAGS)
    assert "segmenter: resuming at step" in done.stdout
    assert records(workdir) == records(whole)
    for stage in STEPS:
        assert_same_checkpoints(workdir, whole, stage)
    for name in ("test/summary.json", "test/per_image.csv", "test/per_patient.csv"):
        assert (workdir / "results" / name).read_bytes() == (whole / "results" / name).read_bytes()


def test_second_run_compiles_nothing_and_gives_the_same(small, train, cache, tmp_path):
    def programs():
        return {path.name for path in cache.rglob("*-cache")}

    before = programs()
    done = train(tmp_path / "run", flags=[*SEGMENTER_FLAGS, "--progress=json"])
    events = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert events.count("epoch") == 3 and "evaluated" in events
    assert before and programs() == before
    assert_same_checkpoints(tmp_path / "run", small, "segmenter")


def test_a_command_ends_when_its_minutes_are_over(start, tmp_path):
    done = start(tmp_path / "run", flags=["--max_minutes=1e-6"])
    assert (done.returncode, done.stderr) == (75, "stopped; run the same command to go on\n")
    assert not (tmp_path / "run").exists()
    done = start(tmp_path / "run", flags=["--max_minutes=soon"])
    assert done.returncode == 2


def test_finished_run_is_not_trained_again(small, train, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(small, workdir)
    done = train(workdir)
    assert (
        f"segmenter: resuming at step {STEPS['segmenter']} of {STEPS['segmenter']}" in done.stdout
    )
    assert (workdir / "metrics.jsonl").read_bytes() == (small / "metrics.jsonl").read_bytes()
    assert (
        timing(workdir)["segmenter"]["train_seconds"] == timing(small)["segmenter"]["train_seconds"]
    )
    assert (
        timing(workdir)["segmenter"]["compile_seconds"]
        >= timing(small)["segmenter"]["compile_seconds"]
    )


def test_damaged_checkpoints(small, start, train, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(small, workdir)
    latest = workdir / "checkpoints" / "segmenter" / "latest"
    damage(latest / str(STEPS["segmenter"]))
    done = train(workdir)
    assert (
        f"{latest / '6'}: damaged checkpoint" in done.stderr
        and "going back to the one before" in done.stderr
    )
    assert "segmenter: resuming at step 5 of 6" in done.stdout
    assert records(workdir) == records(small)
    assert_same_checkpoints(workdir, small, "segmenter")

    for folder in latest.iterdir():
        damage(folder)
    before = sorted((workdir / "checkpoints").rglob("*"))
    done = start(workdir)
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith(f"error: {latest}: every checkpoint is damaged")
    )
    assert "Traceback" not in done.stderr
    assert sorted((workdir / "checkpoints").rglob("*")) == before
    assert records(workdir) == records(small)


def test_absurd_learning_rate_stops_with_one_line_and_keeps_no_broken_state(start, tmp_path):
    workdir = tmp_path / "run"
    flags = [*SEGMENTER_FLAGS, "--config.segmenter.optimizer.learning_rate=1e30"]
    done = start(workdir, flags=flags)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: segmenter: the loss or the parameters are not finite at step ")
    assert (
        "(slices " in last and "last good checkpoint: " in last and "Traceback" not in done.stderr
    )
    for kind in ("latest", "best"):
        for folder in (workdir / "checkpoints" / "segmenter" / kind).iterdir():
            with ocp.StandardCheckpointer() as reader:
                leaves = jax.tree.leaves(reader.restore((folder / "state").absolute()))
            assert all(np.isfinite(leaf).all() for leaf in leaves)
