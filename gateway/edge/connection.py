"""aiohttp's low-level server and answers, as both listeners need them.

Nothing of a malformed request is logged, nothing of the library is shown, and a
caller that closed its half of the connection still gets its answers.
"""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_request import BaseRequest
from yarl import URL

from gateway.edge.parser import READ_BYTES, Parser
from gateway.edge.response import Response
from gateway.edge.tls import names_of


class Server(web.Server):
    """Answers requests with `handle`, and what is not HTTP with `refuse`.

    Args:
        handle: answers one request.
        refuse: answers what could not be parsed, given the parser's error.
        max_connections: more at once are closed as they come (`gateway.edge.door`).
        idle_s: how long a connection may wait for a whole request head: the first,
            or the next.
        max_head_bytes: gives how large a head may be; of a greater one, no more than
            this is waited for.
        on_refused: is called for each connection that was one too many.
    """

    def __init__(
        self,
        handle: Callable[[BaseRequest], Awaitable[web.StreamResponse]],
        refuse: Callable[[BaseException | None], Response],
        *,
        max_connections: int = 64,
        idle_s: float = 75.0,
        max_head_bytes: Callable[[], int] = lambda: 1 << 14,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            handle,
            request_factory=_begin,
            access_log=None,
            keepalive_timeout=idle_s,
        )
        self.refuse = refuse
        self.max_head_bytes = max_head_bytes
        self.on_refused = on_refused
        self.beginning: set[web.RequestHandler] = set()
        """Those whose TLS is not there yet; they are not among `connections`."""
        self._max_connections = max_connections

    @property
    def open(self) -> int:
        """How many connections there are, from their first moment on."""
        return len(self.connections) + len(self.beginning)

    @property
    def is_full(self) -> bool:
        """Whether one more is too many."""
        return self.open >= self._max_connections

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of one connection."""
        return _Connection(self, self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """A connection, from the first request on it to the last."""

    last_body: StreamReader | None = None
    """Of the request that is being answered; None while there is none."""

    names: frozenset[str] | None = None
    """The subject alternative names of the peer's certificate; None without one."""

    _half_closed = False

    def __init__(
        self,
        manager: Server,
        loop: asyncio.AbstractEventLoop,
        **settings: Any,  # noqa: ANN401 - aiohttp's
    ) -> None:
        """Begin with a parser of ours, and one request that may wait, not 32."""
        super().__init__(manager, loop=loop, **settings)
        self._parser = Parser(self, loop, manager.max_head_bytes)
        self._max_msg_queue_size, self._msg_queue_resume_size = 1, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin a connection: TLS, if there is to be, is there."""
        assert isinstance(self._manager, Server)  # noqa: S101
        super().connection_made(transport)
        writing = cast("asyncio.WriteTransport", transport)  # as uvloop's is, too
        writing.set_write_buffer_limits(READ_BYTES)
        if hasattr(transport, "max_size"):  # of a read; TLS and uvloop have their own
            transport.max_size = READ_BYTES
        self._manager.beginning.discard(self)
        self.names = names_of(transport.get_extra_info("peercert"))

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio has it so
        """Tell asyncio to stay open for the answers that are still to be written.

        aiohttp's own closes at once: the exchange would go on, and its answer be
        lost. An idle connection ends here; another ends after its last answer, which
        the deadlines of an exchange see to.
        """
        body = self._messages[-1][1] if self._messages else self.last_body
        if body is None or (
            self.transport and self.transport.get_extra_info("sslcontext")
        ):
            return False  # TLS ends both halves at once
        self._half_closed = True
        if not body.is_eof():
            body.set_exception(web.RequestPayloadError("The rest never comes."))
        return True

    def data_received(self, data: bytes) -> None:
        """Parse on, and tell who reads a body that it turned out malformed.

        aiohttp's own queues the refusal behind the request whose body it is, which
        would wait for the rest of it until its deadline.
        """
        super().data_received(data)
        waiting = self._messages
        if waiting and not isinstance(waiting[-1][0], RawRequestMessage):
            body = waiting[-2][1] if len(waiting) > 1 else self.last_body
            if body is not None and not body.is_eof():
                body.set_exception(web.RequestPayloadError("It is malformed."))

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write an answer, then close if it was the last that can be asked for."""
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            if not self._messages:
                self.last_body = None
                if self._half_closed:
                    self.close()

    def handle_error(
        self,
        request: BaseRequest,  # noqa: ARG002 - aiohttp's signature
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,  # noqa: ARG002
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """Answer what could not be parsed, and end the connection."""
        assert isinstance(self._manager, Server)  # noqa: S101
        response = self._manager.refuse(exc)
        response.force_close()
        return response

    def log_exception(self, *args: object, **kwargs: object) -> None:
        """Log nothing: the text of a parse error quotes the request."""


def names_shown(request: BaseRequest) -> frozenset[str] | None:
    """Give the names of the certificate on a request's connection; None without one."""
    return request.protocol.names if isinstance(request.protocol, _Connection) else None


async def deliver(request: BaseRequest, response: Response, timeout_s: float) -> bool:
    """Write an answer and wait until the connection has taken it.

    aiohttp hands an answer to the connection and forgets it: a caller that does not
    read would keep it in memory for ever. Gives whether it was taken in time; if not,
    the connection is cut.
    """
    protocol = request.protocol
    try:
        await response.prepare(request)
        if response.is_small:
            await response.write_eof()  # waits for nothing
        if protocol._paused or not response.is_small:  # noqa: SLF001 - no public way
            async with asyncio.timeout(timeout_s):
                await response.write_eof()
                await protocol._drain_helper()  # noqa: SLF001
    except (OSError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()
        return False
    return request.transport is not None


def _begin(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: "asyncio.Task[None]",
) -> BaseRequest:
    """Make a request, and note on its connection that there is one."""
    assert isinstance(protocol, _Connection)  # noqa: S101
    protocol.last_body = payload
    if not message.path:  # None, whatever its type says, for a CONNECT to nothing
        # aiohttp's own reading of it would fail, and the connection wait for ever.
        message = message._replace(path="", url=URL("/"))  # the path is judged: no path
    loop = asyncio.get_running_loop()
    return BaseRequest(message, payload, protocol, writer, task, loop)
