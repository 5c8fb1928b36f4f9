"""A bound address, for as long as it is wanted."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from gateway.edge.reasons import reason_of
from gateway.errors import SetupError

_HANDSHAKE_S: Final = 10.0
"""For TLS to come about. Until then a connection is nobody's: no bound but this
one holds for it, and asyncio's own is a minute."""

_BACKLOG: Final = 128


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket and its connections.

    Attributes:
        address: what it is bound to: the real port, also where 0 was asked for.
    """

    address: str
    _server: asyncio.Server

    @property
    def port(self) -> int:
        """The port; 0 for a Unix socket."""
        port = self.address.rpartition(":")[2]
        return int(port) if port.isdecimal() else 0

    async def stop_accepting(self) -> None:
        """Close the listening socket; connections that are open stay open."""
        self._server.close()


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
    try:
        with _told(setting, where):
            server = await _bind(runner.server, where, tls)
        ours = _identity(where)
        try:
            yield Listener(_address(_bound(server, where)), server)
        finally:
            server.close()
            if isinstance(where, Path) and ours == _identity(where):
                await asyncio.to_thread(where.unlink, missing_ok=True)
    finally:
        await runner.cleanup()


@contextmanager
def _told(setting: str, where: tuple[str, int] | Path) -> Iterator[None]:
    """Say of an address that cannot be bound where it stands, and why."""
    try:
        yield
    except OSError as error:
        address = _address(where)
        msg = f"{setting}: {address} cannot be listened on: {reason_of(error)}"
        raise SetupError(msg) from error


async def _bind(
    protocols: web.Server | None,
    where: tuple[str, int] | Path,
    tls: ssl.SSLContext | None,
) -> asyncio.Server:
    """Bind as aiohttp's sites do, which cannot bound a handshake."""
    assert protocols is not None  # noqa: S101 - the runner is set up
    handshake_s = _HANDSHAKE_S if tls else None
    loop = asyncio.get_running_loop()
    if isinstance(where, Path):
        _clear(where)
        return await loop.create_unix_server(
            protocols,
            where,
            ssl=tls,
            backlog=_BACKLOG,
            ssl_handshake_timeout=handshake_s,
        )
    return await loop.create_server(
        protocols,
        *where,
        ssl=tls,
        backlog=_BACKLOG,
        ssl_handshake_timeout=handshake_s,
    )


def _bound(
    server: asyncio.Server, where: tuple[str, int] | Path
) -> tuple[str, int] | Path:
    if isinstance(where, Path):
        return where
    host, port = server.sockets[0].getsockname()[:2]
    return host, port


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
