"""XLA flags: added to the user's own, announced, and set before jax starts. Compiled programs kept
on disk.
"""

import os
import subprocess
import sys
import zlib

import pytest

from covjax import runtime
from covjax.errors import InputError
from covjax.runtime import XLA_FLAGS, use_xla_flags
from tests.places import ROOT

# What train.py does until its run begins, then whether jax has started, then whether it does with
# these flags.
START = """
from covjax.commands import train
from covjax.runs import train as runs
from jax._src import xla_bridge
runs.train_run = lambda *_: print("started:", xla_bridge.backends_are_initialized())
train.show = lambda _: print(__import__("jax").device_count())
train.main()
"""


@pytest.mark.parametrize("preset", XLA_FLAGS)
def test_flags_join_those_of_the_environment_and_are_announced(preset, monkeypatch, capsys):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    use_xla_flags(preset)
    flags = os.environ["XLA_FLAGS"].split()
    assert flags == ["--xla_force_host_platform_device_count=1", *XLA_FLAGS[preset]]
    assert capsys.readouterr().out == (
        f"XLA_FLAGS: {' '.join(XLA_FLAGS[preset])}\n" if XLA_FLAGS[preset] else ""
    )


def test_an_unknown_preset_is_an_error():
    with pytest.raises(InputError, match="did you mean 'nvidia_fast'"):
        use_xla_flags("nvidia_fst")


@pytest.mark.parametrize("preset", [p for p in XLA_FLAGS if p != "none"])
def test_train_sets_them_before_jax_starts_and_this_jax_knows_them(preset, tmp_path):
    command = [
        sys.executable,
        "-c",
        START,
        "--config",
        "configs/quickstart.py",
        "--workdir",
        str(tmp_path),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [*command, f"--config.xla_flags={preset}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"XLA_FLAGS: {' '.join(XLA_FLAGS[preset])}",
        "started: False",
        "1",
    ]


# Compiles a program of as many kernels as it is told, with the cache in a folder of its own and a
# low limit.
COMPILE = """
import sys, jax, jax.numpy as jnp
from covjax import runtime
folder, kernels = sys.argv[1], int(sys.argv[2])
jax.config.update("jax_compilation_cache_dir", folder)
runtime.MAX_KERNELS, runtime.SMALL_PROGRAM, runtime.SHORT_COMPILE = 30, 0, 0
runtime.enable_compilation_cache()
def chain(x):
    for k in range(kernels):
        x = jax.lax.reduce_window(x, 0.0, jax.lax.add, (3,), (1,), "SAME") + k
    return x
print(jax.jit(chain)(jnp.arange(8.0))[0])
"""


def compiled(folder, kernels):
    """Runs COMPILE; returns the programs that it leaves in the cache."""
    command = [sys.executable, "-c", COMPILE, str(folder), str(kernels)]
    environment = os.environ | {"XLA_FLAGS": ""}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return {path.name for path in folder.glob("jit_chain-*-cache")}


def test_programs_that_xla_could_not_read_back_are_not_kept(tmp_path):
    assert compiled(tmp_path / "small", 20) == compiled(tmp_path / "small", 20) != set()
    assert compiled(tmp_path / "large", 40) == set()


@pytest.mark.parametrize("pack", ["zlib", "zstandard", "damaged"])
def test_programs_left_by_others_are_looked_through_once(tmp_path, monkeypatch, pack):
    def packed(kernels):
        data = b"\x7fELF" * kernels + bytes(range(256))
        if pack == "zstandard":
            return pytest.importorskip("zstandard").ZstdCompressor().compress(data)
        return zlib.compress(data) if pack == "zlib" else data

    monkeypatch.setattr(runtime, "SMALL_PROGRAM", 10)
    for name, kernels in (("few", runtime.MAX_KERNELS), ("many", runtime.MAX_KERNELS + 1)):
        (tmp_path / f"{name}-cache").write_bytes(packed(kernels))
    checked = set()
    runtime.drop_unreadable(tmp_path, checked)
    kept = {"few-cache"} if pack != "damaged" else {"few-cache", "many-cache"}
    assert {path.name for path in tmp_path.iterdir()} == kept and checked == {
        "few-cache",
        "many-cache",
    }
    runtime.drop_unreadable(tmp_path / "nowhere", checked)
