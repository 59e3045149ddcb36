"""Every example runs, its training shortened, and its page names it."""

import pytest

from tests.places import ROOT

EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
OF_A_RUN = ["train_from_python", "screen_a_scan", "results_with_pandas"]  # in this order
BEFORE = """
import os, sys
from covjax.runtime import enable_compilation_cache
from tests.docs.short_training import shorten_training
os.chdir({folder!r})
sys.path.insert(0, {examples!r})
enable_compilation_cache()
shorten_training()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("examples")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OF_A_RUN, *sorted({*EXAMPLES} - {*OF_A_RUN})])
def test_it_runs(name, folder, run_command):
    if name == "results_with_pandas":
        pytest.importorskip("pandas", reason="pandas is in the extra docs")
    example = ROOT / "examples" / f"{name}.py"
    before = BEFORE.format(folder=str(folder), examples=str(example.parent))
    done = run_command(example, before=before, XDG_CACHE_HOME=folder / "cache")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout


def test_every_example_is_on_the_page():
    page = (ROOT / "docs" / "examples.md").read_text()
    assert all(f"python examples/{name}.py\n" in page for name in EXAMPLES)
