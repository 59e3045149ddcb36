"""Running train.py and eval.py as a user would, with their time and what they said last."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.gpu.findings import Notes
from tests.places import ROOT

# Makes a run so small that a CPU trains it in seconds.
TINY = [
    "--config.data.phantom.patients=8",
    "--config.data.phantom.slices_per_patient=5",
    "--config.data.phantom.size=48",
]
LAST = 700  # characters of a command's output that are kept


def run_command(
    notes: Notes, what: str, *command: str, workdir: Path | None = None, **environment
) -> bool:
    """Runs a script of the project and notes its seconds; returns whether it ended with 0."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        notes.add(what, error=f"status {done.returncode}: {(done.stdout + done.stderr)[-LAST:]}")
        return False
    timing = workdir and workdir / "results" / "timing.json"
    recorded = json.loads(timing.read_text()) if timing and timing.is_file() else None
    notes.add(what, seconds=seconds, timing=recorded, end=done.stdout[-LAST:])
    return True
