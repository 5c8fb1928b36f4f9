"""Answers to those who call: whole, in memory, and written in one step if small."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, cast

from aiohttp import HttpVersion10, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.web_request import BaseRequest

from gateway.edge.parser import READ_BYTES, pieces_of

_BODILESS: Final = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class Response(web.StreamResponse):
    """An answer with the headers that it was given, and those that HTTP needs.

    aiohttp's own adds a Content-Type and its name, and writes through layers for
    bodies that come in parts, which cost more than all the rest of an answer.

    Args:
        status: the HTTP status.
        body: all of it.
        headers: without those that say how long it is and what becomes of the
            connection.
    """

    def __init__(
        self,
        *,
        status: int = HTTPStatus.OK,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status=status, headers=headers)
        self.body = body

    @property
    def is_small(self) -> bool:
        """Whether it is written without waiting."""
        return len(self.body) <= READ_BYTES

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        """Note what it is the answer to; nothing is written yet."""
        if self._req is None:
            self._req = request
            if self._keep_alive is None:
                self._keep_alive = request.keep_alive
        return None

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002 - aiohttp's
        """Write it to the connection of its request, once.

        Piece by piece, each as the caller takes those before: whole, a large one would
        be copied for the connection, and over TLS nothing would say that the caller
        does not take it.

        Raises:
            ConnectionResetError: there is no such connection any more.
        """
        assert self._req is not None  # noqa: S101 - prepare comes first
        if self._eof_sent:
            return
        self._eof_sent = True
        first, *rest = pieces_of(self._content(self._req)) or [memoryview(b"")]
        _transport_of(self._req).write(self._head(self._req) + first)
        for piece in rest:
            await self._req.protocol._drain_helper()  # noqa: SLF001 - no public way
            _transport_of(self._req).write(piece)

    def _head(self, request: BaseRequest) -> bytes:
        """Give the head, in a version that is spoken here also where another was asked."""
        old = request.version == HttpVersion10
        lines = [f"HTTP/1.{0 if old else 1} {self.status} {self.reason}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.status not in _BODILESS:
            lines.append(f"Content-Length: {len(self.body)}")
        lines.append(f"Date: {rfc822_formatted_time()}")
        if self.keep_alive and old:
            lines.append("Connection: keep-alive")
        elif not self.keep_alive and not old:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1:
            msg = "a header of the answer has a line's end in it"
            raise ValueError(msg)
        return head

    def _content(self, request: BaseRequest) -> bytes:
        if request.method == "HEAD" or self.status in _BODILESS:
            return b""
        return self.body


def _transport_of(request: BaseRequest) -> asyncio.WriteTransport:
    transport = request.transport
    if transport is None or transport.is_closing():
        msg = "the caller is gone"
        raise ConnectionResetError(msg)
    return cast("asyncio.WriteTransport", transport)
