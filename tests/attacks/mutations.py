"""Damages files of every kind that covjax reads, and counts what becomes of them.

    python -m tests.attacks.mutations --count 1000

spreads so many mutations over all KINDS, prints a table, and ends with status 1 if one raised
something else than a line that names the file, took over HANGING seconds or GROWTH bytes, or was
read as other content where a checksum tells.
"""

import argparse
import contextlib
import json
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from covjax.errors import InputError, RunError

HANGING = 20  # seconds
GROWTH = 1 << 30  # bytes by which all of them together may raise the peak of memory
NUMBERS = [
    b"\xff" * 8,
    b"\x00\x00\xc0\x7f" * 2,
    b"\x00\x00\x80\x7f" * 2,
    b"\xff\xff\xff\x7f" * 2,
    b"\x00\x80" * 4,
    b"\x00" * 8,
]
WORDS = (
    "../../../etc/passwd", "/dev/zero", "NaN", "-Infinity", "1e999", "-1", "", '"', "\0", "%s%n",
    "\u202eü", "[]", "{}",
    "null", "true", "9" * 40, "a" * 5000, "0.5", "images/../../x.png", "\n", ",", "images",
)  # fmt: skip
VALUES = (
    None,
    True,
    -1,
    0,
    0.5,
    2**70,
    float("nan"),
    float("inf"),
    "",
    "x",
    "ü/../%",
    [],
    {},
    [1, 2],
    [[]],
    {"a": 1},
)
Mutation = Callable[[np.random.Generator, bytes], bytes]


def flipped(rng, data):
    changed = bytearray(data)
    for place in rng.integers(0, len(data), rng.integers(1, 20)):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def overwritten(rng, data):
    """Puts a huge number, NaN, infinity or zero where the header is."""
    number = NUMBERS[rng.integers(len(NUMBERS))]
    place = int(rng.integers(0, min(len(data), 400))) & ~1
    number = number[: int(rng.choice([2, 4, 8]))]
    return data[:place] + number + data[place + len(number) :]


def blanked(rng, data):
    start, stop = np.sort(rng.integers(0, len(data), 2))
    return data[:start] + bytes(stop - start) + data[stop:]


BYTES: dict[str, Mutation] = {
    "truncated": lambda rng, data: data[: rng.integers(len(data))],
    "flipped": flipped,
    "overwritten": overwritten,
    "blanked": blanked,
    "other magic": lambda rng, data: rng.bytes(8) + data[8:],
    "inserted": lambda rng, data: (
        data[: (place := rng.integers(len(data)))] + rng.bytes(16) + data[place:]
    ),
    "twice": lambda rng, data: data + data,
}


def reworded(rng, data):
    """Replaces a word of a text by one that a hostile or careless author may have written."""
    words = list(re.finditer(rb"[\w./+-]+", data))
    word = words[rng.integers(len(words))]
    return data[: word.start()] + WORDS[rng.integers(len(WORDS))].encode() + data[word.end() :]


TEXT = BYTES | {
    "reworded": reworded,
    "reworded twice": lambda rng, data: reworded(rng, reworded(rng, data)),
}


def revalued(rng, data):
    """Gives one field of JSON a value of another kind."""
    whole = json.loads(data)
    section = whole
    while True:
        names = list(section) if isinstance(section, dict) else range(len(section))
        name = names[rng.integers(len(names))]
        if not (isinstance(section[name], dict | list) and section[name]) or rng.random() < 0.05:
            break
        section = section[name]
    section[name] = VALUES[rng.integers(len(VALUES))]
    return json.dumps(whole).encode()


JSON = TEXT | {f"revalued {k}": revalued for k in range(len(TEXT))}  # half of them


@dataclass
class Kind:
    """A file that is read, with what reads it."""

    path: Path
    read: Callable[[Path], object]  # what it returns says what was read
    mutations: dict[str, Mutation] = field(default_factory=lambda: BYTES)
    checked: bool = False  # every change of content shows, by a checksum
    place: Path | None = None  # a folder that errors may name in place of the file


@dataclass
class Result:
    """What became of the mutations of one kind of file."""

    refused: int = 0
    same: int = 0
    other: int = 0
    slowest: float = 0.0
    grown: int = 0  # bytes of the peak of memory
    problems: list[str] = field(default_factory=list)


def _hanging(*_):
    raise TimeoutError(f"hangs for {HANGING} s")


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    earlier = signal.signal(signal.SIGALRM, _hanging)
    signal.alarm(HANGING)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def attack(name: str, kind: Kind, count: int, seed: int = 0) -> Result:
    """Damages a file in `count` ways, reads it each time, and restores it."""
    valid = kind.path.read_bytes()
    want = repr(kind.read(kind.path))
    rng = np.random.default_rng([seed, *name.encode()])
    result = Result()
    before = _peak()
    for number in range(count):
        mutation = list(kind.mutations)[number % len(kind.mutations)]
        kind.path.write_bytes(kind.mutations[mutation](rng, valid))
        start = time.monotonic()
        problem = _one(kind, want, result)
        result.slowest = max(result.slowest, time.monotonic() - start)
        if result.slowest > HANGING:
            problem = problem or f"took {result.slowest:.0f} s"
        if problem:
            result.problems.append(f"{name}, mutation {number} ({mutation}): {problem}")
    kind.path.write_bytes(valid)
    result.grown = _peak() - before
    if result.grown > GROWTH:
        result.problems.append(f"{name}: memory grew by {result.grown / 1e6:.0f} MB")
    return result


def _one(kind: Kind, want: str, result: Result) -> str:
    """Reads a damaged file once; returns what is wrong with that, "" for nothing."""
    try:
        with _alarm():
            found = repr(kind.read(kind.path))
    except (InputError, RunError) as error:
        result.refused += 1
        message = str(error)
        places = (kind.path.name, kind.path.parent, kind.place or kind.path.parents[1])
        named = any(str(place) in message for place in places)
        if not (named and message.isprintable() and len(message) < 9000):
            return f"unclear: {message[:200]!r}"
        return ""
    except Exception:
        return "".join(traceback.format_exc().splitlines(keepends=True)[-5:])
    if found == want:
        result.same += 1
        return ""
    result.other += 1
    return "other content was read" if kind.checked else ""


def main() -> None:
    """Prints what became of the mutations of each kind."""
    from tests.attacks.readers import all_kinds

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, default=1000, help="how many, over all kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="", help="only kinds whose names match this pattern")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    problems = []
    total = Result()
    with tempfile.TemporaryDirectory() as scratch:
        kinds = {n: k for n, k in all_kinds(Path(scratch)).items() if re.search(asked.kinds, n)}
        print(f"{'file':32}{'refused':>9}{'as it was':>11}{'other':>7}{'slowest':>9}{'memory':>9}")
        for number, (name, kind) in enumerate(kinds.items()):
            count = (number + 1) * asked.count // len(kinds) - number * asked.count // len(kinds)
            one = attack(name, kind, count, asked.seed)
            _print(name, one)
            for what in ("refused", "same", "other", "grown"):
                setattr(total, what, getattr(total, what) + getattr(one, what))
            total.slowest = max(total.slowest, one.slowest)
            problems += one.problems
    _print("all", total)
    print(*problems, f"{len(problems)} problems", sep="\n")
    sys.stdout.flush()
    os._exit(bool(problems))


def _print(name: str, one: Result) -> None:
    print(
        f"{name:32}{one.refused:9}{one.same:11}{one.other:7}{one.slowest:7.1f} s"
        f"{one.grown / 1e6:6.0f} MB",
        flush=True,
    )


if __name__ == "__main__":
    main()
