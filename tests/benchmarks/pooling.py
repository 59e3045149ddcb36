"""Speed of max-pooling with indices and of unpooling, in several formulations and PyTorch's, in
turns; then every kind.

    python -m tests.benchmarks.pooling [--repeats 5] [--batch 8] [--kinds] [--json OUT.json]

Milliseconds (fastest of the repeats) of a 2x2 max-pool with indices followed by the unpooling, for
float32 maps of 304x304x64 and 76x76x64: forward, and forward with the gradient. "times torch" is
the better of PyTorch's contiguous and channels_last divided by the contender. With --kinds also
milliseconds per slice of every pooling and unpooling at 304x304x64, forward and with gradient.
Needs PyTorch (`pip install -e '.[parity]'`).
"""

import argparse
import json
import os
import platform
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax
from torch.nn import functional as F

from covjax.nn.pooling import Pool, Unpool
from covjax.ops.pool import pool2d
from covjax.ops.poolings import POOLINGS
from covjax.ops.unpool import FITS, unpool2d

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def one_hot(x):
    """Windows as an axis of their own, argmax, and a one-hot vector of each for the way back."""
    n, h, w, c = x.shape
    blocks = (
        x.reshape(n, h // 2, 2, w // 2, 2, c)
        .transpose(0, 1, 3, 5, 2, 4)
        .reshape(n, h // 2, w // 2, c, 4)
    )
    hot = lax.stop_gradient(jax.nn.one_hot(blocks.argmax(-1), 4, dtype=x.dtype))
    back = (hot * (blocks * hot).sum(-1, keepdims=True)).reshape(n, h // 2, w // 2, c, 2, 2)
    return back.transpose(0, 1, 4, 2, 5, 3).reshape(x.shape)


def window_reduction(x):
    """lax.reduce_window over values with their indices; gathers and scatters by index."""
    n, h, w, c = x.shape
    index = jnp.broadcast_to(jnp.arange(h * w, dtype=jnp.int32).reshape(1, h, w, 1), x.shape)

    def larger(a, b):
        first = (a[0] > b[0]) | ((a[0] == b[0]) & (a[1] < b[1]))
        return jnp.where(first, a[0], b[0]), jnp.where(first, a[1], b[1])

    start = (-jnp.inf, jnp.int32(2**31 - 1))
    _, index = lax.reduce_window(
        (lax.stop_gradient(x), index), start, larger, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
    )
    index = index.reshape(n, -1, c)
    values = jnp.take_along_axis(x.reshape(n, -1, c), index, 1)
    places = jnp.arange(n)[:, None, None], index, jnp.arange(c)
    return jnp.zeros((n, h * w, c)).at[places].set(values, unique_indices=True).reshape(x.shape)


FORMULATIONS = {
    "covjax: selects on views": lambda x: unpool2d(*pool2d(x)),
    "argmax and one-hot": one_hot,
    "reduce_window, gather, scatter": window_reduction,
}


def torch_round_trip(x):
    pooled, index = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(pooled, index, 2)


def torch_functions(x, g, memory_format):
    x, g = (
        torch.tensor(np.moveaxis(a, -1, 1).copy()).contiguous(memory_format=memory_format)
        for a in (x, g)
    )

    def gradient():
        given = x.detach().requires_grad_()
        torch_round_trip(given).backward(g)
        return given.grad

    return {"forward": lambda: torch_round_trip(x), "gradient": gradient}


def jax_functions(function, x, g):
    forward = jax.jit(function)

    @jax.jit
    def gradient(x, g):
        out, pull = jax.vjp(function, x)
        return out, pull(g)

    x = jnp.asarray(x)
    g = jnp.asarray(g)
    return {
        "forward": lambda: jax.block_until_ready(forward(x)),
        "gradient": lambda: jax.block_until_ready(gradient(x, g)),
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


def formulations(batch, side, repeats):
    x, g = np.random.default_rng(0).standard_normal((2, batch, side, side, 64), np.float32)
    made = {name: jax_functions(function, x, g) for name, function in FORMULATIONS.items()}
    made["torch"] = torch_functions(x, g, torch.contiguous_format)
    made["torch, channels_last"] = torch_functions(x, g, torch.channels_last)
    want = made["torch"]["forward"]().numpy()
    for name in FORMULATIONS:
        np.testing.assert_array_equal(np.moveaxis(made[name]["forward"](), -1, 1), want)
    for what in ("forward", "gradient"):
        times = in_turns({name: functions[what] for name, functions in made.items()}, repeats)
        peer = min(ms for name, ms in times.items() if name.startswith("torch"))
        for name, ms in times.items():
            print(f"{side:4} {what:8} {name:32} {ms:8.1f} {peer / ms:7.2f}", flush=True)
            yield {"side": side, "what": what, "who": name, "ms": ms, "times_torch": peer / ms}


def kinds(repeats, batch=2, side=304):
    """Of pooling alone, and of unpooling alone what a pooling that fits left."""
    x = np.random.default_rng(0).standard_normal((batch, side, side, 64), np.float32)
    for kind in POOLINGS:
        key = jax.random.PRNGKey(0)
        pool = Pool(kind)
        variables = jax.jit(pool.init)(key, x)
        run = partial(pool.apply, variables, train=True, rngs={"pooling": key})
        yield kind_row("pooling", kind, lambda x, run=run: run(x)[0], x, repeats)
    for kind, fitting in FITS.items():
        unpool = Unpool(kind)
        pooled, kept = jax.jit(partial(pool2d, kind=fitting[0]))(x)
        variables = unpool.init(jax.random.PRNGKey(0), pooled, kept, (side, side))
        run = partial(unpool.apply, variables, kept=kept, size=(side, side))
        yield kind_row("unpooling", kind, run, np.asarray(pooled), repeats)


def kind_row(what, kind, function, x, repeats):
    g = np.ones(jax.eval_shape(function, x).shape, np.float32)
    times = in_turns(jax_functions(function, x, g), repeats)
    row = {"what": what, "kind": kind} | {name: ms / len(x) for name, ms in times.items()}
    print(f"{what:9} {kind:16} {row['forward']:8.2f} {row['gradient']:8.2f}", flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--kinds", action="store_true", help="also every pooling and unpooling")
    parser.add_argument("--json", type=Path, help="where to write the rows and the environment")
    options = parser.parse_args()
    torch.set_num_threads(CORES)
    environment = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": CORES,
    }
    environment |= {name: version(name) for name in ("jax", "numpy", "torch")}
    environment["GLIBC_TUNABLES"] = os.environ.get("GLIBC_TUNABLES", "")
    print(environment, flush=True)
    print("side what     who                                    ms   times torch")
    rows = [row for side in (304, 76) for row in formulations(options.batch, side, options.repeats)]
    if options.kinds:
        print("ms per slice, 304x304x64            forward, with gradient")
        rows += kinds(options.repeats)
    if options.json:
        options.json.write_text(
            json.dumps({"environment": environment, "rows": rows}, indent=1), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
