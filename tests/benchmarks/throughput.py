"""What the networks could reach on an accelerator: calculated from operations and bytes, not
measured.

    python -m tests.benchmarks.throughput [--tflops 100] [--gigabytes 1500]

A roofline: the slower of computing all convolutions at --tflops and moving all activations at
--gigabytes per second, in bfloat16. Bytes count every convolution's image in and out, and for
BatchNorm two reads and a write forward, three reads and a write backward, nothing fused: XLA moves
less. Peaks are for dense bfloat16; networks this narrow reach a part of them.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params

from covjax.models import create_model
from tests.benchmarks.contenders import NETWORKS

BYTES = 2  # of a bfloat16


def convolutions(jaxpr):
    """Yields every convolution of a traced program, those inside calls too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            yield equation
        # one branch per platform, the last for accelerators
        elif equation.primitive.name == "cond":
            yield from convolutions(equation.params["branches"][-1].jaxpr)
        else:
            for inner in jaxprs_in_params(equation.params):
                yield from convolutions(inner)


def cost(network):
    """Returns (operations, bytes forward, bytes of a training step) per slice."""
    model = create_model(network)
    x = jnp.zeros((1, *NETWORKS[network]))
    variables = jax.eval_shape(model.init, jax.random.PRNGKey(0), x)
    operations = moved = normalised = 0
    for equation in convolutions(jax.make_jaxpr(model.apply)(variables, x).jaxpr):
        image, kernel = (v.aval.shape for v in equation.invars)
        out = equation.outvars[0].aval.shape
        operations += 2 * np.prod(out) * np.prod(kernel[:3])
        moved += BYTES * (np.prod(image) + np.prod(out))
        normalised += BYTES * np.prod(out)
    return operations, moved + 3 * normalised, 3 * moved + 7 * normalised


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tflops", type=float, default=100.0, help="matrix products, 10^12 operations per second"
    )
    parser.add_argument(
        "--gigabytes", type=float, default=1500.0, help="memory, 10^9 bytes per second"
    )
    options = parser.parse_args()
    print(f"calculated for {options.tflops:g} TFLOP/s and {options.gigabytes:g} GB/s")
    print("network    what   GFLOP/slice MB/slice slices/s limited by")
    for network in NETWORKS:
        operations, forward, step = cost(network)
        for what, times, moved in (("eval", 1, forward), ("train", 3, step)):
            computing = times * operations / (options.tflops * 1e12)
            moving = moved / (options.gigabytes * 1e9)
            limit = "computing" if computing > moving else "memory"
            slices = 1 / max(computing, moving)
            print(
                f"{network:10} {what:6} {times * operations / 1e9:11.2f} {moved / 1e6:8.1f} "
                f"{slices:8.0f} {limit}"
            )


if __name__ == "__main__":
    main()
