"""Where connections come in: no more than there may be, from their first moment on."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.edge.connection import Connection, Server
from gateway.edge.peers import peer_of, why_no_tls
from gateway.edge.pieces import READ_BYTES

BACKLOG: Final = 128

_GIVEN_WAY_S: Final = 0.002
"""For another process to take a connection."""

_TOLD_S: Final = 0.1
"""Between two times that other processes are told how many connections there are."""

_PAUSE_S: Final = 1.0
"""Where the system has no descriptor left, which it says until there is one."""


@dataclass(frozen=True, slots=True)
class Shared:
    """Sockets that listen already, for several processes.

    Attributes:
        sockets: the sockets.
        gives_way: as `Door` takes it.
    """

    sockets: tuple[socket.socket, ...]
    gives_way: Callable[[int], bool]


class Door:
    """Takes connections from sockets that listen, and gives them to a server.

    asyncio's own does not tell of a connection before its handshake is over: until
    then it could not be counted, and there could be any number of them.

    Args:
        server: makes a protocol of each, and says how many there may be.
        sockets: where they come from; the door closes them.
        tls: the settings of connections; None for plain ones.
        gives_way: where other processes take connections from the same sockets, is
            told how many this one has, and gives whether another has fewer. Then
            that one may go first; and one is taken at a time, so that a burst is
            spread over all.
    """

    def __init__(
        self,
        server: Server,
        sockets: Iterable[socket.socket],
        tls: ssl.SSLContext | None,
        *,
        gives_way: Callable[[int], bool] | None = None,
    ) -> None:
        self._server = server
        self._sockets = tuple(sockets)
        self._tls = tls
        self._gives_way = gives_way
        self._loop = asyncio.get_running_loop()
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        self._left = 1
        self._telling: asyncio.TimerHandle | None = None
        for each in self._sockets:
            self._open(each)
        self._tell_crowd()

    def close(self) -> None:
        """Take no connection any more; those that began go on."""
        for pause in self._pauses.values():
            pause.cancel()
        if self._telling is not None:
            self._telling.cancel()
        for each in self._sockets:
            if each.fileno() >= 0:
                self._loop.remove_reader(each)
                each.close()

    async def end(self) -> None:
        """Close, and cut off the handshakes that are not over."""
        self.close()
        handshakes = tuple(self._server.beginning.values())
        for task in handshakes:
            task.cancel()
        await asyncio.gather(*handshakes, return_exceptions=True)

    def _open(self, listening: socket.socket) -> None:
        self._loop.add_reader(listening, self._take, listening)

    def _take(self, listening: socket.socket) -> None:
        """Take what has come, or let another process take it."""
        if self._gives_way is None:
            self._take_some(listening, BACKLOG)
        elif self._gives_way(self._server.open):
            self._loop.remove_reader(listening)
            self._later(listening, _GIVEN_WAY_S, partial(self._take_left, listening))
        else:
            self._left = 1
            self._take_some(listening, 1)
            self._gives_way(self._server.open)  # it has one more, and says so

    def _take_left(self, listening: socket.socket) -> None:
        """Take one that others left; twice as many each time that they leave any."""
        assert self._gives_way is not None  # noqa: S101
        self._open(listening)
        self._take_some(listening, self._left)
        self._left = min(2 * self._left, BACKLOG)
        self._gives_way(self._server.open)

    def _tell_crowd(self) -> None:
        """Tell the others how many connections there are, also when some have ended."""
        if self._gives_way is not None:
            self._gives_way(self._server.open)
            self._telling = self._loop.call_later(_TOLD_S, self._tell_crowd)

    def _take_some(self, listening: socket.socket, most: int) -> None:
        """Take what has come, but not for ever: others have their turn, too."""
        for _ in range(most):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(listening, error)
                return
            self._admit(connection, address)

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        context = {"message": "no connection could be taken", "exception": error}
        self._loop.call_exception_handler(context)
        self._loop.remove_reader(listening)
        self._later(listening, _PAUSE_S, partial(self._open, listening))

    def _later(
        self, listening: socket.socket, delay: float, act: Callable[[], None]
    ) -> None:
        self._pauses[listening] = self._loop.call_later(delay, act)

    def _admit(self, connection: socket.socket, address: object) -> None:
        server = self._server
        if server.is_full:
            server.on_refused()
            if not server.make_room():
                connection.close()
                return
        if self._tls is not None:  # which keeps whatever one read of the socket brings
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_BYTES)
        protocol = server()
        protocol.peer = peer_of(connection, address)
        task = self._loop.create_task(self._begin(connection, protocol))
        server.beginning[protocol] = task

    async def _begin(self, connection: socket.socket, protocol: Connection) -> None:
        """Bring about TLS, if there is to be."""
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=self._server.head_s if self._tls else None,
            )
        except OSError as error:
            if self._tls is not None:
                self._server.on_handshake_failed(protocol.peer, why_no_tls(error))
        finally:
            if self._server.beginning.pop(protocol, None) is not None:
                self._server.unheard.pop(protocol, None)  # it never began
