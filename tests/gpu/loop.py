"""Part loop: whole runs, and what their loop reaches beside the bare step of the same network."""

import json
import tempfile
from pathlib import Path

from tests.benchmarks.contenders import covjax_functions
from tests.gpu.commands import TINY, run_command
from tests.gpu.findings import Notes, median_seconds, run

CT_SLICES = 10_000
CT_BATCH = 256
CT_EPOCHS = 3


def loop(notes: Notes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        quickstart(notes, Path(folder) / "quickstart")
        if not notes.late("cov_ctnet 10,000"):
            whole_loop(notes, Path(folder))


def quickstart(notes: Notes, workdir: Path) -> None:
    """The README's first command, evaluated again and used on scans of its own slices."""
    epochs = ["--config.segmenter.epochs=1", "--config.classifier.epochs=1"]
    small = [*epochs, *TINY] if notes.small else []
    flags = ["--config=configs/quickstart.py", f"--workdir={workdir}", *small]
    if not run_command(notes, "quickstart", "train.py", *flags, workdir=workdir):
        return
    run_command(notes, "quickstart, evaluated", "eval.py", f"--workdir={workdir}", workdir=workdir)


def whole_loop(notes: Notes, folder: Path) -> None:
    """CoV-CTNet at 82x82, first from slices on disk, then from slices in memory."""
    slices = 240 if notes.small else CT_SLICES
    batch = 8 if notes.small else CT_BATCH
    with notes.attempt("bare step"):
        train, _ = covjax_functions("cov_ctnet", "float32", batch)
        bare = batch / median_seconds(train, 2 if notes.small else 20)
        notes.add("cov_ctnet bare step", train_per_s=bare)
    for cached in (False, True):
        workdir = folder / f"cached_{cached}"
        what = f"cov_ctnet {slices} slices {'in memory' if cached else 'on disk'}"
        flags = [
            "--config=configs/cov_ctnet.py",
            f"--workdir={workdir}",
            f"--config.data.prepared_dir={folder / 'prepared'}",
            f"--config.data.phantom.patients={slices // 20}",
            "--config.data.phantom.slices_per_patient=20",
            "--config.data.phantom.size=96",
            f"--config.data.cache={cached}",
            f"--config.classifier.batch_size={batch}",
            f"--config.classifier.epochs={CT_EPOCHS}",
        ]
        if not run_command(notes, what, "train.py", *flags, workdir=workdir):
            return
        with notes.attempt(f"{what}: loop over bare step"):
            reached = slices_per_second(workdir)
            notes.add(f"{what}: loop over bare step", train_per_s=reached, of_step=reached / bare)


def slices_per_second(workdir: Path) -> float:
    """Returns the throughput of the last epoch of the classifier's training."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    speeds = [
        row["slices_per_second"] for row in map(json.loads, lines) if "slices_per_second" in row
    ]
    return float(speeds[-1])


if __name__ == "__main__":
    run(loop)
