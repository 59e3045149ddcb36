"""Signals that ask a training to stop, kept until it is between two steps."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from covjax.errors import STOPPING, Interrupted

ASKED = b"\nstopping after this step; Ctrl-C again stops at once, without saving\n"


@contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Collects SIGINT and STOPPING, so that the loop can stop between two steps.

    A SIGINT after another signal stops without saving; other signals come twice from job queues.
    Only the main thread may do so: in another one signals stay with whoever started it.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def handle(number, _frame):
        if received and number == signal.SIGINT:
            raise Interrupted(
                number,
                "stopped without saving; run the same command to resume from the last checkpoint",
            )
        received.append(number)
        if number == signal.SIGINT:
            os.write(2, ASKED)  # print may not be called again while it writes

    stopping = (signal.SIGINT, *STOPPING)
    previous = {number: signal.signal(number, handle) for number in stopping}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
