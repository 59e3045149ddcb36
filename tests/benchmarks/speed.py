r"""Training and evaluation speed of networks against PyTorch, on the same cores in interleaved
repeats.

    python -m tests.benchmarks.speed [--networks cov_ctnet] \
        [--modes covjax channels_last] [--json OUT.json]

--networks takes the classifiers at 82x82 and, at 304x304, cov_raseg and unet; those of torchvision
and timm need both.

Every contender is a process of its own; they take turns, so that what else the machine does meets
all of them. Prints milliseconds per slice (median over the repeats), GFLOP/s, seconds that the
first call takes longer (compiling), peak memory and the ratio to the fastest PyTorch mode of the
same precision (above 1: covjax is faster). --guard fails where covjax falls below the FLOORS:
ratios, because seconds differ from machine to machine. Needs `pip install -e '.[parity]'`. A CPU
without bfloat16 instructions takes minutes for a batch in PyTorch's bf16 modes: leave them out
there. For huge pages set GLIBC_TUNABLES=glibc.malloc.hugetlb=1 for all.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.contenders import COVJAX_MODES, NETWORKS, TORCH_MODES
from tests.places import ROOT

WHAT = ("train", "eval")
# Least ratio to the fastest PyTorch mode of the same precision.
FLOORS = {
    ("cov_ctnet", "train", "covjax"): 0.8,
    ("cov_ctnet", "eval", "covjax"): 0.9,
    ("resnet50", "train", "covjax"): 0.8,
    ("resnet50", "eval", "covjax"): 0.9,
    ("cov_raseg", "train", "covjax"): 1.0,
    ("cov_raseg", "eval", "covjax"): 1.2,
    ("cov_raseg", "train", "covjax_bf16"): 0.6,
}


def flops_per_slice(network):
    """Floating-point operations of one forward pass of a slice, as XLA counts them; a training step
    has three times.
    """
    import jax
    import jax.numpy as jnp

    from covjax.models import create_model

    model = create_model(network)
    x = jnp.zeros((1, *NETWORKS[network]))
    variables = jax.eval_shape(model.init, jax.random.PRNGKey(0), x)
    return jax.jit(model.apply).lower(variables, x).cost_analysis()["flops"]


class Contender:
    """A process that times one call at a time."""

    def __init__(self, network, mode, batch_size):
        self.mode = mode
        self.times = {what: [] for what in WHAT}
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.contenders",
            network,
            mode,
            str(batch_size),
        ]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.compile = self.answer()["compile"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"error: contender {self.mode} stopped, see its message above")
        return json.loads(line)

    def turn(self, what):
        print(what, file=self.process.stdin, flush=True)
        self.times[what].append(self.answer())

    def finish(self):
        self.process.stdin.close()
        self.peak_mb = self.answer()
        self.process.wait()


def measure(network, modes, batch_size, repeats):
    """Returns one row per mode and kind of work."""
    contenders = [Contender(network, mode, batch_size) for mode in modes]
    for repeat in range(repeats):
        order = contenders if repeat % 2 else contenders[::-1]
        for what in WHAT:
            for contender in order:
                contender.turn(what)
    for contender in contenders:
        contender.finish()
    flops = flops_per_slice(network)
    rows = []
    for what in WHAT:
        fastest = {}
        for low in (False, True):
            peers = [c for c in contenders if c.mode in TORCH_MODES and ("bf16" in c.mode) == low]
            fastest[low] = min((statistics.median(c.times[what]) for c in peers), default=None)
        for c in contenders:
            seconds = statistics.median(c.times[what])
            peer = fastest["bf16" in c.mode]
            rows.append(
                {
                    "network": network,
                    "what": what,
                    "mode": c.mode,
                    "ms_per_slice": 1e3 * seconds / batch_size,
                    "spread": (max(c.times[what]) - min(c.times[what])) / seconds,
                    "gflops_per_second": flops
                    * (3 if what == "train" else 1)
                    * batch_size
                    / seconds
                    / 1e9,
                    "compile_seconds": c.compile[what],
                    "peak_mb": c.peak_mb,
                    "ratio_to_torch": None if peer is None else peer / seconds,
                }
            )
    return rows


def environment():
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "jax": version("jax"),
        "torch": version("torch"),
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", ""),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def show(rows):
    print(
        "network            what   mode            ms/slice  spread  "
        "GFLOP/s compile s  peak MB ratio"
    )
    for r in rows:
        ratio = "" if r["ratio_to_torch"] is None else f"{r['ratio_to_torch']:.2f}"
        print(
            f"{r['network']:18} {r['what']:6} {r['mode']:14} {r['ms_per_slice']:9.2f} "
            f"{r['spread']:7.0%} {r['gflops_per_second']:8.0f} {r['compile_seconds']:9.1f} "
            f"{r['peak_mb']:8.0f} {ratio}",
            flush=True,
        )


def below_floor(rows):
    """Returns one line for each row of covjax that is slower than it may be."""
    measured = {(r["network"], r["what"], r["mode"]): r["ratio_to_torch"] for r in rows}
    found = {key: measured[key] for key in FLOORS if measured.get(key) is not None}
    if not found:
        raise SystemExit(
            "error: --guard needs a mode of covjax and one of PyTorch of its precision "
            "among --modes"
        )
    return [
        f"{' '.join(key)}: {ratio:.2f} times PyTorch, the floor is {FLOORS[key]}"
        for key, ratio in found.items()
        if ratio < FLOORS[key]
    ]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--networks", nargs="+", choices=NETWORKS, default=["cov_ctnet", "cov_raseg"]
    )
    parser.add_argument(
        "--modes",
        nargs="+",
        choices=(*COVJAX_MODES, *TORCH_MODES),
        default=[*COVJAX_MODES, *TORCH_MODES],
    )
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--guard", action="store_true", help="exit with status 1 below the floors")
    parser.add_argument("--json", type=Path, help="where to write the rows and the environment")
    options = parser.parse_args()
    print(environment(), flush=True)
    rows = []
    for network in options.networks:
        rows += measure(network, options.modes, options.batch_size, options.repeats)
    show(rows)
    if options.json:
        options.json.write_text(
            json.dumps({"environment": environment(), "rows": rows}, indent=1), encoding="utf-8"
        )
    slow = below_floor(rows) if options.guard else []
    if slow:
        raise SystemExit("\n".join(slow))


if __name__ == "__main__":
    main()
