"""The shards of prepared slices, each written whole or not at all.

Several processes write them where it pays: `python -m covjax.data.prepared.shards` reads from
standard
input what to write and reports on standard output. It is not a fork, which a running jax forbids,
and
does not import the user's script.
"""

import contextlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from covjax.data.label_map import IGNORE, infected
from covjax.data.settings import DataSettings
from covjax.data.sources.registry import open_source
from covjax.data.sources.source import Source, check_slice, truth_digest
from covjax.errors import InputError, RunError
from covjax.files import is_full, write_whole

SHARD = 256  # slices of a shard
MOST_SHARDS = 512  # with more slices, shards are larger: a process may keep so many files open
PICTURE = tfds.features.Image(shape=(None, None, 1), dtype=np.uint8, encoding_format="png")
FEATURES = tfds.features.FeaturesDict({"image": PICTURE, "mask": PICTURE})
RECORDS = Path(
    "slices", "1.0.0"
)  # below the folder: name and version, as tensorflow-datasets has it


class Shards:
    """Shards of a source: records (ArrayRecord) and rows, what is known of each slice (JSON)."""

    def __init__(self, source: Source, folder: Path, size: int | None = None):
        self.source = source
        self.folder = folder
        self.size = size or max(SHARD, -(-len(source.ids) // MOST_SHARDS))
        every = range(len(source.ids))
        self.slices = [every[first : first + self.size] for first in every[:: self.size]]
        self.names = tfds.core.ShardedFileTemplate(
            data_dir=tfds.core.Path(folder / RECORDS),
            dataset_name="slices",
            split="slices",
            filetype_suffix="array_record",
        )

    def records(self, k: int) -> Path:
        """Returns where the records of shard k are."""
        return Path(self.names.sharded_filepath(shard_index=k, num_shards=len(self.slices)))

    def rows(self, k: int) -> Path:
        """Returns where the rows of shard k are; once they are there, it is finished."""
        return self.folder / "shards" / f"{self.slices[k].start:08d}-{self.slices[k].stop:08d}.json"

    def missing(self) -> list[int]:
        """Returns which shards are not finished."""
        return [k for k in range(len(self.slices)) if not self.rows(k).is_file()]

    def write(self, k: int, written: Callable[[], Any]) -> None:
        """Writes shard k in constant memory; calls `written` after each slice."""
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
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(self.records(k))
            write_whole(self.rows(k), json.dumps(rows).encode())
        except (OSError, RuntimeError) as error:
            if refused := refusal(self.records(k), error):
                raise refused from error
            raise
        finally:
            partial.unlink(missing_ok=True)

    def finish(self) -> None:
        """Writes what tensorflow-datasets has to know to read the shards."""
        split = tfds.core.SplitInfo(
            name="slices",
            shard_lengths=[len(some) for some in self.slices],
            num_bytes=sum(self.records(k).stat().st_size for k in range(len(self.slices))),
            filename_template=self.names,
        )
        tfds.folder_dataset.write_metadata(
            data_dir=self.folder / RECORDS,
            features=FEATURES,
            split_infos=[split],
            filename_template=self.names,
            description="CT slices and infection masks",
            check_data=False,  # which reads by TensorFlow; opening the set looks at every file
            disable_shuffling=True,
        )


def _encoded(source: Source, i: int) -> tuple[dict[str, Any], bytes]:
    """Returns the row of slice i and its record."""
    s = source.load(i)
    check_slice(s)
    # as the whole mask of a slice without
    mask = np.full_like(s.image, IGNORE) if s.mask is None else s.mask
    row = {
        "id": s.id,
        "label": s.label,
        "patient": s.patient,
        "split": s.split,
        "values": s.values,
        "has_mask": s.mask is not None,
        "shape": s.image.shape,
        "origin": source.origins[i],
        "spacing": s.spacing and [float(side) for side in s.spacing],
        "infected_pixels": int(infected(mask).sum()),
        "counted_pixels": int((mask != IGNORE).sum()),
        "truth": truth_digest(mask),
    }
    if s.notes:
        row["notes"] = s.notes
    return row, FEATURES.serialize_example({"image": _png(s.image), "mask": _png(mask)})


def _png(pixels: np.ndarray) -> io.BytesIO:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png", compress_level=1)
    stream.seek(0)
    return stream


def refusal(path: Path, error: BaseException) -> InputError | None:
    """Returns one line for an error that means that `path` cannot be written, None for others."""
    # ArrayRecord says "write() failed: No space left on device" in a RuntimeError.
    if not isinstance(error, OSError) and not (
        isinstance(error, RuntimeError) and "() failed: " in str(error)
    ):
        return None
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return InputError(
        f"{path}: prepared slices cannot be written ({reason}), "
        f"{'make room or ' if is_full(error) else ''}set data.prepared_dir to another folder"
    )


def write_in_parallel(
    shards: Shards, config: DataSettings, missing: Sequence[int], processes: int
) -> Iterator[None]:
    """Writes missing shards of the source that `config` names; yields once per slice written.

    Raises what went wrong first: InputError for what cannot be read or written, RunError where a
    process was ended.
    """
    # One pipe for all: it ends when the last of them has ended, and no line of this length is torn.
    reading, writing = os.pipe()
    workers: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(os.fdopen(reading, encoding="utf-8"))
        stack.callback(_end, workers)
        with os.fdopen(writing, "wb") as report:
            for k in range(processes):
                job = pickle.dumps((config, shards.folder, shards.size, missing[k::processes]))
                workers.append(_worker(job, report.fileno()))
        for line in lines:
            if error := json.loads(line):
                raise InputError(error)
            yield
        for worker in workers:
            if worker.wait():
                raise RunError(
                    f"{shards.folder}: a process that prepares slices ended with status "
                    f"{worker.returncode}, run the same command to go on"
                )


def _worker(job: bytes, report: int) -> subprocess.Popen[bytes]:
    package = str(Path(__file__).parents[3])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-P", "-m", "covjax.data.prepared.shards"]
    worker = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=report, env=os.environ | {"PYTHONPATH": path}
    )
    assert worker.stdin is not None
    # one that has ended is found out when it is waited for
    with contextlib.suppress(BrokenPipeError), worker.stdin as stdin:
        stdin.write(job)
    return worker


def _end(workers: Sequence[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.wait()


def main() -> None:
    """Writes the shards that standard input names. Ends quietly when its parent was killed."""
    # Ctrl-C reaches the parent too, which ends this process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no report

    def report(error: str = "") -> None:
        output.write(json.dumps(error) + "\n")
        output.flush()

    config, folder, size, numbers = pickle.load(sys.stdin.buffer)  # of the parent process
    try:
        shards = Shards(open_source(config), folder, size)
        for k in numbers:
            shards.write(k, report)
    except BrokenPipeError:
        os._exit(1)
    except Exception as error:
        known = error if isinstance(error, InputError) else refusal(folder, error)
        if known is None:
            raise
        report(str(known))


if __name__ == "__main__":
    main()
