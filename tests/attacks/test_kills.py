"""Kills at every change to the file system lose and mix nothing."""

import subprocess
import sys

from tests.places import ROOT


def test_nothing_is_lost_or_mixed():
    # in a process of its own, because this one has threads, which do not survive a fork
    command = [sys.executable, "-m", "tests.attacks.kills"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    kills = [int(line.split(": ")[1].split()[0]) for line in done.stdout.splitlines()]
    assert len(kills) == 3 and min(kills) >= 8
