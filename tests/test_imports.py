"""The direction of imports, as pyproject.toml states it."""

import subprocess
import sys
from pathlib import Path

from tests.places import ROOT


def test_import_contract():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
