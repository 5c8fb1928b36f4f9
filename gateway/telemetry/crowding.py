"""Connections that a full listener closes: each is counted, many are one event."""

import asyncio
from collections.abc import Callable
from typing import Final

_QUIET_S: Final = 10.0
"""Between two events of one listener."""


class FullListener:
    """Counts the connections that one listener closes because there are too many.

    The first is told at once; those of the ten seconds behind it together.

    Args:
        listener: its section of the configuration.
        count: counts one connection.
        event: writes an event.
    """

    def __init__(
        self, listener: str, count: Callable[[], None], event: Callable[..., None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._count = count
        self._event = event
        self._closed = 0
        self._is_quiet = False

    def __call__(self) -> None:
        """Note one connection."""
        self._count()
        self._closed += 1
        if not self._is_quiet:
            self._tell()

    def _tell(self) -> None:
        closed, self._closed = self._closed, 0
        self._is_quiet = closed > 0
        if not closed:
            return
        self._event(
            "connections_full",
            listener=self._listener,
            closed=closed,
            consequence="a connection that waits for a request gives way to each new "
            "one, who has sent none first; where all have one under way, the new one "
            "is closed",
        )
        self._loop.call_later(_QUIET_S, self._tell)
