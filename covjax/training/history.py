"""What a training reports as it goes: metrics.jsonl and TensorBoard."""

import json
import math
import time
from pathlib import Path
from typing import Any, TypedDict

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from covjax.files import write_whole
from covjax.progress import report_event
from covjax.records import Count, read_record_lines


class Epoch(TypedDict):
    """What a record is known by."""

    stage: str
    step: Count


def rewind(path: Path, stage: str, step: int) -> None:
    """Drops this stage's records after `step`: a resumed run writes them again."""
    if not path.is_file():
        return
    kept = [
        record
        for record in read_record_lines(path, Epoch, "remove the line")
        if record["stage"] != stage or record["step"] <= step
    ]
    write_whole(path, "".join(json.dumps(record) + "\n" for record in kept).encode())


class History:
    """Appends one record per epoch to metrics.jsonl and to TensorBoard."""

    def __init__(self, workdir: Path, stage: str, step: int):
        self.stage = stage
        self.path = workdir / "metrics.jsonl"
        rewind(self.path, stage, step)
        folder = workdir / "tensorboard" / stage
        folder.mkdir(parents=True, exist_ok=True)
        # not SummaryWriter, whose flush does not wait for the queue in which it keeps values
        self._board = EventsWriter(str(folder / "events"))
        # TensorBoard hides everything from the step of a start on, so the last record that stays
        # must lie before it.
        self._show(step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, epoch: int, step: int, values: dict[str, float | None]) -> None:
        values = {k: None if v is None or not math.isfinite(v) else v for k, v in values.items()}
        record: dict[str, Any] = {"stage": self.stage, "epoch": epoch, "step": step, **values}
        with self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(record) + "\n")
        report_event("epoch", **record)
        for name, value in values.items():
            if value is not None:
                self._show(step, summary=scalar(name, value))
        self._board.flush()

    def _show(self, step: int, **content: Any) -> None:
        self._board.write_event(Event(wall_time=time.time(), step=step, **content))

    def close(self) -> None:
        self._board.close()
