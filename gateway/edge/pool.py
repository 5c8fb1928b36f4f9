"""Keep-alive connections to one host: the one that was used last is used next."""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final

from gateway.edge.dial import Dial
from gateway.edge.outbound import Outbound
from gateway.errors import UpstreamUnavailable

_KEEPALIVE_S: Final = 15.0
_MARGIN_S: Final = 1.0
"""Of what the other side keeps a connection open, for the way there; half at most."""

_YOUNGEST: Final = 0.75
"""Of its greatest age, what a connection reaches at least: those that were made
together are not all made anew together."""

_ATTEMPTS: Final = 2
"""The second one where a connection died before a byte could be written to it."""


class Pool:
    """Idle connections, and new ones where there is none.

    How many there may be is bounded by how many exchanges may be under way.

    Args:
        dial: makes connections.
        max_age_s: no exchange begins on a connection that is older, so that an address
            or a certificate that changed is taken up under steady traffic.
        entropy: gives that many random bytes, for ages that differ.
    """

    def __init__(
        self,
        dial: Dial,
        max_age_s: float = inf,
        entropy: Callable[[int], bytes] = bytes,
    ) -> None:
        self._dial = dial
        self._max_age_s = max_age_s
        self._entropy = entropy
        self._loop = asyncio.get_running_loop()
        self._idle: list[Outbound] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    def take_now(self) -> Outbound | None:
        """Give the connection that was used last, if a request may be written to it."""
        if self._idle:
            last = self._idle[-1]
            if last.idle_until > self._loop.time() and last.is_still:
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
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_until > self._loop.time() and (
                connection.is_still or await _settled(connection)
            ):
                return connection
            connection.end()
        async with asyncio.timeout(timeout_s):
            return await self._make()

    async def _make(self) -> Outbound:
        reasons: list[str] = []
        for _ in range(_ATTEMPTS):
            connection = await self._dial()
            if await _settled(connection):
                part = _YOUNGEST + (1 - _YOUNGEST) * self._entropy(1)[0] / 255
                connection.fresh_until = self._loop.time() + self._max_age_s * part
                return connection
            reasons.append(await connection.reason_lost())
            connection.end()
        cause = f"closed at once: {'; '.join(dict.fromkeys(reasons))}"
        msg = f"No connection to AlipayHK could be made (each was {cause})."
        raise UpstreamUnavailable(msg, cause=cause)

    def give_back(self, connection: Outbound) -> None:
        """Keep a connection for the next exchange, or end it."""
        if self._closed or not connection.is_reusable:
            connection.end()
            return
        now, kept_s = self._loop.time(), connection.keep_alive_s
        idle_s = min(_KEEPALIVE_S, max(kept_s - _MARGIN_S, kept_s / 2))
        connection.idle_until = min(now + idle_s, connection.fresh_until)
        if connection.idle_until <= now:
            connection.end()
            return
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
        now = self._loop.time()
        kept = [each for each in self._idle if each.idle_until > now and each.is_fit]
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
