"""A service that calls at a steady pace, plain and encrypted in turn, whatever happens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

from gateway.cli._demo_stage import TARGET, body
from gateway.plant import CLOCK

A_SECOND: Final = 40
"""How many calls there are."""

_AT_ONCE: Final = 16
_PATIENCE: Final = aiohttp.ClientTimeout(total=20)


@dataclass(slots=True)
class Calls:
    """What became of some calls, as the service sees it.

    Attributes:
        slowest_s: the longest that it waited for an answer.
    """

    sent: int = 0
    verified: int = 0
    encrypted: int = 0
    slowest_s: float = 0.0

    @property
    def failed(self) -> int:
        """Those without a verified answer that says success."""
        return self.sent - self.verified

    def count(self, seconds: float, *, verified: bool, encrypted: bool) -> None:
        """Count one that has ended."""
        self.sent += 1
        self.verified += verified
        self.encrypted += encrypted
        self.slowest_s = max(self.slowest_s, seconds)


class Service:
    """Calls until it is told to stop.

    Args:
        url: the gateway's inbound listener.
    """

    def __init__(self, url: str) -> None:
        self.total: Final = Calls()
        self.act = Calls()
        self._url = url + TARGET
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._stopping = False
        self._stopped = asyncio.Event()

    def begin_act(self) -> None:
        """Count anew for the next act."""
        self.act = Calls()

    async def call(self) -> None:
        """Call, some at once, until `stop`; then wait for the last answer."""
        async with (
            aiohttp.ClientSession(timeout=_PATIENCE) as session,
            asyncio.TaskGroup() as calls,
        ):
            due, encrypt = CLOCK.monotonic(), False
            while await self._may_call():
                one = calls.create_task(self._call(session, encrypt=encrypt))
                one.add_done_callback(lambda _: self._places.release())
                now, encrypt = CLOCK.monotonic(), not encrypt
                due = max(now, due + 1 / A_SECOND)
                await asyncio.sleep(due - now)
        self._stopped.set()

    @asynccontextmanager
    async def between_calls(self) -> AsyncIterator[None]:
        """Hold the next call back for a moment in which none is under way."""
        for _ in range(_AT_ONCE):
            await self._places.acquire()
        try:
            yield
        finally:
            for _ in range(_AT_ONCE):
                self._places.release()

    async def stop(self) -> None:
        """Call no more. Returns when every call was answered."""
        self._stopping = True
        await self._stopped.wait()

    async def _may_call(self) -> bool:
        """Wait for a place. Gives whether there is to be another call."""
        await self._places.acquire()
        return not self._stopping

    async def _call(self, session: aiohttp.ClientSession, *, encrypt: bool) -> None:
        began = CLOCK.monotonic()
        headers = {"Gateway-Encrypt": "true" if encrypt else "false"}
        try:
            async with session.post(
                self._url, data=body("rotation").encode(), headers=headers
            ) as answer:
                verified = (
                    answer.status == 200
                    and answer.headers.get("Gateway-Verified") == "true"
                    and b'"SUCCESS"' in await answer.read()
                )
        except (aiohttp.ClientError, TimeoutError):
            verified = False
        seconds = CLOCK.monotonic() - began
        for calls in (self.total, self.act):
            calls.count(seconds, verified=verified, encrypted=encrypt)
