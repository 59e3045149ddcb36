"""Part speed: training steps and evaluation beside PyTorch on the same card, in the same precision.

PyTorch runs channels_last, in TF32 or under autocast in bfloat16, and for two networks compiled.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from covjax.wavelets import dwt2, idwt2
from tests.benchmarks.contenders import covjax_functions
from tests.gpu.findings import Notes, median_seconds, run
from tests.gpu.roofline import least_seconds

# Networks, and the batches they are measured at.
PLANS = [
    ("cov_raseg", 32),
    ("cov_ctnet", 256),
    ("unet", 32),
    ("resnet50", 256),
    ("cov_raseg", 8),
    ("cov_ctnet", 32),
]
COMPILED = ("cov_raseg", "cov_ctnet")  # by torch.compile too
DTYPES = {"float32": "tf32", "bfloat16": "bfloat16"}  # of covjax: of PyTorch


def speed(notes: Notes) -> None:
    wavelets(notes)
    for network, batch in PLANS[:1] if notes.small else PLANS:
        for dtype in DTYPES:
            if notes.late(f"{network} {batch} {dtype}"):
                return
            beside_torch(notes, network, 1 if notes.small else batch, dtype)


def wavelets(notes: Notes) -> None:
    """The paper's 829 slices, in copies of the same bytes."""
    x = jnp.ones((8 if notes.small else 829, 304, 304, 1))
    copy = jax.jit(lambda x: x + 1)
    copied = median_seconds(lambda: copy(x).block_until_ready())
    for wavelet in ("haar", "db4"):
        with notes.attempt(f"dwt2 {wavelet}"):
            forward = jax.jit(partial(dwt2, wavelet=wavelet))
            inverse = jax.jit(partial(idwt2, wavelet=wavelet))
            bands = forward(x)
            there = median_seconds(lambda f=forward: jax.block_until_ready(f(x)))
            back = median_seconds(lambda f=inverse, b=bands: jax.block_until_ready(f(b)))
            notes.add(
                f"dwt2 {wavelet}",
                forward_ms=1e3 * there,
                inverse_ms=1e3 * back,
                forward_copies=there / copied,
                inverse_copies=back / copied,
            )


def beside_torch(notes: Notes, network: str, batch: int, dtype: str) -> None:
    """Notes slices per second of both, and how many times PyTorch's fastest covjax reaches."""
    repeats = 2 if notes.small else 20
    fastest = torch_fastest(notes, network, batch, DTYPES[dtype], repeats)
    what = f"{network} {batch} {dtype}"
    with notes.attempt(what):
        train, evaluate = covjax_functions(network, dtype, batch)
        seconds = {
            "train": median_seconds(train, repeats),
            "eval": median_seconds(evaluate, repeats),
        }
        least = least_seconds(network, dtype, batch)
        values = {}
        for job, taken in seconds.items():
            values[f"{job}_per_s"] = batch / taken
            if job in fastest:
                values[f"{job}_times_torch"] = fastest[job] / taken
            if job in least:
                values[f"{job}_of_roofline"] = least[job] / taken
        memory = jax.devices()[0].memory_stats() or {}
        notes.add(what, peak_gb=memory.get("peak_bytes_in_use", 0) / 1e9, **values)


def torch_fastest(notes: Notes, network: str, batch: int, precision: str, repeats: int) -> dict:
    """Returns PyTorch's least seconds of a training step and of an evaluation; {} without it."""
    if notes.small or jax.default_backend() == "cpu":
        return {}
    from tests.gpu.torch_steps import steps

    fastest = {}
    for compiled in (False, True) if network in COMPILED else (False,):
        what = f"{network} {batch} torch {precision}{' compiled' if compiled else ''}"
        with notes.attempt(what):
            train, evaluate = steps(network, batch, precision, compiled)
            taken = {
                "train": median_seconds(train, repeats),
                "eval": median_seconds(evaluate, repeats),
            }
            notes.add(what, **{f"{job}_per_s": batch / seconds for job, seconds in taken.items()})
            fastest = {
                job: float(np.minimum(taken[job], fastest.get(job, np.inf))) for job in taken
            }
    return fastest


if __name__ == "__main__":
    run(speed)
