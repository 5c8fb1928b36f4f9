"""Keep-alive connections to one host: the one that was used last is used next."""

import asyncio
from typing import Final

from gateway.edge.dial import Dial
from gateway.edge.outbound import Outbound
from gateway.errors import UpstreamUnavailable

_KEEPALIVE_S: Final = 15.0
_ATTEMPTS: Final = 2
"""The second one where a connection died before a byte could be written to it."""


class Pool:
    """Idle connections, and new ones where there is none.

    How many there may be is bounded by how many exchanges may be under way.
    """

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._loop = asyncio.get_running_loop()
        self._idle: list[Outbound] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    def take_now(self) -> Outbound | None:
        """Give the connection that was used last, if a request may be written to it."""
        if self._idle:
            last = self._idle[-1]
            fresh = self._loop.time() - _KEEPALIVE_S
            if last.idle_since > fresh and last.is_still:
                return self._idle.pop()
        return None

    async def take(self, timeout_s: float) -> Outbound:
        """Give a connection that a request may be written to at once.

        Args:
            timeout_s: for making one, where there is none.

        Raises:
            UpstreamUnavailable: there is none, and none can be made.
            TimeoutError: none could be made in time.
        """
        fresh = self._loop.time() - _KEEPALIVE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since > fresh and (
                connection.is_still or await _settled(connection)
            ):
                return connection
            connection.end()
        async with asyncio.timeout(timeout_s):
            return await self._make()

    async def _make(self) -> Outbound:
        for _ in range(_ATTEMPTS):
            connection = await self._dial()
            if await _settled(connection):
                return connection
            connection.end()
        msg = "No connection to AlipayHK could be made (each was closed at once)."
        raise UpstreamUnavailable(msg)

    def give_back(self, connection: Outbound) -> None:
        """Keep a connection for the next exchange, or end it."""
        if self._closed or not connection.is_reusable:
            connection.end()
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(_KEEPALIVE_S, self._end_old)

    def close(self) -> None:
        """Keep nothing any more."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in self._idle:
            connection.end()
        self._idle.clear()

    def _end_old(self) -> None:
        fresh = self._loop.time() - _KEEPALIVE_S
        kept = [each for each in self._idle if each.idle_since > fresh and each.is_fit]
        for connection in set(self._idle) - set(kept):
            connection.end()
        self._idle = kept
        self._sweep = (
            self._loop.call_later(_KEEPALIVE_S, self._end_old) if self._idle else None
        )


async def _settled(connection: Outbound) -> bool:
    """Tell whether a connection is fit; whoever stops waiting for that ends it."""
    try:
        return await connection.settle()
    except asyncio.CancelledError:
        connection.end()
        raise
