"""An alarm that is set for each exchange and hardly ever rings."""

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls once it is due, unless it was set anew or calmed before.

    A timer of the loop for each exchange, made and cancelled, costs more than the
    request's headers do. Here one timer goes on over many exchanges: where it rings
    too early, it is wound up again for what is due by then.

    Args:
        ring: is called when it is due.
    """

    __slots__ = ("_at", "_loop", "_ring", "_timer")

    def __init__(self, ring: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ring = ring
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Ring at this second of the loop, and at none that was set before."""
        self._at = at
        if self._timer is None or self._timer.when() > at:
            self._wind(at)

    def calm(self) -> None:
        """Do not ring."""
        self._at = None

    def end(self) -> None:
        """Never ring any more."""
        self._at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wind(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._at is None:
            return
        if self._loop.time() < self._at:
            self._wind(self._at)
            return
        self._at = None
        self._ring()
