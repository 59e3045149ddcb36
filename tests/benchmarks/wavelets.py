"""Speed of the wavelet transforms against PyWavelets, ptwt and jaxwt on the same cores, in turns.

    python -m tests.benchmarks.wavelets [--images 829] [--repeats 5] [--json OUT.json]

Milliseconds for one batch of 304x304 float32 slices, symmetric extension (fastest of the repeats):
forward, inverse, and forward with the gradient of the sum of squares. Beside them the copy of the
same bytes, which no transform can beat: into an array that is there, and into a new one, as every
contender writes. The last columns say how many times the contender's time covjax takes less, and
how many copies covjax takes. Needs `pip install -e '.[bench]'`. On Linux,
GLIBC_TUNABLES=glibc.malloc.hugetlb=1 (huge pages, for all) makes new arrays much cheaper.
"""

import argparse
import json
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxwt
import numpy as np
import ptwt
import pywt
import torch

from covjax.ops import subbands
from covjax.ops.wavelets import HEIGHT, WIDTH, _forward_axes, wavedec2, waverec2

CASES = (("haar", 1), ("db4", 1), ("haar", 2))
WHAT = ("forward", "inverse", "gradient")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def energy(coeffs):
    return sum((band**2).sum() for band in jax.tree.leaves(coeffs))


def covjax_functions(x, wavelet, level):
    x = jnp.asarray(x)[..., None]
    forward = jax.jit(partial(wavedec2, wavelet=wavelet, level=level))
    inverse = jax.jit(partial(waverec2, wavelet=wavelet))
    gradient = jax.jit(jax.value_and_grad(lambda x: energy(wavedec2(x, wavelet, level=level))))
    return jax_runs(x, forward, inverse, gradient)


def convolution_functions(x, wavelet, level):
    """What accelerators run."""
    x = jnp.asarray(x)[..., None]
    axes = [_forward_axes(x.shape, wavelet, "symmetric", (WIDTH, HEIGHT))]
    for _ in range(level - 1):
        size = (axes[-1][1].size + len(axes[-1][0].filters.low) - 1) // 2
        axes.append(_forward_axes((1, size, size, 1), wavelet, "symmetric", (WIDTH, HEIGHT)))

    def forward(x):
        details = []
        for places in axes:
            x, *high = subbands._split(x, axes=places, decimate=subbands.convolve)
            details.append(high)
        return [x, *details]

    return {"forward": jax_run(jax.jit(forward), x)}


def jaxwt_functions(x, wavelet, level):
    x = jnp.asarray(x)
    wavelet = pywt.Wavelet(wavelet)
    transform = partial(jaxwt.wavedec2, wavelet=wavelet, mode="symmetric", level=level)
    gradient = jax.value_and_grad(lambda x: energy(transform(x)))
    return jax_runs(
        x, jax.jit(transform), jax.jit(partial(jaxwt.waverec2, wavelet=wavelet)), jax.jit(gradient)
    )


def jax_runs(x, forward, inverse, gradient):
    coeffs = jax.block_until_ready(forward(x))
    return {
        "forward": jax_run(forward, x),
        "inverse": jax_run(inverse, coeffs),
        "gradient": jax_run(gradient, x),
    }


def jax_run(function, x):
    return lambda: jax.block_until_ready(function(x))


def ptwt_functions(x, wavelet, level):
    x = torch.from_numpy(x)
    transform = partial(ptwt.wavedec2, wavelet=wavelet, mode="symmetric", level=level)
    coeffs = transform(x)

    def gradient():
        variable = x.clone().requires_grad_()
        energy(transform(variable)).backward()
        return variable.grad

    return {
        "forward": lambda: transform(x),
        "inverse": lambda: ptwt.waverec2(coeffs, wavelet),
        "gradient": gradient,
    }


def pywavelets_functions(x, wavelet, level, threads=1):
    """Batched over the first axis; with threads, a part of the batch in each, as its documentation
    advises.
    """
    parts = np.array_split(x, threads)
    transform = partial(pywt.wavedec2, wavelet=wavelet, level=level, axes=(1, 2))
    back = partial(pywt.waverec2, wavelet=wavelet, axes=(1, 2))
    pool = ThreadPoolExecutor(threads)
    coeffs = list(pool.map(transform, parts))
    return {
        "forward": lambda: list(pool.map(transform, parts)),
        "inverse": lambda: list(pool.map(back, coeffs)),
    }


CONTENDERS = {
    "covjax": covjax_functions,
    "covjax by convolution": convolution_functions,
    "pywavelets": pywavelets_functions,
    f"pywavelets, {CORES} threads": partial(pywavelets_functions, threads=CORES),
    "ptwt": ptwt_functions,
    "jaxwt": jaxwt_functions,
}


def copies(x):
    there = np.empty_like(x)
    on_device = jnp.asarray(x)
    return {
        "copy": lambda: np.copyto(there, x),
        "copy into a new array": jax_run(jax.jit(jnp.copy), on_device),
    }


def in_turns(functions, repeats):
    """Returns the least milliseconds of each function: what else the machine does only ever
    adds.
    """
    times = {name: [] for name in functions}
    for repeat in range(repeats + 1):  # the first time compiles
        for name, function in functions.items():
            start = time.perf_counter()
            result = function()
            seconds = time.perf_counter() - start
            del result  # freed outside the clock
            if repeat:
                times[name].append(1e3 * seconds)
    return {name: min(values) for name, values in times.items()}


def measure(x, wavelet, level, repeats):
    made = {name: make(x, wavelet, level) for name, make in CONTENDERS.items()}
    rows = []
    for what in WHAT:
        functions = {name: functions[what] for name, functions in made.items() if what in functions}
        times = in_turns(functions | copies(x), repeats)
        ours = times["covjax"]
        for name, ms in times.items():
            ratio = (
                ("copies", ours / ms) if name.startswith("copy") else ("times_covjax", ms / ours)
            )
            row = {"wavelet": wavelet, "level": level, "what": what, "who": name, "ms": ms}
            rows.append(row | dict([ratio]))
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=829)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write the rows and the environment")
    options = parser.parse_args()
    packages = ("jax", "numpy", "PyWavelets", "ptwt", "jaxwt", "torch")
    environment = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": CORES,
        **{name: version(name) for name in packages},
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", ""),
    }
    print(environment, flush=True)
    x = np.random.default_rng(0).uniform(0, 255, (options.images, 304, 304)).astype(np.float32)
    rows = []
    print("wavelet levels what     who                         ms x covjax copies")
    for wavelet, level in CASES:
        for r in measure(x, wavelet, level, options.repeats):
            rows.append(r)
            ratios = [
                f"{r[key]:8.2f}" if key in r else 8 * " " for key in ("times_covjax", "copies")
            ]
            print(
                f"{wavelet:7} {level:6} {r['what']:8} {r['who']:22} {r['ms']:7.1f}",
                *ratios,
                flush=True,
            )
    if options.json:
        options.json.write_text(
            json.dumps({"environment": environment, "rows": rows}, indent=1), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
