"""XLA flags: added to the user's own, announced, and set before jax starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from covjax.errors import InputError
from covjax.runtime import XLA_FLAGS, use_xla_flags

ROOT = Path(__file__).parents[1]
# What train.py does until its run begins, then whether jax has started, then whether it does with these flags.
START = """
import sys, train
from jax._src import xla_bridge
train.train_run = lambda *_: print("started:", xla_bridge.backends_are_initialized())
train.summary_table = lambda _: __import__("jax").device_count()
train.build_report = lambda _: None
train.cli.run(train.main)
"""


@pytest.mark.parametrize("preset", XLA_FLAGS)
def test_flags_join_those_of_the_environment_and_are_announced(preset, monkeypatch, capsys):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    use_xla_flags(preset)
    flags = os.environ["XLA_FLAGS"].split()
    assert flags == ["--xla_force_host_platform_device_count=1", *XLA_FLAGS[preset]]
    assert capsys.readouterr().out == (f"XLA_FLAGS: {' '.join(XLA_FLAGS[preset])}\n" if XLA_FLAGS[preset] else "")


def test_an_unknown_preset_is_an_error():
    with pytest.raises(InputError, match="did you mean 'nvidia_fast'"):
        use_xla_flags("nvidia_fst")


@pytest.mark.parametrize("preset", [p for p in XLA_FLAGS if p != "none"])
def test_train_sets_them_before_jax_starts_and_this_jax_knows_them(preset, tmp_path):
    command = [sys.executable, "-c", START, "--config", "configs/quickstart.py", "--workdir", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [*command, f"--config.xla_flags={preset}"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"XLA_FLAGS: {' '.join(XLA_FLAGS[preset])}",
        "started: False",
        "1",
        "report: None",
    ]
