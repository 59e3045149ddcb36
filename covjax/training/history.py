"""What a training reports as it goes: metrics.jsonl and TensorBoard."""

import json
import math
from pathlib import Path
from typing import Any, TypedDict

from tensorboardX import SummaryWriter

from covjax.files import write_whole
from covjax.progress import report_event
from covjax.records import Count, read_record_lines


class Epoch(TypedDict):
    """What a record is known by."""

    stage: str
    epoch: Count
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
        # TensorBoard hides everything from purge_step on, so the last record that stays must lie
        # before it.
        self._board = SummaryWriter(str(workdir / "tensorboard" / stage), purge_step=step + 1)

    def write(self, epoch: int, step: int, values: dict[str, float | None]) -> None:
        values = {k: None if v is None or not math.isfinite(v) else v for k, v in values.items()}
        record: dict[str, Any] = {"stage": self.stage, "epoch": epoch, "step": step, **values}
        with self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(record) + "\n")
        report_event("epoch", **record)
        for name, value in values.items():
            if value is not None:
                self._board.add_scalar(name, value, step)
        self._board.flush()

    def close(self) -> None:
        self._board.close()
