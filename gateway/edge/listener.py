"""A bound address, for as long as it is wanted."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from gateway.edge.reasons import reason_of
from gateway.errors import SetupError


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket and its connections.

    Attributes:
        address: what it is bound to: the real port, also where 0 was asked for.
    """

    address: str
    _site: web.BaseSite

    @property
    def port(self) -> int:
        """The port; 0 for a Unix socket."""
        port = self.address.rpartition(":")[2]
        return int(port) if port.isdecimal() else 0

    async def stop_accepting(self) -> None:
        """Close the listening socket; connections that are open stay open."""
        await self._site.stop()


@asynccontextmanager
async def listening(
    runner: web.BaseRunner,
    where: tuple[str, int] | Path,
    *,
    setting: str,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Listener]:
    """Listen until the end, then close every connection.

    Args:
        runner: what answers.
        where: host and port to bind to, port 0 for a free one; or a Unix socket.
        setting: where the address stands in the configuration, for the error.
        tls: the settings of connections; None for plain ones.

    Raises:
        SetupError: the address cannot be bound.
    """
    await runner.setup()
    ours: tuple[int, int] | None = None
    try:
        site = _site(runner, where, tls)
        try:
            if isinstance(where, Path):
                _clear(where)
            await site.start()
            ours = _identity(where)
        except OSError as error:
            address = _address(where)
            msg = f"{setting}: {address} cannot be listened on: {reason_of(error)}"
            raise SetupError(msg) from error
        bound = where if isinstance(where, Path) else runner.addresses[0][:2]
        yield Listener(_address(bound), site)
    finally:
        await runner.cleanup()
        if isinstance(where, Path) and ours is not None and _identity(where) == ours:
            await asyncio.to_thread(where.unlink, missing_ok=True)


def _site(
    runner: web.BaseRunner, where: tuple[str, int] | Path, tls: ssl.SSLContext | None
) -> web.BaseSite:
    if isinstance(where, Path):
        return web.UnixSite(runner, where, ssl_context=tls)
    return web.TCPSite(runner, *where, ssl_context=tls)


def _clear(path: Path) -> None:
    """Remove a socket that an earlier process left, but none that is listened on.

    asyncio would remove both.

    Raises:
        OSError: another process listens on it, or may.
    """
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)  # a full queue is a living process's
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _identity(where: tuple[str, int] | Path) -> tuple[int, int] | None:
    """Tell a socket in the file system from one that took its place."""
    if not isinstance(where, Path):
        return None
    try:
        status = where.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _address(where: tuple[str, int] | Path) -> str:
    if isinstance(where, Path):
        return f"unix:{where}"
    host, port = where
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
