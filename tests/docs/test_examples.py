"""Every example runs, from the top of the repository, as its page says."""

import os
import subprocess
import sys

import pytest

from tests.places import ROOT

EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
OF_A_RUN = ["train_from_python", "screen_a_scan", "results_with_pandas"]  # in this order


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("examples")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OF_A_RUN, *sorted({*EXAMPLES} - {*OF_A_RUN})])
def test_it_runs(name, folder):
    if name == "results_with_pandas":
        pytest.importorskip("pandas", reason="pandas is in the extra docs")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, ROOT / "examples" / f"{name}.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout


def test_every_example_is_on_the_page():
    page = (ROOT / "docs" / "examples.md").read_text()
    assert all(f"python examples/{name}.py\n" in page for name in EXAMPLES)
