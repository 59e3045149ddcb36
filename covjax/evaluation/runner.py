"""Running a trained stage over all slices of a reader, with a progress bar and a stopwatch."""

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tqdm import tqdm

from covjax.data.loader import SliceReader, eval_batches
from covjax.evaluation.options import PLAIN, Options
from covjax.evaluation.predict import LARGE, NotFinite, collect, make_predictor
from covjax.evaluation.predictions import Save
from covjax.progress import report_event
from covjax.stages.stage import Stage
from covjax.stages.task import Rows

MAX_FEATURES = 4_000_000  # numbers in features.npz: beyond, every second, third .. slice is kept


@dataclass(frozen=True)
class Runner:
    """A trained stage and how it is to be run."""

    stage: Stage
    variables: Any
    batch_size: int  # over all devices
    options: Options = PLAIN
    unit: str = "pixels"  # of distances
    save: Save | None = None
    saved: tuple[str, ...] = ()  # rows that go to `save` as they come

    @cached_property
    def _predict(self) -> Callable[..., Iterator[Rows]]:
        # Made once, because every predictor compiles its own programs.
        return make_predictor(self.stage, self.stage.task.keep, self.options, self.unit)

    def run(self, reader: SliceReader, keep: Collection[str]) -> tuple[Rows, float]:
        """Returns the rows of all slices, and seconds, those of compiling left out.

        Of the large rows only those are kept that `keep` names. Raises NotFinite.
        """
        total = -(-len(reader) // self.batch_size)
        title = f"{self.stage.name}: evaluating"
        batches = tqdm(self._rows(reader, keep), total=total, desc=title, unit="batch", leave=False)
        start = time.perf_counter()
        parts = []
        done = 0
        for rows in batches:
            count = len(rows["loss"])
            if self.save and self.saved:
                slices = reader.indices[done : done + count]
                self.save([reader.data.ids[i] for i in slices], rows)
            parts.append(_kept(rows, keep, done, len(reader)))
            done += count
            if len(parts) == 1 and total > 1:
                start = time.perf_counter()
        timed = len(reader) - (self.batch_size if total > 1 else 0)
        seconds = (time.perf_counter() - start) * len(reader) / timed
        name = self.stage.name
        report_event("evaluated", stage=name, slices=len(reader), seconds=round(seconds, 3))
        return collect(parts), seconds

    def _rows(self, reader: SliceReader, keep: Collection[str]) -> Iterator[Rows]:
        batches = eval_batches(reader, batch_size=self.batch_size)
        try:
            yield from self._predict(self.variables, batches, keep={*keep, *self.saved})
        except NotFinite as error:
            raise error.of(reader.data.ids[reader.indices[error.position]]) from None


def _kept(rows: Rows, keep: Collection[str], first: int, total: int) -> Rows:
    """Drops what was only fetched to be saved, and features of slices beyond MAX_FEATURES."""
    rows = {name: values for name, values in rows.items() if name in keep or name not in LARGE}
    if "features" in rows:
        every = features_every(total, rows["features"].shape[1])
        rows["features"] = rows["features"][-first % every :: every]
    return rows


def features_every(slices: int, size: int) -> int:
    """Returns of how many slices one keeps its `size` features."""
    return -(-slices * size // MAX_FEATURES)
