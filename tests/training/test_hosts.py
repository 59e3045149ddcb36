"""Steps over several processes give what one process with as many devices gives, and never warn."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def run(processes, devices, folder):
    """Runs hosts.py in each of several processes with so many devices; returns what each saved."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        address = f"localhost:{found.getsockname()[1]}"
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    script = ROOT / "tests" / "training" / "hosts.py"
    outputs = [folder / f"{processes}_{process}.npz" for process in range(processes)]
    running = [
        subprocess.Popen(
            [sys.executable, script, address, str(processes), str(process), out], env=environment
        )
        for process, out in enumerate(outputs)
    ]
    assert [process.wait(timeout=300) for process in running] == [0] * processes
    return [dict(np.load(out)) for out in outputs]


def test_two_processes_train_and_predict_as_one(tmp_path):
    (one,) = run(1, 4, tmp_path)
    first, second = run(2, 2, tmp_path)
    assert one["devices"].tolist() == [4, 4] and first["devices"].tolist() == [4, 2]
    for process in (first, second):
        np.testing.assert_allclose(process["weights"], one["weights"], rtol=1e-6)
        np.testing.assert_allclose(process["losses"], one["losses"], rtol=1e-6)
    # Each process reads and predicts its share of the batch.
    rows = np.concatenate([first["rows"], second["rows"]])
    np.testing.assert_allclose(rows, one["rows"], rtol=1e-6)
