"""What the parts find: noted as they find it, and shown as a table."""

import argparse
import contextlib
import json
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np


class Notes:
    """Writes one JSON line per finding, and knows when the time of a part is over."""

    def __init__(self, path: Path, limit: float, small: bool):
        self.path = path
        self.small = small
        self.until = time.perf_counter() + limit

    def add(self, what: str, **values) -> None:
        row = {"what": what, **values}
        print(json.dumps(row), flush=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def late(self, what: str) -> bool:
        """Notes that something is left out if the time is over."""
        late = time.perf_counter() > self.until
        if late:
            self.add(what, left_out="the time is over")
        return late

    @contextlib.contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Notes what goes wrong and goes on: the next check is still worth its time."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.add(what, error=repr(error)[:300])


def run(part: Callable[[Notes], None]) -> None:
    """Runs one part as a process of its own, see __main__.py."""
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("limit", type=float)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    notes = Notes(options.output, options.limit, options.small)
    note_environment(notes)
    part(notes)


def note_environment(notes: Notes) -> None:
    import jax

    kinds = [str(device.device_kind) for device in jax.devices()]
    notes.add("environment", jax=jax.__version__, devices=kinds, date=time.strftime("%Y-%m-%d"))


def median_seconds(function: Callable[[], object], repeats: int = 20, warm: int = 3) -> float:
    """Returns the median over calls, after some that compile; `function` waits for its result."""
    for _ in range(warm):
        function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def failures(found: dict[str, list[dict]]) -> list[str]:
    """Returns a line for each check that failed, or that lies outside its bound."""
    lines = []
    for part, rows in found.items():
        for row in rows:
            if "error" in row:
                lines.append(f"{part}: {row['what']}: {row['error']}")
            elif not row.get("within", True):
                lines.append(
                    f"{part}: {row['what']}: {row['difference']:.1e} is beyond {row['bound']}"
                )
    return lines


def table(found: dict[str, list[dict]]) -> str:
    """Returns all findings, a line each, and the failures below."""
    lines = []
    for part, rows in found.items():
        lines.append(f"{part}:")
        for row in rows:
            values = ", ".join(
                f"{key} {_shown(value)}" for key, value in row.items() if key != "what"
            )
            lines.append(f"  {row['what']}: {values}")
    failed = failures(found)
    lines.append(f"failed: {len(failed)}")
    return "\n".join([*lines, *(f"  {line}" for line in failed)])


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
