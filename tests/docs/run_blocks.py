"""Runs the shell blocks of README.md and docs/ with a small budget.

  python -m tests.docs.run_blocks [PAGE ..]
      PAGE as docs/how-to/screen.md, or one block of it as docs/how-to/screen.md:2

Takes some 40 minutes on two CPU cores for all pages; needs the extras test, docs, lite0 and seg.
Every page has a folder of its own in which its blocks run in order: with placeholders for data
(tests/docs/placeholders.py), the Python files that the page shows by name and, for a run that the
page trains nowhere, a copy of a small one. What training costs is cut in
tests/docs/small_budget.py; the text of the blocks is not changed.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.docs.pages import Block, bash_blocks, named_files, pages
from tests.docs.placeholders import make_placeholders
from tests.places import ROOT

INSTALLS = "installs packages into a new environment; the commands are held word for word by a test"
NOT_RUN = {
    "README.md:1": INSTALLS,
    "README.md:2": INSTALLS,
    "docs/getting-started.md:1": INSTALLS,
    "docs/getting-started.md:2": "activates an environment that the blocks need not",
    "docs/getting-started.md:5": INSTALLS,
    "docs/how-to/devices.md:1": "downloads CUDA",
    "docs/how-to/devices.md:2": "needs a GPU",
    "docs/how-to/install.md:1": INSTALLS,
    "docs/how-to/screen.md:4": "takes many minutes; the suite runs the same test with fewer cases",
    "docs/how-to/train-own-data.md:6": "installs a package",
}
# Exit status of commands that say by it what they found.
STATUS = {"docs/explanation/paper.md:1": 3, "docs/how-to/audit.md:1": None}
LINKED = ("configs", "covjax", "docs", "examples", "tests", "train.py", "eval.py", "pyproject.toml")
SMALL_RUN = "covjax train --config configs/framework.py --workdir runs/small"


def blocks() -> list[Block]:
    """Returns the shell blocks of all pages."""
    return [block for page, text in pages().items() for block in bash_blocks(page, text)]


class Place:
    """A folder in which the blocks of a page run."""

    def __init__(self, folder: Path, data: Path):
        self.folder = folder
        self.data = data
        folder.mkdir(parents=True)
        for name in LINKED:
            (folder / name).symlink_to(ROOT / name)
        for path in data.glob("[A-Z]*"):
            (folder / path.name).symlink_to(path)

    def run(self, block: Block) -> str:
        """Runs a block; returns "" or what went wrong."""
        for path in self.folder.glob("OUT*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        self._bind_runs(block.text)
        script = "set -euo pipefail\n" + block.text
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self._environment(),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        expected = STATUS.get(block.name, 0)
        if expected is None or done.returncode == expected:
            return ""
        return f"status {done.returncode}: {(done.stderr or done.stdout).strip()[-600:]}"

    def _bind_runs(self, text: str) -> None:
        """Copies the small run to where a block expects a run that nothing made."""
        small = self.data / "runs" / "small"
        made = re.findall(r"(?:train|study) .*?--workdir (runs/\w+)", text.replace("\\\n", ""))
        made += re.findall(r"--output (runs/\w+)", text)
        for name in set(re.findall(r"\bruns/\w+", text)):
            needed = not any(name.startswith(run) for run in made)
            if needed and small.is_dir() and not (self.folder / name).exists():
                shutil.copytree(small, self.folder / name)

    def _environment(self) -> dict[str, str]:
        shims = self.data / "shims"
        path = f"{shims}{os.pathsep}{os.environ['PATH']}"
        searched = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        flags = os.environ.get("XLA_FLAGS", "--xla_backend_optimization_level=0")
        cache = str(self.data / "cache")
        return os.environ | {
            "PATH": path, "PYTHONPATH": searched, "XLA_FLAGS": flags, "XDG_CACHE_HOME": cache,
        }  # fmt: skip


def make_shims(folder: Path) -> None:
    """Writes `covjax` with a small budget and this `python` for blocks to find first."""
    folder.mkdir(parents=True)
    shims = {"covjax": "-m tests.docs.small_budget", "python": ""}
    for name, words in shims.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        path.chmod(0o755)


def prepare(folder: Path) -> Path:
    """Writes placeholders, shims and the small run; returns where they are."""
    data = folder / "data"
    data.mkdir()
    make_placeholders(data)
    make_shims(data / "shims")
    return data


def main(names: list[str]) -> int:
    """Runs the blocks of the pages named, or of all; returns the number of failures."""
    chosen = [block for block in blocks() if not names or {block.page, block.name} & {*names}]
    failures = 0
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = prepare(folder)
        first = Place(folder / "first", data)
        problem = first.run(Block("first", 1, SMALL_RUN))
        assert not problem, problem
        (data / "runs").symlink_to(first.folder / "runs")
        places = {}
        for block in chosen:
            if block.name in NOT_RUN:
                print(f"{block.name}: not run, {NOT_RUN[block.name]}", flush=True)
                continue
            if block.page not in places:
                page = re.sub(r"\W", "_", block.page)
                places[block.page] = Place(folder / page, data)
                for name, text in named_files(pages()[block.page]).items():
                    (folder / page / name).write_text(text)
            start = time.monotonic()
            problem = places[block.page].run(block)
            failures += bool(problem)
            print(f"{block.name}: {problem or 'ok'}, {time.monotonic() - start:.0f} s", flush=True)
    return failures


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
