"""A training step on 1, 2, 4 and 8 simulated devices: seconds, bytes exchanged, how evenly a batch
is shared.

    python -m tests.benchmarks.scaling [--networks cov_ctnet] [--batch_size 8]

The devices share this machine's cores, so the step cannot get faster; what is to be seen is that it
hardly gets slower, and what the devices would have to exchange.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

from tests.benchmarks.contenders import NETWORKS, covjax_parts, timed
from tests.benchmarks.speed import ROOT
from tests.hlo import all_reduces

COUNTS = (1, 2, 4, 8)


def measure(network, batch_size, repeats):
    """Prints one JSON row for the devices this process has."""
    import jax

    from covjax.parallel import shard

    step, state, _, _, batch = covjax_parts(network, "float32", batch_size)
    shards = shard(batch)
    program = step.lower(state, shards).compile()
    summed = all_reduces(program.as_text())

    def train():
        nonlocal state
        state, metrics = program(state, shards)
        jax.block_until_ready(metrics)

    train()
    row = {
        "network": network,
        "devices": jax.local_device_count(),
        "slices_per_device": shards["image"].shape[1],
        "ms_per_slice": 1e3 * statistics.median(timed(train) for _ in range(repeats)) / batch_size,
        "all_reduces": len(summed),
        "megabytes": 4 * sum(summed) / 1e6,
    }
    print(json.dumps(row))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--networks", nargs="+", choices=NETWORKS, default=["cov_ctnet", "cov_raseg"]
    )
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--here", action="store_true", help="measure in this process, on the devices it has"
    )
    options = parser.parse_args()
    if options.here:
        return [
            measure(network, options.batch_size, options.repeats) for network in options.networks
        ]
    print("network    devices slices/device ms/slice all-reduces MB per step")
    for network in options.networks:
        for count in COUNTS:
            flags = (
                f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
            )
            command = [
                sys.executable,
                "-m",
                "tests.benchmarks.scaling",
                "--here",
                "--networks",
                network,
            ]
            command += ["--batch_size", str(options.batch_size), "--repeats", str(options.repeats)]
            output = subprocess.check_output(
                command, cwd=ROOT, env=os.environ | {"XLA_FLAGS": flags}, text=True
            )
            r = json.loads(output.splitlines()[-1])
            print(
                f"{network:10} {count:7} {r['slices_per_device']:13} {r['ms_per_slice']:8.1f} "
                f"{r['all_reduces']:11} {r['megabytes']:11.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
