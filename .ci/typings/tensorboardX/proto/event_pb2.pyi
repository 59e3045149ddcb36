"""What the generated module defines when it is imported."""

from typing import Any

class SessionLog:
    START: int
    def __init__(self, *, status: int = ...) -> None: ...

class Event:
    def __init__(
        self,
        *,
        wall_time: float = ...,
        step: int = ...,
        summary: Any = ...,
        session_log: SessionLog = ...,
    ) -> None: ...
