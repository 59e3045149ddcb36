"""Batches by grain; their order is a function of seed and epoch alone.

So a run resumes exactly by asking for the same epoch from a later batch on.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np

from covjax.data.lungs.fields import Box
from covjax.data.prepared.dataset import Prepared
from covjax.data.views import Native, ViewSettings, make_view, seen_crop
from covjax.errors import InputError

Batch = dict[str, Any]  # arrays, and lists of what differs in size from slice to slice
READ_AHEAD = 64  # slices
CACHE_BYTES = 4 * 2**30  # of a split that is kept in memory; what is beyond is decoded every time


class SliceReader:
    """Random access to slices as a network sees them; kept in memory after the first read if asked.

    Of a split of more than CACHE_BYTES, as many slices are kept as fit. With `native` each item
    also holds the slice in its own size, for scores (see `Native`); then nothing is kept.
    """

    def __init__(
        self,
        data: Prepared,
        indices: np.ndarray,
        settings: ViewSettings,
        cache: bool,
        native: bool = False,
    ):
        self.data = data
        self.indices = indices
        self.settings = settings
        self.native = native
        self._cached: dict[int, Batch] = {}
        size = math.prod(settings.image) + math.prod(settings.mask)
        self._room = CACHE_BYTES // size if cache and not native else 0

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Batch:
        if position in self._cached:
            return self._cached[position]
        index = self.indices[position]
        image, mask = self.data.decode(index)
        spacing = self.data.spacings[index]
        box = self._box(index, image)
        view = make_view(self.data.ids[index], image.shape, box, spacing, self.settings)
        item = {
            "image": view.picture(image),
            "mask": view.truth(mask, self.settings.mask),
            "label": self.data.labels[index],
            "index": index,
        }
        if self.native:
            item["native"] = Native(view, mask, spacing)
        if len(self._cached) < self._room:
            self._cached[position] = item
        return item

    def _box(self, index: int, image: np.ndarray) -> Box:
        known = self.data.boxes.get(int(index)) if self.settings.lung_crop else None
        return known or seen_crop(image, self.settings.lung_crop).box

    def of(self, indices: np.ndarray) -> "SliceReader":
        """Returns a reader of other slices, read alike."""
        return SliceReader(self.data, indices, self.settings, cache=False, native=self.native)


def train_batches(
    reader: SliceReader,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    start: int = 0,
    process: int = 0,
    processes: int = 1,
) -> Iterator[Batch]:
    """Yields this process's share of an epoch's shuffled batches; the tail is dropped.

    Each batch holds image uint8 [n, H, W], mask uint8 [n, h, w], label int32 [n] and index int64
    [n], where n = batch_size / processes. Process 0 has the first n slices of each global batch,
    process 1 the next n, and so on, as one process would give them to its devices: a sample's place
    in the global batch does not depend on the hosts. Raises InputError if there are fewer slices
    than a batch, or the processes do not divide it.
    """
    steps = steps_per_epoch(len(reader), batch_size)
    own = batch_size // processes
    if batch_size % processes:
        raise InputError(f"batch_size: {batch_size} is not a multiple of the {processes} processes")
    order = grain.MapDataset.range(len(reader)).shuffle(seed=_epoch_seed(seed, epoch))

    def place(k: int) -> int:
        return (start + k // own) * batch_size + process * own + k % own

    share = grain.MapDataset.range((steps - start) * own).map(lambda k: order[place(k)])
    return iter(_read(share, reader).batch(own, batch_fn=_stacked))


def eval_batches(reader: SliceReader, *, batch_size: int) -> Iterator[Batch]:
    """Yields every slice once, in order; the last batch is padded, and `valid` says where.

    A reader with `native` adds "native", a list of `Native` without padding.
    """
    for batch in _read(grain.MapDataset.range(len(reader)), reader).batch(
        batch_size, batch_fn=_stacked
    ):
        yield pad_batch(batch, batch_size)


def _read(positions: grain.MapDataset, reader: SliceReader) -> grain.IterDataset:
    """Reads slices ahead of the batches; before batching, so that memory stays flat."""
    return positions.map(reader.__getitem__).to_iter_dataset(
        grain.ReadOptions(num_threads=4, prefetch_buffer_size=READ_AHEAD)
    )


def _stacked(items: Sequence[Batch]) -> Batch:
    """Stacks the arrays of items; slices in their own size stay a list."""
    return {
        k: [item[k] for item in items] if k == "native" else np.stack([item[k] for item in items])
        for k in items[0]
    }


def pad_batch(batch: Batch, batch_size: int) -> Batch:
    """Pads arrays of a batch with zeros to `batch_size`; adds `valid` bool [batch_size]."""
    arrays = {k: v for k, v in batch.items() if not isinstance(v, list)}
    n = len(next(iter(arrays.values())))
    padded = {
        k: np.pad(v, ((0, batch_size - n), *[(0, 0)] * (v.ndim - 1))) for k, v in arrays.items()
    }
    return batch | padded | {"valid": np.arange(batch_size) < n}


def steps_per_epoch(slices: int, batch_size: int) -> int:
    """Number of whole batches. Raises InputError if there is none."""
    if slices < batch_size:
        raise InputError(
            f"batch_size: {batch_size} is more than the {slices} training slices, use a smaller "
            "batch_size"
        )
    return slices // batch_size


def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
