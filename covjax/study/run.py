"""Running a study: every run of its grid in turn, none twice, then one comparison."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from covjax.data.prepared.dataset import prepare
from covjax.data.splits.splits import make_splits
from covjax.errors import InputError, RunError
from covjax.files import current_folder, write_json
from covjax.locks import held
from covjax.metrics import DEFINITIONS
from covjax.preprocess.network_input import slice_size
from covjax.records import Timing, read_record_or_empty
from covjax.runs.train import train_run
from covjax.runs.trained import load_trained
from covjax.settings import RunSettings, check_workdir, claim_workdir
from covjax.study.compare import compare_variants
from covjax.study.grid import STAGE, Run, planned_runs, study_of
from covjax.training.loop import check_batch_size

ROUNDS = 5  # of timing; the fastest counts


def run_study(config: RunSettings, workdir: Path) -> None:
    """Trains and evaluates every run of a study and writes WORKDIR/study.json.

    Runs are in WORKDIR/runs/VARIANT/. Runs that are finished are not repeated, an interrupted one
    continues where it stopped. The grid (`config.study`) may change from call to call, all else may
    not. A run whose loss becomes non-finite is reported, counted as failed and passed over.

    Raises InputError, before anything is written, for a grid, a variant or data that cannot be
    used, and for runs that were made by another configuration.
    """
    runs = planned_runs(config, workdir)
    for run in runs:
        check_batch_size(STAGE, run.config.stages[STAGE])
    data = prepare(config.data)
    for seed, split in {
        (run.seed, run.fold): (run.seed, run.config.split) for run in runs
    }.values():
        make_splits(data, split, seed, ("infected",))
    for run in runs:
        check_workdir(run.workdir, run.config)
    claim_workdir(workdir, config, free="study.")
    failed = _train(study_of(config).name, runs)
    done = [run for run in runs if is_finished(run)]
    with held(workdir):
        speeds = _speeds(done, workdir)
        table = compare_variants(config, runs, done, failed, speeds)
        write_json(workdir / "study.json", table)


def is_finished(run: Run) -> bool:
    """Returns whether a run was trained to its end, and evaluated as studies are.

    Without options, and by the present definitions of scores.
    """
    timing = read_record_or_empty(run.workdir / "results" / "timing.json", Timing).get(STAGE, {})
    summary = read_record_or_empty(
        current_folder(run.workdir / "results" / "test") / "summary.json", dict[str, Any]
    )
    evaluated = summary.get("definitions") == DEFINITIONS and not summary.get("options")
    return timing.get("epochs") == run.config.stages[STAGE].epochs and evaluated


def _train(study: str, runs: Sequence[Run]) -> dict[str, str]:
    """Makes all runs that are not finished; returns why some failed."""
    waiting = [run for run in runs if not is_finished(run)]
    before = len(runs) - len(waiting)
    print(f"study {study}: {len(runs)} runs, {before} of them finished", flush=True)
    failed = {}
    start = time.perf_counter()
    for k, run in enumerate(waiting):
        left = _duration((time.perf_counter() - start) / k * (len(waiting) - k)) if k else ""
        print(
            f"run {before + k + 1} of {len(runs)}: {run}{left and f' (about {left} left)'}",
            flush=True,
        )
        try:
            train_run(run.config, run.workdir)
        except RunError as error:
            failed[str(run)] = str(error)
            print(f"failed: {run}: {error}", file=sys.stderr, flush=True)
        except InputError as error:
            raise InputError(f"{run}: {error}") from error
        # Programs of runs that are over, of which a long study has hundreds.
        jax.clear_caches()
    return failed


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _speeds(done: Sequence[Run], workdir: Path) -> dict[str, float]:
    """Returns each variant's milliseconds per slice, measured once in turn, kept in speed.json."""
    path = workdir / "speed.json"
    first = {run.variant: run for run in reversed(done)}
    known = read_record_or_empty(path, dict[str, float])
    if not first.keys() <= known.keys():
        known = _measured(first)
        write_json(path, known)
    return known


def _measured(runs: dict[str, Run]) -> dict[str, float]:
    programs = {}
    seconds = {}
    for name, run in runs.items():
        stage, variables = load_trained(STAGE, run.config, run.workdir)
        shape = (run.config.stages[STAGE].batch_size, *slice_size(run.config.stages[STAGE].input))
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        program = (
            jax.jit(lambda v, x, stage=stage: stage.outputs(v, x)["logits"])
            .lower(variables, images)
            .compile()
        )
        programs[name] = lambda program=program, v=variables, x=images: jax.block_until_ready(
            program(v, x)
        )
        programs[name]()
    for _ in range(ROUNDS):
        for name, program in programs.items():
            start = time.perf_counter()
            program()
            seconds.setdefault(name, []).append(time.perf_counter() - start)
    return {
        name: round(1000 * min(found) / runs[name].config.stages[STAGE].batch_size, 3)
        for name, found in seconds.items()
    }
