"""Checks covjax on the GPU of this machine, in four parts of at most six minutes each.

    python -m tests.gpu [parity] [speed] [loop] [resume] [--small] [--output gpu.json]

parity   logits and gradients of networks, wavelets, pooling and losses against the CPU
speed    training steps and evaluation beside PyTorch on the same card, wavelets beside a copy
loop     whole runs: quickstart, and what the loop reaches beside the bare step
resume   killed and resumed to the bit, and what presets of XLA flags change

Each part is a process of its own and starts nothing more when its time is over. All of them merge
into one JSON file, which is written after each part and printed as a table at the end. --small
tries the parts on a CPU, in a few minutes and with sizes that measure nothing. PyTorch, where it is
installed, is measured too. Exit status 1 if a part failed or a bound of parity is missed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.gpu.findings import failures, table
from tests.places import ROOT

PARTS = ("parity", "speed", "loop", "resume")
LIMIT = 300  # seconds after which a part starts nothing more
GRACE = 60  # seconds more until it is killed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="default: all four")
    parser.add_argument("--small", action="store_true", help="a trial on a CPU")
    parser.add_argument(
        "--limit", type=int, default=LIMIT, help="seconds after which a part starts nothing more"
    )
    parser.add_argument("--output", default=str(Path(os.environ.get("OUT", ".")) / "gpu.json"))
    options = parser.parse_args()
    found = {}
    for part in options.parts or PARTS:
        found[part] = run_part(part, options.limit, options.small)
        Path(options.output).write_text(json.dumps(found, indent=1))
    print(table(found))
    print(f"written: {options.output}")
    return 1 if failures(found) else 0


def run_part(part: str, limit: int, small: bool) -> list[dict]:
    """Returns what a part found, up to where it stopped if it failed."""
    # leaves room for PyTorch on the same card
    environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45", **os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "found.jsonl"
        command = [sys.executable, "-m", f"tests.gpu.{part}", str(lines), str(limit)]
        command += ["--small"] if small else []
        try:
            status = subprocess.run(
                command, cwd=ROOT, env=environment, timeout=limit + GRACE, check=False
            ).returncode
            reason = f"ended with status {status}"
        except subprocess.TimeoutExpired:
            status = 1
            reason = f"took more than {limit + GRACE} s"
        text = lines.read_text() if lines.is_file() else ""
    rows = [json.loads(line) for line in text.splitlines()]
    return rows if status == 0 else [*rows, {"what": "the part", "error": reason}]


if __name__ == "__main__":
    sys.exit(main())
