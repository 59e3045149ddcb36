"""Runs the project's commands, each in a process of its own, forked from one that has imported what
takes longest.

That one is this file run as a program. It must not compute anything itself: a jax that has started
cannot be forked.
"""

import gc
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

ROOT = Path(__file__).parents[1]
SECONDS = 300
# Tracing makes so many objects that looking for cycles among them takes a seventh of the time.
FEW_COLLECTIONS = (200_000, 20, 50)


class Commands:
    """Calls of it run one command: Commands()("train.py", "--config=...") has returncode, stdout
    and stderr.
    """

    def __init__(self):
        self.server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.server.stdout.readline() == "ready\n", (
            "it says above what kept it from starting"
        )

    def __call__(self, program, *arguments, before="", limit=None, **environment):
        """Runs a file or a module, after the statements `before`, allowed files of `limit`
        bytes.
        """
        with TemporaryDirectory() as folder:
            request = {
                "argv": [str(word) for word in (program, *arguments)], "before": before,
                "limit": limit,
                "environment": environment, "folder": folder,
            }  # fmt: skip
            pipes = [Path(folder) / name for name in ("stdout", "stderr")]
            for pipe in pipes:
                os.mkfifo(pipe)
            print(json.dumps(request, default=str), file=self.server.stdin, flush=True)
            with ThreadPoolExecutor(2) as pool:
                stdout, stderr = pool.map(partial(Path.read_text, encoding="utf-8"), pipes)
            status = int(self.server.stdout.readline())
            assert status != -signal.SIGALRM, f"{arguments}: still running after {SECONDS} s"
        return SimpleNamespace(returncode=status, stdout=stdout, stderr=stderr)

    def close(self):
        self.server.communicate(timeout=10)


def next_request():
    """Starts a process for every line that asks for one; returns what is asked for, in that process
    alone.
    """
    for line in sys.stdin:
        request = json.loads(line)
        with warnings.catch_warnings(action="ignore"):
            child = os.fork()
        if not child:
            return request
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    sys.exit()


def prepare(argv, before, limit, environment, folder):
    signal.alarm(SECONDS)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{folder}/{name}", os.O_WRONLY), descriptor)
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    os.environ.update(environment)
    sys.argv = argv
    exec(before, {})


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.path[0] = str(ROOT)
    import covjax.commands.cli
    import covjax.framework
    import covjax.report
    import covjax.study  # noqa: F401

    gc.set_threshold(*FEW_COLLECTIONS)
    gc.freeze()
    print("ready", flush=True)
    request = next_request()
    prepare(**request)
    if request["argv"][0].endswith(".py"):
        runpy.run_path(request["argv"][0], run_name="__main__")
    else:
        runpy.run_module(request["argv"][0], run_name="__main__", alter_sys=True)
