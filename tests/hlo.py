"""Reading compiled programs."""

import re

import numpy as np


def all_reduces(program: str) -> list[int]:
    """Returns how many float32 values each all-reduce of an HLO text sums over the devices."""
    results = re.findall(r"= (.*?) all-reduce(?:-start)?\(", program)
    shapes = ([s for s in re.findall(r"f32\[([\d,]*)\]", result)] for result in results)
    return [
        sum(int(np.prod([int(n) for n in s.split(",") if n])) for s in found) for found in shapes
    ]


def operations(program: str, name: str) -> list[str]:
    """Returns the lines of a StableHLO text that hold operation `name`."""
    return [line for line in program.splitlines() if f"stablehlo.{name}" in line]
