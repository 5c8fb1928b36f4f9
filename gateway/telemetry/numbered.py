"""The event log of one worker of several."""

from collections.abc import Callable
from typing import TextIO

from gateway.telemetry.log import EventLog, Now


class NumberedEventLog(EventLog):
    """Has the worker's number in each line.

    Args:
        worker: the number.
        stream: where the lines go.
        now: gives the time that each line begins with.
        on_dropped: is called for each line that was not written.
    """

    def __init__(
        self,
        worker: int,
        stream: TextIO,
        now: Now,
        on_dropped: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(stream, now, on_dropped)
        self._worker = worker

    def event(self, name: str, **fields: object) -> None:
        """Write a line for something that happened."""
        super().event(name, **{"worker": self._worker, **fields})
