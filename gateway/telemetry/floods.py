"""Many equal things, told by a few lines: at most some one by one, and then their sum."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from gateway.events import Tallies, Tally

EVERY: Final = timedelta(seconds=5)
SINGLY: Final = 50
"""In five seconds, of each kind. Somebody's mistake is rarely more often, and a flood is
no more than ten lines a second, 3 KB."""


class Flood:
    """Says what is told one by one, and tells the rest in sums. Belongs to a loop.

    Args:
        tell: takes the sum of one kind at the end of an interval.
        now: gives the present moment.
    """

    def __init__(
        self,
        tell: Callable[[Tally], None],
        now: Callable[[], datetime],
    ) -> None:
        self._tell = tell
        self._now = now
        self._tallies = Tallies(EVERY, SINGLY)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def takes(self, peer: str | None, *kind: str) -> bool:
        """Count one more of a kind. Return True where it is told in a sum alone."""
        if self._timer is None:
            self._timer = self._loop.call_later(EVERY.total_seconds(), self._end_some)
        return not self._tallies.add(kind, peer, self._now())

    def end(self) -> None:
        """Tell all that is not told yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for each in self._tallies.take():
            self._tell(each)

    def _end_some(self) -> None:
        self._timer = None
        for each in self._tallies.take(self._now()):
            self._tell(each)
        if self._tallies:
            self._timer = self._loop.call_later(EVERY.total_seconds(), self._end_some)
