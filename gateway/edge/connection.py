"""aiohttp's low-level server and answers, as both listeners need them.

Nothing of a malformed request is logged, nothing of the library is shown, and a
caller that closed its half of the connection still gets its answers.
"""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion10, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_request import BaseRequest

_IDLE_S: Final = 75.0
"""How long a connection may wait for a whole request head: the first, or the next."""


class Response(web.Response):
    """An answer with the headers that it was given, and those that HTTP needs."""

    async def _write_headers(self) -> None:
        """Answer in a version that is spoken here, also where another was asked."""
        assert self._req is not None  # noqa: S101
        assert self._payload_writer is not None  # noqa: S101
        asked = self._req.version
        version = "1.0" if asked == HttpVersion10 else "1.1"
        line = f"HTTP/{version} {self.status} {self.reason}"
        await self._payload_writer.write_headers(line, self.headers)

    async def _prepare_headers(self) -> None:
        """Take back what aiohttp adds by itself: a Content-Type, and its own name."""
        given = {name.lower() for name in self.headers}
        await super()._prepare_headers()
        for name in ("Content-Type", "Server"):
            if name.lower() not in given:
                self.headers.pop(name, None)


class Server(web.Server):
    """Answers requests with `handle`, and what is not HTTP with `refuse`.

    Args:
        handle: answers one request.
        refuse: answers what could not be parsed, given the parser's error.
    """

    def __init__(
        self,
        handle: Callable[[BaseRequest], Awaitable[web.StreamResponse]],
        refuse: Callable[[BaseException | None], web.Response],
    ) -> None:
        super().__init__(
            handle,
            request_factory=_begin,
            access_log=None,
            auto_decompress=False,  # a body is the bytes that were sent
            keepalive_timeout=_IDLE_S,
        )
        self.refuse = refuse

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of one connection."""
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """A connection, from the first request on it to the last."""

    last_body: StreamReader | None = None
    """Of the request that is being answered; None while there is none."""

    _half_closed = False

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio has it so
        """Tell asyncio to stay open for the answers that are still to be written.

        aiohttp's own closes at once: the exchange would go on, and its answer be
        lost. An idle connection ends here; another ends after its last answer, which
        the deadlines of an exchange see to.
        """
        body = self._messages[-1][1] if self._messages else self.last_body
        if body is None:
            return False
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
    loop = asyncio.get_running_loop()
    return BaseRequest(message, payload, protocol, writer, task, loop)
