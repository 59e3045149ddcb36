"""Writes the records of some epochs, as a training does that goes on after a step.

    python -m tests.attacks.epochs WORKDIR STEP

A program for `tests.attacks.commands_killed`: a command with nothing else in it.
"""

import sys
from pathlib import Path

from tensorboardX.proto import event_pb2

from covjax.files import read_json_lines
from covjax.training.history import History

STAGE = "segmenter"
STEPS = 2  # of an epoch
EPOCHS = 4


def values(epoch: int) -> dict[str, float | None]:
    return {"train/loss": 1 / epoch, "val/loss": 2.0 * epoch, "val/dice": None}


def write(workdir: Path, step: int) -> None:
    """Goes on from a step, the last of an epoch, to the end."""
    history = History(workdir, STAGE, step)
    for epoch in range(step // STEPS + 1, EPOCHS + 1):
        history.write(epoch, epoch * STEPS, values(epoch))
    history.close()


def records(workdir: Path) -> list[dict]:
    """Returns the lines of metrics.jsonl that are whole."""
    path = workdir / "metrics.jsonl"
    return read_json_lines(path, "") if path.is_file() else []


def board(workdir: Path) -> list[tuple[str, int, float]]:
    """Returns what TensorBoard shows: the values of all files, less what a later one takes back."""
    shown: list[tuple[str, int, float]] = []
    for path in sorted((workdir / "tensorboard" / STAGE).iterdir(), key=_started):
        for event in _events(path.read_bytes()):
            if event.session_log.status == event_pb2.SessionLog.START:
                shown = [one for one in shown if one[1] < event.step]
            shown += [(one.tag, event.step, one.simple_value) for one in event.summary.value]
    return shown


def _started(path: Path) -> tuple[float, str]:
    first = next(_events(path.read_bytes()), None)
    return (first.wall_time if first else 0.0, path.name)


def _events(content: bytes):
    """Yields the events of a file: length, its checksum, the event, its checksum; whole ones."""
    while len(content) >= 12:
        size = int.from_bytes(content[:8], "little")
        if len(content) < 16 + size:
            return
        yield event_pb2.Event.FromString(content[12 : 12 + size])
        content = content[16 + size :]


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
