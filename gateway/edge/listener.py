"""A bound address, for as long as it is wanted."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import (
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from pathlib import Path

from gateway.edge.connection import Server
from gateway.edge.door import BACKLOG, Door, Shared
from gateway.edge.reasons import reason_of
from gateway.errors import SetupError


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket and its connections.

    Attributes:
        address: what it is bound to: the real port, also where 0 was asked for.
    """

    address: str
    _door: Door

    @property
    def port(self) -> int:
        """The port; 0 for a Unix socket."""
        port = self.address.rpartition(":")[2]
        return int(port) if port.isdecimal() else 0

    async def stop_accepting(self) -> None:
        """Close the listening socket; connections that are open stay open."""
        self._door.close()


@asynccontextmanager
async def listening(
    server: Server,
    where: tuple[str, int] | Path,
    *,
    setting: str,
    tls: ssl.SSLContext | None = None,
    shared: Shared | None = None,
) -> AsyncIterator[Listener]:
    """Listen until the end, then close every connection.

    Args:
        server: what answers.
        where: host and port to bind to, port 0 for a free one; or a Unix socket.
        setting: where the address stands in the configuration, for the error.
        tls: the settings of connections; None for plain ones.
        shared: sockets that listen there already, for several processes.

    Raises:
        SetupError: the address cannot be bound.
    """
    try:
        async with AsyncExitStack() as stack:
            sockets = (
                shared.sockets
                if shared
                else await stack.enter_async_context(bound(where, setting=setting))
            )
            gives_way = shared.gives_way if shared else None
            door = Door(server, sockets, tls, gives_way=gives_way)
            stack.push_async_callback(door.end)
            yield Listener(address_of(sockets, where), door)
    finally:
        await server.end()


@asynccontextmanager
async def bound(
    where: tuple[str, int] | Path, *, setting: str
) -> AsyncIterator[list[socket.socket]]:
    """Have sockets that listen, until the end of the block.

    Whoever closes them before listens no more, unless another process has them, too.

    Args:
        where: as `listening` takes it.
        setting: where the address stands in the configuration, for the error.

    Raises:
        SetupError: the address cannot be bound.
    """
    with _told(setting, where):
        sockets = await _bind(where)
    ours = _identity(where)
    try:
        yield sockets
    finally:
        for each in sockets:
            each.close()
        if isinstance(where, Path) and ours == _identity(where):
            await asyncio.to_thread(where.unlink, missing_ok=True)


def address_of(sockets: Sequence[socket.socket], where: tuple[str, int] | Path) -> str:
    """Give what sockets listen on: the real port, also where 0 was asked for."""
    return _address(_bound(sockets[0], where))


@contextmanager
def _told(setting: str, where: tuple[str, int] | Path) -> Iterator[None]:
    """Say of an address that cannot be bound where it stands, and why."""
    try:
        yield
    except OSError as error:
        address = _address(where)
        msg = f"{setting}: {address} cannot be listened on: {reason_of(error)}"
        raise SetupError(msg) from error


async def _bind(where: tuple[str, int] | Path) -> list[socket.socket]:
    with ExitStack() as undo:
        if isinstance(where, Path):
            _clear(where)
            sockets = [undo.enter_context(socket.socket(socket.AF_UNIX))]
            sockets[0].bind(str(where))
        else:
            # asyncio resolves and binds; what comes in is the door's.
            server = await asyncio.get_running_loop().create_server(
                asyncio.Protocol, *where, start_serving=False
            )
            sockets = [undo.enter_context(each.dup()) for each in server.sockets]
            server.close()
        for each in sockets:
            each.settimeout(0)
            each.listen(BACKLOG)
        undo.pop_all()
    return sockets


def _bound(
    listening: socket.socket, where: tuple[str, int] | Path
) -> tuple[str, int] | Path:
    if isinstance(where, Path):
        return where
    host, port = listening.getsockname()[:2]
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
