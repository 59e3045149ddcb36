"""Progress as JSON, a line for each event, for programs that watch a command."""

import json
from typing import Any, TextIO

_outputs: list[TextIO] = []  # none unless a command was asked for it


def write_progress_to(out: TextIO) -> None:
    """Lets `report_event` write to `out` from now on."""
    _outputs.append(out)


def report_event(event: str, **values: Any) -> None:
    """Writes what happened, if anybody asked for it."""
    for out in _outputs:
        print(json.dumps({"event": event} | values), file=out, flush=True)
