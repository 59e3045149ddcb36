"""The shards of prepared slices, each written whole or not at all, by several processes where it
pays.

`python -m covjax.data.prepared.shards` is one of these processes: it reads from standard input what to write
and reports on standard output. Processes of their own, not forks, which a running jax forbids, and
no import of the user's script.
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from covjax.data.label_map import IGNORE, infected
from covjax.data.sources.registry import open_source
from covjax.data.sources.source import Source, check_slice, truth_digest
from covjax.errors import InputError, RunError

SHARD = 256
MOST_SHARDS = 512  # slices per shard, unless that makes more files than a process may keep open
PICTURE = tfds.features.Image(shape=(None, None, 1), dtype=np.uint8, encoding_format="png")
FEATURES = tfds.features.FeaturesDict({"image": PICTURE, "mask": PICTURE})


class Shards:
    """The shards of a source in a folder: records (ArrayRecord), and rows: what is known of each
    slice (JSON).
    """

    def __init__(self, source: Source, folder: Path, size: int | None = None):
        self.source = source
        self.folder = folder
        self.size = size or max(SHARD, -(-len(source.ids) // MOST_SHARDS))
        every = range(len(source.ids))
        self.slices = [every[first : first + self.size] for first in every[:: self.size]]

    def records(self, k: int) -> Path:
        """Where the records of shard k are. Named by its slices, lest shards of another size are
        taken for it.
        """
        return self.folder / f"{self.slices[k].start:08d}-{self.slices[k].stop:08d}.array_record"

    def rows(self, k: int) -> Path:
        return self.records(k).with_suffix(".json")

    def missing(self) -> list[int]:
        """Returns which shards are not finished."""
        return [k for k in range(len(self.slices)) if not self.records(k).is_file()]

    def write(self, k: int, written: Callable[[], Any]) -> None:
        """Writes shard k in constant memory; calls `written` after each slice. Rows first: records
        say finished.
        """
        rows = []
        partial = self.records(k).with_suffix(f".{os.getpid()}.partial")
        try:
            writer = ArrayRecordWriter(str(partial), "group_size:1")
            for i in self.slices[k]:
                row, record = _encoded(self.source, i)
                writer.write(record)
                rows.append(row)
                written()
            writer.close()
            self.rows(k).write_text(json.dumps(rows), encoding="utf-8")
            for path in (self.rows(k), partial):
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            partial.replace(self.records(k))
        finally:
            partial.unlink(missing_ok=True)


def _encoded(source: Source, i: int) -> tuple[dict[str, Any], bytes]:
    """Returns the row of slice i and its record."""
    s = source.load(i)
    check_slice(s)
    # as the whole mask of a slice without
    mask = np.full_like(s.image, IGNORE) if s.mask is None else s.mask
    row = {"id": s.id, "label": s.label, "patient": s.patient, "split": s.split, "values": s.values}
    row |= {"has_mask": s.mask is not None, "shape": list(s.image.shape)}
    row["origin"] = source.origins[i]
    row |= {"spacing": s.spacing and [float(side) for side in s.spacing]}
    row |= {
        "infected_pixels": int(infected(mask).sum()),
        "counted_pixels": int((mask != IGNORE).sum()),
    }
    row |= {"truth": truth_digest(mask)}
    row |= {"notes": list(s.notes)} if s.notes else {}
    return row, FEATURES.serialize_example({"image": _png(s.image), "mask": _png(mask)})


def _png(pixels: np.ndarray) -> io.BytesIO:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png", compress_level=1)
    stream.seek(0)
    return stream


def refusal(folder: Path, error: Exception) -> InputError | None:
    """Returns one line for an error that means that `folder` cannot be written, None for others."""
    # ArrayRecord says "write() failed: No space left on device" in a RuntimeError.
    if not isinstance(error, OSError) and not (
        isinstance(error, RuntimeError) and "() failed: " in str(error)
    ):
        return None
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return InputError(
        f"{folder}: prepared slices cannot be written ({reason}), make room or set data.prepared_dir to another folder"
    )


def write_in_parallel(
    shards: Shards, config: Any, missing: Sequence[int], processes: int
) -> Iterator[None]:
    """Writes missing shards of the source that `config` (a run's `data` section) names; yields once
    per slice written.

    Raises what went wrong first: InputError for what cannot be read or written, RunError where a
    process was ended.
    """
    package = str(Path(__file__).parents[2])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    }
    # One pipe for all: it ends when the last of them has ended, and a line of this length is never
    # torn.
    reading, writing = os.pipe()
    workers = []
    try:
        for k in range(processes):
            worker = subprocess.Popen(
                [sys.executable, "-m", "covjax.data.prepared.shards"],
                stdin=subprocess.PIPE,
                stdout=writing,
                env=environment,
            )
            workers.append(worker)
            job = {"config": _plain(config), "folder": str(shards.folder), "size": shards.size}
            job["shards"] = missing[k::processes]
            # one that has ended says so below
            with contextlib.suppress(BrokenPipeError), worker.stdin as stdin:
                stdin.write(json.dumps(job).encode())
        os.close(writing)
        writing = None
        with os.fdopen(reading, encoding="utf-8") as lines:
            for line in lines:
                if error := json.loads(line):
                    raise InputError(error)
                yield
        for worker in workers:
            if worker.wait():
                raise RunError(
                    f"{shards.folder.parent}: a process that prepares slices ended with status {worker.returncode}, "
                    "run the same command to go on"
                )
    finally:
        if writing is not None:
            os.close(writing)
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()


def _plain(config: Any) -> dict[str, Any]:
    fields = config.to_dict() if hasattr(config, "to_dict") else vars(config)
    return {
        name: _plain(value) if isinstance(value, SimpleNamespace) else value
        for name, value in fields.items()
    }


def _namespace(fields: dict[str, Any]) -> SimpleNamespace:
    nested = {
        name: _namespace(value) if isinstance(value, dict) else value
        for name, value in fields.items()
    }
    return SimpleNamespace(**nested)


def main() -> None:
    """Writes the shards that standard input names. Ends quietly when nobody listens any more: its
    parent was killed.
    """
    # Ctrl-C reaches the parent too, which ends this process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no report

    def tell(error: str = "") -> None:
        told.write(json.dumps(error) + "\n")
        told.flush()

    try:
        job = json.load(sys.stdin)
        shards = Shards(open_source(_namespace(job["config"])), Path(job["folder"]), job["size"])
        for k in job["shards"]:
            shards.write(k, tell)
    except BrokenPipeError:
        os._exit(1)
    except Exception as error:
        known = error if isinstance(error, InputError) else refusal(shards.folder.parent, error)
        if known is None:
            raise
        tell(str(known))


if __name__ == "__main__":
    main()
