"""A bound address, for as long as it is wanted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from gateway.edge.reasons import reason_of
from gateway.errors import SetupError


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket and its connections.

    Attributes:
        host: what it is bound to.
        port: the real one, also where 0 was asked for.
    """

    host: str
    port: int
    _site: web.TCPSite

    async def stop_accepting(self) -> None:
        """Close the listening socket; connections that are open stay open."""
        await self._site.stop()


@asynccontextmanager
async def listening(
    runner: web.BaseRunner, host: str, port: int, *, setting: str
) -> AsyncIterator[Listener]:
    """Listen until the end, then close every connection.

    Args:
        runner: what answers.
        host: the address to bind to.
        port: the port; 0 takes a free one.
        setting: where the address stands in the configuration, for the error.

    Raises:
        SetupError: the address cannot be bound.
    """
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            reason = reason_of(error)
            msg = f"{setting}: {host}:{port} cannot be listened on: {reason}"
            raise SetupError(msg) from error
        bound = runner.addresses[0]
        yield Listener(bound[0], bound[1], site)
    finally:
        await runner.cleanup()
