"""What every test may rely on."""

import gc
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from covjax import plugins
from tests.commands import FEW_COLLECTIONS, Commands
from tests.places import ROOT

ON_DEVICES = ("evaluation/test_predict.py", "training/test_program.py", "training/test_step.py")
# Compiling is most of the work, and few programs run more than once. XLA_FLAGS= runs the tests with
# what users run.
QUICK = "--xla_backend_optimization_level=0"
# the older way to compile fusions takes half the time; later versions lack it
if jax.__version_info__ < (0, 11):
    QUICK += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", QUICK)
# The same cases each time: what passes here passes in CI. Others: --hypothesis-profile=default.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
gc.set_threshold(*FEW_COLLECTIONS)
sys.path.insert(0, str(ROOT))  # tests/ and docs/ are no parts of the installed package


def pytest_collection_modifyitems(items):
    """Starts with what takes longest."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_xdist_make_scheduler(config, log):
    """Keeps each file in one process, and those together that share the fixture `on_devices` or
    `trained`.
    """

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            name = nodeid.split("::")[0]
            if name.endswith(ON_DEVICES):
                return "devices"
            return "trained" if "/runs/" in name or "/screening/" in name else name

    return ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Tests that train the same network again need not compile it again."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("xla")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture
def forgetting():
    """Forgets after a test what it registered and which plug-ins it loaded."""
    before = [dict(table) for _, table in plugins.TABLES]
    loaded = list(plugins.LOADED)
    yield
    for (_, table), entries in zip(plugins.TABLES, before, strict=True):
        table.clear()
        table.update(entries)
    plugins.LOADED[:] = loaded


@pytest.fixture(scope="session")
def users_fusions():
    """Compiler options for what depends on how a program rounds: fusions are compiled as they are
    for users.
    """
    return (
        {"xla_cpu_use_fusion_emitters": True}
        if "fusion_emitters" in os.environ["XLA_FLAGS"]
        else {}
    )


@pytest.fixture(scope="session")
def run_command():
    """run_command("train.py", "--config=...") runs it as a user would; see commands.py."""
    commands = Commands()
    yield commands
    commands.close()


@pytest.fixture(scope="session")
def on_devices(tmp_path_factory):
    """{number of devices: what devices.py computed on that many}, on one and on four."""
    folder = tmp_path_factory.mktemp("devices")
    running = {}
    for count in (1, 4):
        environment = os.environ | {
            "XLA_FLAGS": f"{QUICK} --xla_force_host_platform_device_count={count}",
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, ROOT / "tests" / "devices.py", folder / f"{count}.npz"]
        running[count] = subprocess.Popen(command, env=environment)
    assert {count: process.wait() for count, process in running.items()} == {1: 0, 4: 0}
    return {count: dict(np.load(folder / f"{count}.npz")) for count in running}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """(workdir, config) of a finished run of both stages."""
    from covjax.runs.train import train_run
    from covjax.settings import read_settings
    from tests.trained import tiny_config

    folder = tmp_path_factory.mktemp("run")
    config = tiny_config(folder)
    train_run(read_settings(config), folder / "workdir")
    return folder / "workdir", config
