"""Part resume: a run that is killed and resumed ends in the same bits; presets of XLA flags."""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.gpu.commands import TINY, run_command
from tests.gpu.findings import Notes, run
from tests.places import ROOT

PRESETS = {
    "none": "",
    "no cuDNN fusion": "--xla_gpu_cudnn_gemm_fusion_level=0",
    "cuDNN fusion 2": "--xla_gpu_cudnn_gemm_fusion_level=2",
    "convolutions NHWC": "--xla_gpu_force_conv_nhwc=true",
    "latency hiding": "--xla_gpu_enable_latency_hiding_scheduler=true",
    "no autotuning": "--xla_gpu_autotune_level=0",
}
FLAGS = [
    "--config=configs/cov_ctnet.py",
    "--config.classifier.epochs=3",
    "--config.classifier.checkpoint_every=5",
]


def resume(notes: Notes) -> None:
    with tempfile.TemporaryDirectory() as folder, notes.attempt("killed and resumed"):
        killed_and_resumed(notes, Path(folder))
    for name, flags in {} if notes.small else PRESETS.items():
        if notes.late(name):
            return
        with notes.attempt(f"XLA flags, {name}"):
            steps_with(notes, name, flags)


def killed_and_resumed(notes: Notes, folder: Path) -> None:
    """Predictions of the resumed run against those of one that was left alone."""
    preset = TINY if notes.small else ["--config.xla_flags=nvidia_deterministic"]
    flags = [*FLAGS, *preset, f"--config.data.prepared_dir={folder / 'prepared'}"]
    whole = folder / "whole"
    killed = folder / "killed"
    if not run_command(notes, "left alone", "train.py", *flags, f"--workdir={whole}"):
        return
    if not kill_after_a_checkpoint([*flags, f"--workdir={killed}"], killed):
        raise RuntimeError("the run ended before it could be killed")
    if run_command(notes, "resumed", "train.py", *flags, f"--workdir={killed}"):
        expected = digests(whole)
        if not expected:
            raise RuntimeError("the run left no table of predictions")
        same = digests(killed) == expected
        notes.add("killed and resumed", same_bits=same, **({} if same else {"error": "other bits"}))


def kill_after_a_checkpoint(flags: list[str], workdir: Path) -> bool:
    """Returns whether the run was still training when it was killed."""
    process = subprocess.Popen(
        [sys.executable, "train.py", *flags], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    while process.poll() is None and not any(workdir.glob("checkpoints/*/*")):
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def digests(workdir: Path) -> dict[str, str]:
    """Returns digests of the tables of predictions, which hold every probability in full."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((workdir / "results").rglob("per_image*.csv"))
    }


def steps_with(notes: Notes, name: str, flags: str) -> None:
    """Training steps of CoV-RASeg in bfloat16 under other flags, in a process of its own."""
    code = (
        "from tests.benchmarks.contenders import covjax_functions\n"
        "from tests.gpu.findings import median_seconds\n"
        "train, _ = covjax_functions('cov_raseg', 'bfloat16', 32)\n"
        "print(32 / median_seconds(train))\n"
    )
    environment = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    notes.add(f"XLA flags, {name}", cov_raseg_train_per_s=float(done.stdout.split()[-1]))


if __name__ == "__main__":
    run(resume)
