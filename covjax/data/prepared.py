"""Slices prepared once as ArrayRecord by one tensorflow-datasets builder, read back by random access.

TensorFlow is not needed: pictures are handed over as encoded PNG bytes and read through `as_data_source`.
"""

import contextlib
import fcntl
import functools
import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tqdm import tqdm

from covjax.data.sources import IGNORE, Source, check_slice, open_source
from covjax.errors import InputError

SHARD = 256  # slices per file, and how many encoded ones are in memory while preparing


@dataclass(frozen=True)
class Prepared:
    """A prepared data set: what is known of every slice without decoding it, and random access to the pictures."""

    fingerprint: str
    source: str
    ids: tuple[str, ...]
    labels: np.ndarray  # int32 [M], 0 healthy, 1 infected
    patients: tuple[str, ...]  # "" when unknown
    splits: tuple[str, ...]  # "" unless the source came with a split
    has_mask: np.ndarray  # bool [M]
    records: Any  # tfds data source

    def __len__(self) -> int:
        return len(self.ids)

    def decode(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns image uint8 [H, W] and mask uint8 [H, W] (0, 1, 255 ignore) of slice i."""
        record = self.records[int(i)]
        return _pixels(record["image"]), _pixels(record["mask"])


class Slices(tfds.core.ShardBasedBuilder):
    """Any source as one tensorflow-datasets split, in the order of the source.

    Written shard by shard, because the generator-based builder keeps a whole split in memory to shuffle it.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, source: Source, index: list[dict], bar: tqdm, data_dir: str):
        self._source, self._index, self._bar = source, index, bar
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        picture = tfds.features.Image(shape=(None, None, 1), dtype=np.uint8, encoding_format="png")
        features = tfds.features.FeaturesDict({"image": picture, "mask": picture})
        return tfds.core.DatasetInfo(
            builder=self,
            description="CT slices and infection masks",
            features=features,
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(self, dl_manager) -> dict:
        every = range(len(self._source.ids))
        shards = [every[first : first + SHARD] for first in every[::SHARD]]
        return {"slices": [functools.partial(self._examples, shard) for shard in shards]}

    def _examples(self, shard: range) -> Iterator[tuple[int, dict]]:
        for i in shard:
            s = self._source.load(i)
            check_slice(s)
            mask = np.full_like(s.image, IGNORE) if s.mask is None else s.mask  # as the whole mask of a slice without
            row = {"id": s.id, "label": s.label, "patient": s.patient, "split": s.split}
            self._index.append(row | {"has_mask": s.mask is not None})
            self._bar.update()
            yield i, {"image": _png(s.image), "mask": _png(mask)}


def prepare(config: Any) -> Prepared:
    """Returns the prepared form of the source that `config` (a run's `data` section) names, building it if needed.

    Two processes may call this at once: one builds, the other waits. An interrupted build leaves nothing that
    would be taken for a finished one. Raises InputError for whatever the source cannot read, naming the file, and
    when the prepared form cannot be written.
    """
    source = open_source(config)
    folder = prepared_dir(config) / f"{source.name}-{source.fingerprint}"
    # index.json comes last, so what has one is finished and may as well lie where nobody can write.
    if not (folder / "index.json").is_file():
        with _locked(folder):
            if not (folder / "index.json").is_file():
                _build(source, folder)
    return open_prepared(folder)


def open_prepared(folder: Path) -> Prepared:
    """Opens a data set that `prepare` finished before. Raises InputError if it is not there or damaged."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        records = tfds.builder_from_directory(str(folder / "slices" / "1.0.0")).as_data_source(
            "slices", decoders={name: tfds.decode.SkipDecoding() for name in ("image", "mask")}
        )
        rows = index["slices"]
        # Reading opens every file, so that damage is noticed here rather than in the middle of a training.
        for i in range(0, len(records), SHARD):
            records[i]
        if len(rows) != len(records):
            raise ValueError(f"{len(records)} of {len(rows)} slices")
        return Prepared(
            fingerprint=index["fingerprint"],
            source=index["source"],
            ids=tuple(r["id"] for r in rows),
            labels=np.array([r["label"] for r in rows], np.int32),
            patients=tuple(r["patient"] for r in rows),
            splits=tuple(r["split"] for r in rows),
            has_mask=np.array([r["has_mask"] for r in rows], bool),
            records=records,
        )
    # Which of these it is depends on the file that is missing, cut short or overwritten.
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{folder}: prepared data missing or damaged ({reason}), delete the folder") from error


def prepared_dir(config: Any) -> Path:
    """Where prepared data live: `data.prepared_dir`, or the user's cache."""
    if config.prepared_dir:
        return Path(config.prepared_dir).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "covjax" / "prepared"


def _build(source: Source, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    index: list[dict] = []
    tfds.disable_progress_bar()
    try:
        with (
            tqdm(total=len(source.ids), desc=f"preparing {source.name}", unit="slice", leave=False) as bar,
            contextlib.redirect_stdout(io.StringIO()),  # the builder announces itself; the bar says enough
        ):
            folder.mkdir(parents=True)
            Slices(source=source, index=index, bar=bar, data_dir=str(folder)).download_and_prepare()
        text = json.dumps({"source": source.name, "fingerprint": source.fingerprint, "slices": index})
        partial = folder / "index.json.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(folder / "index.json")
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        # ArrayRecord says "write() failed: No space left on device" in a RuntimeError.
        if isinstance(error, OSError) or (isinstance(error, RuntimeError) and "() failed: " in str(error)):
            raise _not_writable(folder, error) from error
        raise


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds an advisory lock beside `folder`; the kernel releases it however the process ends."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(folder.name + ".lock").open("w")
    except OSError as error:
        raise _not_writable(folder, error) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _not_writable(folder: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return InputError(
        f"{folder}: prepared slices cannot be written ({reason}), make room or set data.prepared_dir to another folder"
    )


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png), formats=("PNG",)))


def _png(pixels: np.ndarray) -> io.BytesIO:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png", compress_level=1)
    stream.seek(0)
    return stream
