"""Slices prepared once as ArrayRecord, read back by random access through tensorflow-datasets.

TensorFlow is not needed: pictures are handed over as encoded PNG bytes and read through
`as_data_source`.
"""

import io
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tqdm import tqdm

from covjax.data.contents import PRIVATE, prepared_dir
from covjax.data.listing import LeftOut
from covjax.data.lungs.fields import Box
from covjax.data.prepared.shards import RECORDS, SHARD, Shards, refusal, write_in_parallel
from covjax.data.settings import DataSettings
from covjax.data.sources.registry import open_source
from covjax.data.sources.source import Source
from covjax.errors import InputError, Interrupted, RunError
from covjax.files import is_full, open_whole, read_json, write_whole
from covjax.locks import held
from covjax.tables import encode_table, read_rows

KEY = "patients.csv"  # next to the prepared slices: whom pseudonyms stand for
LEAST_SHARDS = 4  # per process that prepares; fewer are written sooner than it starts


def _none() -> np.ndarray:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Prepared:
    """A prepared data set: what is known of every slice, and random access to the pictures."""

    fingerprint: str
    source: str
    ids: tuple[str, ...]
    labels: np.ndarray  # int32 [M], 0 healthy, 1 infected
    patients: tuple[str, ...]  # "" when unknown
    splits: tuple[str, ...]  # "" unless the source came with a split
    has_mask: np.ndarray  # bool [M]
    records: Any  # tfds data source
    values: frozenset[str] = frozenset({"8bit"})  # what the files held: 8bit, hu or both
    shapes: tuple[tuple[int, int], ...] = ()  # rows and columns of every slice, as stored
    # mm between rows and columns; None where unknown
    spacings: tuple[tuple[float, float] | None, ...] = ()
    unit: str = "pixels"  # of distances: mm where the spacing of every slice is known
    infected_pixels: np.ndarray = field(default_factory=_none)  # int64 [M], of the mask
    # int64 [M], all but the ignored ones; 0 without a mask
    counted_pixels: np.ndarray = field(default_factory=_none)
    truth: tuple[str, ...] = ()  # a digest of each mask, see `source.truth_digest`
    # of those slices that have any
    notes: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    # what is shown of slices, where that was looked for before
    boxes: Mapping[int, Box] = field(default_factory=dict)
    origins: tuple[str, ...] = ()  # of every slice, see covjax.data.contents.origin
    left_out: tuple[LeftOut, ...] = ()  # what the source does not read of its folder
    # of patients, where these stand for them
    pseudonyms: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def decode(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns image and mask (0, 1 or more, 255 ignore) of slice i, each uint8 [H, W]."""
        try:
            record = self.records[int(i)]
        except RuntimeError as error:  # of the records' own checksums
            raise InputError(
                f"prepared data {self.source}-{self.fingerprint}: damaged ({error}), delete its "
                "folder and prepare it again"
            ) from error
        return _pixels(record["image"]), _pixels(record["mask"])


def prepare(config: DataSettings) -> Prepared:
    """Returns the prepared form of the source that `config` names, building it if needed.

    `config` is the `data` section of a run. Two processes may call this at once: one builds, the
    other waits. A build that is interrupted, or for which there is no room, leaves its finished
    shards, from which the next call goes on, and nothing that would be taken for a finished set.
    Raises InputError for whatever the source cannot read, naming the file, and when the prepared
    form cannot be written.
    """
    source = open_source(config)
    folder = prepared_dir(config) / f"{source.name}-{source.fingerprint}"
    # index.json comes last, so what has one is finished and may as well lie where nobody can write.
    if not (folder / "index.json").is_file():
        with held(folder, wait=True, remedy="set data.prepared_dir to another folder"):
            if not (folder / "index.json").is_file():
                _build(source, folder, config)
    # Files may have come that are not read: they make no other data set, but are named.
    return replace(open_prepared(folder), left_out=source.left_out)


def open_prepared(folder: Path) -> Prepared:
    """Opens a data set that `prepare` finished. Raises InputError if it is missing or damaged."""
    try:
        index = read_json(folder / "index.json", "build it again")
        builder: Any = tfds.builder_from_directory(str(folder / RECORDS))
        records = builder.as_data_source(
            "slices", decoders={name: tfds.decode.SkipDecoding() for name in ("image", "mask")}
        )
        rows = index["slices"]
        # Reading opens every file, so that damage is noticed here rather than in the middle of a
        # training.
        for i in range(0, len(records), SHARD):
            _ = records[i]
        if len(rows) != len(records):
            raise ValueError(f"{len(records)} of {len(rows)} slices")
        spacings = tuple(tuple(r["spacing"]) if r["spacing"] else None for r in rows)
        return Prepared(
            fingerprint=index["fingerprint"],
            source=index["source"],
            ids=tuple(r["id"] for r in rows),
            labels=np.array([r["label"] for r in rows], np.int32),
            patients=tuple(r["patient"] for r in rows),
            splits=tuple(r["split"] for r in rows),
            has_mask=np.array([r["has_mask"] for r in rows], bool),
            records=records,
            values=frozenset(r["values"] for r in rows),
            shapes=tuple(tuple(r["shape"]) for r in rows),
            spacings=spacings,
            unit="mm" if all(spacings) else "pixels",
            infected_pixels=np.array([r["infected_pixels"] for r in rows], np.int64),
            counted_pixels=np.array([r["counted_pixels"] for r in rows], np.int64),
            truth=tuple(r["truth"] for r in rows),
            notes={i: tuple(r["notes"]) for i, r in enumerate(rows) if "notes" in r},
            origins=tuple(r["origin"] for r in rows),
            left_out=tuple(LeftOut(*one) for one in index["left_out"]),
            pseudonyms=_read_pseudonyms(folder / KEY),
        )
    # What it is depends on the file that is missing, cut short or overwritten.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{folder}: prepared data missing or damaged ({reason}), delete the folder"
        ) from error


def _build(source: Source, folder: Path, config: DataSettings | None = None) -> None:
    """Prepares a source, in several processes if `config` lets them open it."""
    shards = Shards(source, folder)
    try:
        for place in (folder / RECORDS, folder / "shards"):
            place.mkdir(parents=True, exist_ok=True)
        for partial in folder.rglob("*.partial"):
            partial.unlink(missing_ok=True)
        _write_missing(shards, config)
        shards.finish()
        if source.patients:  # the key stays here; nothing that a run writes holds it
            keys = encode_table(("pseudonym", "patient"), sorted(source.patients.items()))
            write_whole(folder / KEY, keys, PRIVATE)
        _write_index(shards, folder / "index.json")
        shutil.rmtree(folder / "shards")
    except (KeyboardInterrupt, Interrupted, RunError):
        raise
    except BaseException as error:
        if not is_full(error):
            shutil.rmtree(folder, ignore_errors=True)
        if refused := refusal(folder, error):
            raise refused from error
        raise


def _read_pseudonyms(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    rows = read_rows(path, ("pseudonym", "patient"), "delete the folder")
    return {row["patient"]: row["pseudonym"] for row in rows}


def _write_missing(shards: Shards, config: DataSettings | None) -> None:
    missing = shards.missing()
    left = sum(len(shards.slices[k]) for k in missing)
    total = len(shards.source.ids)
    processes = min(_cores(), len(missing) // LEAST_SHARDS)
    with tqdm(
        total=total,
        initial=total - left,
        desc=f"preparing {shards.source.name}",
        unit="slice",
        leave=False,
    ) as bar:
        if config is not None and processes > 1:
            for _ in write_in_parallel(shards, config, missing, processes):
                bar.update()
        else:
            for k in missing:
                shards.write(k, bar.update)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write_index(shards: Shards, path: Path) -> None:
    """Joins what is known of the slices of every shard, as text, one shard in memory at a time."""
    source = shards.source
    head = {
        "source": source.name,
        "fingerprint": source.fingerprint,
        "left_out": source.left_out,
        "slices": [],
    }
    with open_whole(path) as out:
        out.write(json.dumps(head).removesuffix("]}").encode())
        for k in range(len(shards.slices)):
            out.write(b", " * (k > 0) + shards.rows(k).read_bytes()[1:-1])
        out.write(b"]}")


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png), formats=("PNG",)))
