"""A caller's connection: bytes into requests, one answered after the other.

The parser is llhttp, by `httptools`, in its strict mode, which settles what a request
is: no bare LF, no folded header, one length. What it lets pass and two readers may see
differently is refused in `gateway.edge.request`. Nothing of a malformed request is
logged or shown, and a caller that closed its half of the connection still gets its
answers. Written for this one job: a library's server costs a third of an exchange
(docs/adr/0017-a-server-of-our-own.md).
"""

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Final, cast

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserInvalidURLError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from gateway.access.admission import Account, Quota, unlimited
from gateway.edge.paced import Paced
from gateway.edge.pieces import CHUNK_BYTES, READ_BYTES, pieces_of
from gateway.edge.request import Request
from gateway.edge.response import Response
from gateway.edge.tls import CallersObject, names_of
from gateway.turns import next_turn

_FRAME_BYTES: Final = 64
"""What a head may have beside its target and its headers."""

_HEAD_READ_BYTES: Final = 1 << 14
"""As much is read at once where no body is awaited: few heads are longer, and it bounds
what a connection holds of requests that were sent ahead."""

_MOST_WAITING: Final = 128
"""Requests that wait for the answer before theirs. The connection ends behind those:
HTTP has whoever sends ahead send the others again (RFC 9112, 9.3.2)."""

_CUT_S: Final = 0.5
"""At the end, for requests under way to end by themselves, and then for what was
written to be sent."""

_LINGER_S: Final = 10.0
"""For a caller to stop sending what is not read any more: closed on at once, it would
lose answers, and with them why. Then as long again for it to take what was written."""

_MOST_HEADERS: Final = 128

_LINE_BYTES: Final = 8190
"""Of a request line, and of a header's value."""

_LINE_FRAME_BYTES: Final = len("  HTTP/1.1")
"""What a request line has beside its method and its target."""

_LINE_ENDS_BYTES: Final = len("\r\n\r\n")
"""What a head has beside its request line and its headers."""

_A_METHOD: Final = re.compile(rb"[A-Za-z]{1,20} /")

_RTSP: Final = re.compile(rb"[A-Z]{1,20}+ ++[^ \r\n]{1,8190}+ ++RTSP/")
"""A request line of RTSP, which the parser takes for HTTP and does not tell apart. One
that comes in parts or behind another request is missed, and answered as HTTP: which it
is but for that word, and what is sent on is the gateway's own."""

_REASONS: Final = {
    "Content-Length can't be present with Transfer-Encoding": "it has a length "
    "(Content-Length) and chunks (Transfer-Encoding), of which a body has one",
    "Transfer-Encoding can't be present with Content-Length": "it has a length "
    "(Content-Length) and chunks (Transfer-Encoding), of which a body has one",
    "Request has invalid `Transfer-Encoding`": "its Transfer-Encoding is not chunked",
    "Invalid `Transfer-Encoding` header value": "its Transfer-Encoding is not chunked",
    "Empty Transfer-Encoding": "its Transfer-Encoding is empty",
    "Duplicate Content-Length": "its Content-Length is there twice",
    "Empty Content-Length": "its Content-Length is empty",
    "Content-Length overflow": "its Content-Length is too great",
    "Invalid character in Content-Length": "its Content-Length is no number",
    "Invalid character in chunk size": "the size of a chunk is no number",
    "Chunk size overflow": "the size of a chunk is too great",
    "Invalid header token": "a header's name has a character that no name has",
    "Invalid header field char": "a header's name has a character that no name has",
    "Invalid header value char": "a header's value has a character that none has",
    "Expected space after method": "its request line is malformed",
    "Expected space after version": "its request line is malformed",
    "Expected CRLF after version": "its request line does not end with its version",
    "Expected HTTP/, RTSP/ or ICE/": "its request line names no version of HTTP",
    "Invalid HTTP version": "its version is not HTTP/1.1 or HTTP/1.0",
    "Missing expected LF after header value": "a line does not end in CR LF",
    "Missing expected CR after header value": "a line does not end in CR LF",
}
"""What may be wrong, by what the parser says: its words, which a version may change,
are never shown."""

_NOT_OF_HTTP: Final = frozenset(
    [
        "SOURCE",
        "PRI",
        "DESCRIBE",
        "ANNOUNCE",
        "SETUP",
        "PLAY",
        "PAUSE",
        "TEARDOWN",
        "GET_PARAMETER",
        "SET_PARAMETER",
        "REDIRECT",
        "RECORD",
        "FLUSH",
    ]
)
"""Methods of protocols that look like it, which the parser reads, too."""


class NotHttp(Exception):
    """What came is no request that can be answered.

    Attributes:
        status: 405 where its method alone is at fault, 414 for too long a target; else
            400.
        peer: where it came from.
    """

    peer: str | None = None

    def __init__(
        self, reason: str, *, status: HTTPStatus = HTTPStatus.BAD_REQUEST
    ) -> None:
        super().__init__(reason)
        self.status = status


_OTHER_PROTOCOL: Final = "it is of another protocol, or another version of HTTP"

_HEAD_TOO_LONG: Final = "its head is over inbound.max_header_bytes"


def _target_too_long() -> NotHttp:
    return NotHttp(
        f"its request line is over {_LINE_BYTES} bytes, or over inbound.max_header_bytes",
        status=HTTPStatus.REQUEST_URI_TOO_LONG,
    )


class Server:
    """Answers requests with `handle`, and what is not HTTP with `refuse`.

    Args:
        handle: answers one request, with `Connection.deliver`.
        refuse: gives the answer to what could not be parsed.
        max_connections: how many there may be. Where there are as many, one that waits
            for a request's head gives way to the newcomer; else that is closed.
        head_s: how long a connection may take, from its first moment and with TLS, to
            send its first whole request head.
        idle_s: how long it may wait for the next one.
        max_head_bytes: gives how large a head may be; of a greater one, no more than
            this is waited for.
        memory: what connections count the bytes in that they hold.
        on_refused: is called for each connection that is closed because there are
            too many.

    Attributes:
        on_handshake_failed: is called for each TLS handshake that came to nothing,
            with the peer and the reason in words.
    """

    def __init__(  # noqa: PLR0913 - its ports
        self,
        handle: Callable[[Request], Awaitable[None]],
        refuse: Callable[[NotHttp], Response],
        *,
        max_connections: int = 64,
        head_s: float = 10.0,
        idle_s: float = 75.0,
        max_head_bytes: Callable[[], int] = lambda: 1 << 14,
        memory: Quota | None = None,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        self.handle = handle
        self.refuse = refuse
        self.head_s = head_s
        self.idle_s = idle_s
        self.max_head_bytes = max_head_bytes
        self.memory = memory or unlimited()
        self.on_refused = on_refused
        self.on_handshake_failed: Callable[[str | None, str], None] = lambda *_: None
        self.connections: set[Connection] = set()
        self.beginning: dict[Connection, asyncio.Task[None]] = {}
        """Those whose TLS is not there yet, each with the task that brings it about;
        they are not among `connections`."""
        self.unheard: dict[Connection, float] = {}
        """Those that have sent no whole request head, the longest silent first, each
        with the loop's second since when."""
        self.idle: dict[Connection, float] = {}
        """Those with no request under way any more, likewise."""
        self.lost = asyncio.Event()
        """Is set for each connection that is at its end."""
        self._max_connections = max_connections

    @property
    def open(self) -> int:
        """How many connections there are, from their first moment on."""
        return len(self.connections) + len(self.beginning)

    @property
    def is_full(self) -> bool:
        """Whether one more is too many."""
        return self.open >= self._max_connections

    def __call__(self) -> "Connection":
        """Make the protocol of one connection."""
        connection = Connection(self)
        self.unheard[connection] = asyncio.get_running_loop().time()
        return connection

    def make_room(self) -> bool:
        """Cut off a connection that waits for a request; return whether there is one.

        Silence must not keep others out: first goes who has sent no whole request
        head, then who is idle, in either case for the longest. A request under way is
        never cut off.
        """
        for waiting in (self.unheard, self.idle):
            for connection in waiting:
                connection.give_way()
                return True
        return False

    async def end(self) -> None:
        """End every connection; cut off what does not end by itself."""
        tasks = [each.end() for each in self.connections]
        under_way = {task for task in tasks if task is not None}
        if under_way:
            _, late = await asyncio.wait(under_way, timeout=_CUT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._empty()
        for each in tuple(self.connections):
            each.abort()

    async def _empty(self) -> None:
        """Wait for what was written, and told as delivered, to be on its way."""
        for each in tuple(self.connections):
            each.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CUT_S):
                while any(each.is_unsent for each in self.connections):
                    self.lost.clear()
                    await self.lost.wait()


class Connection(Paced):
    """A connection, from the first request on it to the last.

    Whatever it holds of what came is in its account: the head that arrives, with what
    the parser keeps of a line that has not ended; the requests that wait; the body of
    the one that is answered.

    Attributes:
        names: the subject alternative names of the peer's certificate; None without
            one.
        peer: where it comes from (`gateway.edge.peers`); the door sets it.
        account: the bytes that it holds.
    """

    peer: str | None = None

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.names: frozenset[str] | None = None
        self.account = Account(server.memory)
        self._server = server
        self._transport: asyncio.Transport
        self._parser: HttpRequestParser | None = self._new_parser()
        self._request = Request(self)
        """The one whose head arrives; then the one whose body does."""
        self._headers: list[tuple[bytes, bytes]] = []
        """Those of the head that arrives."""
        self._in_body = False
        self._current: Request | None = None
        """The one that is answered; those behind it wait."""
        self._waiting: deque[Request | NotHttp] = deque()
        self._full = False
        """Whether as many wait, or did, as may: the last of them is the last of all."""
        self._task: asyncio.Task[None] | None = None
        self._asked: asyncio.Future[None] | None = None
        """What the task waits for between two requests; done where it does not wait."""
        # Whether all that came belongs to requests that are whole.
        self._is_between = True
        # Of the bytes that are being parsed, those that callbacks tell of.
        self._attributed = 0
        # Those that none told of: lines that have not ended, what frames chunks, white
        # space. They count as if all were held, so that they are bounded, too.
        self._loose = 0
        self._half_closed = False
        self._answered = False
        self._ending = False
        self._lingering = False
        self._reading = True
        self._queue = server.unheard  # or `idle`: it stands there while it waits
        self._timer: asyncio.TimerHandle | None = None
        """Of whatever it is that this waits for and may not wait for for ever."""

    @property
    def is_unsent(self) -> bool:
        """Whether the system has not been given all that was written."""
        return self._transport.get_write_buffer_size() > 0

    @property
    def local_address(self) -> str | None:
        """The address that it came in on; None for a Unix socket."""
        name = self._transport.get_extra_info("sockname")
        return str(name[0]) if isinstance(name, tuple) else None

    @property
    def is_secure(self) -> bool:
        """Whether it is of TLS."""
        return self._transport.get_extra_info("sslcontext") is not None

    async def deliver(
        self, request: Request, response: Response, timeout_s: float
    ) -> bool:
        """Write an answer and wait until the connection has taken it.

        A caller that does not read would keep it in memory for ever. Gives whether it
        was taken in time; if not, the connection is cut.

        Args:
            request: what it is the answer to.
            response: the answer.
            timeout_s: how long the caller may take.
        """
        await next_turn()  # so that the answers of this turn are written together
        keeps_open = (
            request.keeps_open
            and request.body.is_whole
            and not (response.closes or self._ending or request.is_last)
        )
        date = _date(int(self._loop.time()))
        head = response.head(date, is_old=request.is_old, keeps_open=keeps_open)
        content = response.content(request.method)
        if self._transport.is_closing():
            return False
        self._ending, self._answered = not keeps_open, True
        if len(content) <= READ_BYTES:
            self._transport.write(head + content)
            if self._taken is None:
                return not self._transport.is_closing()
            content = b""
        else:
            self._transport.write(head)
        try:
            async with asyncio.timeout(timeout_s):
                await self._write(content)
        except (OSError, TimeoutError):
            self.abort()
            return False
        return not self._transport.is_closing()

    async def _write(self, content: bytes) -> None:
        """Write piece by piece, each as the caller takes those before.

        Whole, a large one would be kept by the connection, and over TLS nothing would
        say that the caller does not take it.
        """
        for piece in pieces_of(content):
            if self._taken is not None:
                await self._taken
            if self._transport.is_closing():
                raise ConnectionResetError
            self._transport.write(piece)
        if self._taken is not None:
            await self._taken

    def interim(self, head: bytes) -> None:
        """Write an interim answer, such as that the body may come."""
        if not self._transport.is_closing():
            self._transport.write(head)

    def update_flow(self) -> None:
        """Stop reading where more has come than is taken; else read on."""
        if self._transport.is_closing():
            return
        reads = self._lingering or not (
            self._waiting or self._request.body.unread >= READ_BYTES
        )
        if reads is self._reading:
            return
        self._reading = reads
        if reads:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def end(self) -> asyncio.Task[None] | None:
        """End it behind the answer under way. Gives the task of that, if there is one."""
        self._ending = True
        self._forget_waiting()
        if self._current is None:
            self._close()
            return None
        return self._task

    def abort(self) -> None:
        """End it at once. Nothing that waits is begun: nobody would hear of it."""
        self._ending = True
        self._transport.abort()

    def give_way(self) -> None:
        """End it at once, be it that its TLS is not there yet, and count it no more."""
        self._ending = True
        self._queue.pop(self, None)
        self._server.connections.discard(self)
        handshake = self._server.beginning.pop(self, None)
        if handshake is not None:
            # A task that is cancelled before it began would leave its socket open.
            self._loop.call_soon(handshake.cancel)
        else:
            self.abort()

    # --- what the loop calls ---------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin a connection: TLS, if there is to be, is there."""
        self._transport = cast("asyncio.Transport", transport)  # as a stream's are
        self._bound_buffers(self._transport)
        if self._ending:  # it gave way just now
            self._transport.abort()
            return
        self._server.beginning.pop(self, None)
        self._server.connections.add(self)
        self.names = names_of(transport.get_extra_info("peercert"))
        if (tls := self._tls) is not None:
            tls.on_end = partial(self._loop.call_soon, self._end_half)
        self._end_if_idle()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's
        """Return where the next bytes are to be read to, and no more than are wanted."""
        return self._buffer if self._in_body else self._buffer[:_HEAD_READ_BYTES]

    def data_received(self, data: memoryview) -> None:
        """Parse on."""
        if self._parser is None:
            return  # behind the last request, or what was malformed
        was_between, self._attributed = self._is_between, 0
        if was_between and _RTSP.match(data):
            self._refuse(NotHttp(_OTHER_PROTOCOL))
        try:
            self._feed(data)
        except HttpParserCallbackError as error:
            self._fail(error.__context__ or error)  # a defect, and not the caller's
            return
        except HttpParserError as error:
            is_first = was_between and not self._attributed
            self._refuse(_reason_of(error, bytes(data[:32]) if is_first else b""))
        self._count_loose(len(data))

    def _count_loose(self, size: int) -> None:
        """Count what came and no callback told of, and bound it."""
        loose = max(0, self._loose + size - self._attributed)
        if self._parser is None or (self._is_between and self._attributed):
            loose = 0
        elif loose > self._server.max_head_bytes() + _FRAME_BYTES:
            self._refuse(NotHttp(_HEAD_TOO_LONG))
            loose = 0
        if loose != self._loose:
            self.account.add(loose - self._loose)
            self._loose = loose

    def eof_received(self) -> bool:
        """Return whether asyncio is to stay open for answers still to be written."""
        if self.is_secure:  # it is that of the connection below TLS, which ends with it
            self._close()
            return False
        self._end_half()
        return self._half_closed

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Note that the caller is gone. What was begun for it is brought to its end."""
        self._server.connections.discard(self)
        self._queue.pop(self, None)
        self._server.lost.set()
        self._ending = True
        self._forget_waiting()
        self._parser = None
        if self._timer is not None:
            self._timer.cancel()
        if self._in_body:
            self._request.body.lose("The caller is gone.")
        self._headers.clear()
        self._loose = 0
        self.account.keep(self._current.held if self._current is not None else 0)
        del self._request  # and with it, and the parser, the circles of references
        if (tls := self._tls) is not None:
            tls.on_end = None
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(None)
        if self._taken is not None and not self._taken.done():
            self._taken.set_exception(ConnectionResetError("the caller is gone"))
            self._taken.exception()  # seen, also where nobody waits

    # --- what the parser calls -------------------------------------------------

    def on_message_begin(self) -> None:
        """Note that a request begins."""
        self._is_between = False

    def on_url(self, url: bytes) -> None:
        """Take a part of the request-target, and no more than a line may have."""
        request = self._request
        request.raw_target += url
        if len(request.raw_target) > _LINE_BYTES:
            self._refuse(_target_too_long())

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header of the head; of one behind the body only the length counts."""
        if not self._in_body:
            if len(self._headers) <= _MOST_HEADERS:  # one too many says enough
                self._headers.append((name, value))
            return
        request = self._request
        request.count_header(name, value)
        if not self._is_bounded(request):
            self._refuse(NotHttp("its trailers are over inbound.max_header_bytes"))

    def on_headers_complete(self) -> None:
        """Answer the request, or let it wait for its turn."""
        self._in_body = True
        request, parser = self._request, self._parser
        if parser is None:
            self._headers.clear()
            return  # behind the last that is answered
        headers, self._headers = self._headers, []
        request.take_headers(headers)
        self._attributed += len(request.raw_target) + request.size + _FRAME_BYTES
        request.method = parser.get_method().decode("latin-1")
        request.target = request.raw_target.decode("latin-1")
        version = parser.get_http_version()
        # Any later 1.x is answered as 1.1 (RFC 9110, 2.5).
        request.version = "1.0" if version == "1.0" else "1.1"
        request.keeps_open = parser.should_keep_alive()
        problem = self._problem_of(request, version, headers)
        if problem is not None:
            self._parser = None
            self._offer(problem)
        elif parser.should_upgrade() and request.method != "CONNECT":
            self._headers = headers  # its head is read again: see `_feed`
        else:
            self._offer(request)

    def on_body(self, piece: bytes) -> None:
        """Take a part of the body."""
        self._attributed += len(piece)
        if self._parser is not None:
            self._request.body.add(piece)

    def on_chunk_header(self) -> None:
        """Note that a chunk begins."""
        self._attributed += CHUNK_BYTES

    def on_message_complete(self) -> None:
        """Begin the next."""
        if self._headers:
            return
        self._attributed += CHUNK_BYTES  # of the last one, which has no bytes
        self._request.body.complete()
        self._request = Request(self)
        self._in_body = False
        self._is_between = True
        if self._lingering:
            self._close()

    def _new_parser(self) -> HttpRequestParser:
        parser = HttpRequestParser(self)
        # Versions are this module's to judge: the parser knows no HTTP/1.2.
        parser.set_dangerous_leniencies(lenient_version=True)
        return parser

    def _feed(self, data: bytes | memoryview) -> None:
        """Parse on, also behind a request that offers another protocol.

        No such offer is taken (RFC 9110, 7.8). The parser ends where there is one, and
        would pass over the body: so the head is read once more, without it.
        """
        while self._parser is not None:
            try:
                self._parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                data = memoryview(data)[int(upgrade.args[0]) :]
                self._decline()
            else:
                return

    def _decline(self) -> None:
        """Read a head without its offer of another protocol; after CONNECT, no more."""
        headers, self._headers = self._headers, []
        if not headers:
            self._parser = None
            return
        head = _without_offer(self._request, headers)
        self._request, self._in_body = Request(self), False
        self._parser, counted = self._new_parser(), self._attributed
        self._parser.feed_data(head)
        self._attributed = counted  # these bytes were counted as they came

    def _problem_of(
        self, request: Request, version: str, headers: list[tuple[bytes, bytes]]
    ) -> NotHttp | None:
        """Return why a head cannot be answered, whatever it asks for; None if it can."""
        line = len(request.method) + len(request.raw_target) + _LINE_FRAME_BYTES
        most = self._server.max_head_bytes()
        problem = None
        if version[0] != "1" or request.method in _NOT_OF_HTTP:
            problem = NotHttp(_OTHER_PROTOCOL)
        elif request.headers > _MOST_HEADERS:
            problem = NotHttp(f"it has over {_MOST_HEADERS} headers")
        elif line > min(_LINE_BYTES, most):
            problem = _target_too_long()
        elif line + _LINE_ENDS_BYTES + request.size > most:
            problem = NotHttp(_HEAD_TOO_LONG)
        elif request.size > _LINE_BYTES and any(
            len(value) > _LINE_BYTES for _, value in headers
        ):
            problem = NotHttp(f"a header's value is over {_LINE_BYTES} bytes")
        return problem

    def _is_bounded(self, request: Request) -> bool:
        return (
            request.headers <= _MOST_HEADERS
            and request.size <= self._server.max_head_bytes()
        )

    @property
    def _tls(self) -> CallersObject | None:
        tls = self._transport.get_extra_info("ssl_object")
        return tls if isinstance(tls, CallersObject) else None

    def _end_half(self) -> None:
        """Note that the caller sends no more; close behind what it is still to get."""
        if self._current is None or self._transport.is_closing():
            self._close()
            return
        self._half_closed = True
        if self._in_body:
            self._request.body.lose("The rest never comes.")

    # --- one request after the other -------------------------------------------

    def _refuse(self, cause: NotHttp) -> None:
        """Answer what cannot be read, in its turn, and read no more."""
        if self._parser is None:
            return  # it has been refused
        self._parser = None
        self._headers.clear()
        if self._in_body:
            self._request.body.lose("It is malformed.")
        else:
            self._offer(cause)

    def _offer(self, asked: Request | NotHttp) -> None:
        """Answer this, or let it wait for its turn."""
        if self._ending or self._full:
            if isinstance(asked, Request):
                asked.body.lose("Nobody reads it.")
            return
        if isinstance(asked, Request):
            self.account.add(asked.head_bytes)
        if self._current is None:
            self._begin(asked)
            return
        self._waiting.append(asked)
        self._full = len(self._waiting) == _MOST_WAITING
        self.update_flow()

    def _forget_waiting(self) -> None:
        """Answer none of those that wait, and hold nothing of them."""
        for asked in self._waiting:
            if isinstance(asked, Request):
                asked.body.lose("Nobody reads it.")
                self.account.release(asked.head_bytes)
        self._waiting.clear()

    def _begin(self, asked: Request | NotHttp) -> None:
        if isinstance(asked, NotHttp):
            self._write_refusal(asked)
            return
        self._current = asked
        self._queue.pop(self, None)
        self._answered = False
        if self._task is None:
            self._task = self._loop.create_task(self._answer_all())
        elif self._asked is not None and not self._asked.done():
            self._asked.set_result(None)

    async def _answer_all(self) -> None:
        """Answer one request after the other, until there can be none any more.

        One task for all of a connection: one for each request costs 2 µs more.
        """
        try:
            while self._current is not None or not self._ending:
                request = self._current
                if request is None:
                    self._asked = self._loop.create_future()
                    await self._asked
                    continue
                try:
                    await self._server.handle(request)
                except Exception as error:  # noqa: BLE001 - whatever it is, here it ends
                    self._tell(error)
                finally:
                    self._next(request)
        except BaseException:  # cancelled: who asked behind this would wait for ever
            self.abort()
            raise

    def _next(self, request: Request) -> None:
        """Go on behind an answer."""
        self._current = None
        if self in self._server.connections:  # its caller may be gone, or cut off
            self._queue = self._server.idle
            self._queue[self] = self._loop.time()
        if request.body.is_whole:
            request.body.drop()
        else:
            request.body.lose("Nobody reads it.")  # what still comes of it is not kept
        self.account.release(request.head_bytes)
        if not self._answered:
            self.abort()
        elif self._ending:
            self._finish(request)
        elif self._waiting and self._transport.is_closing():
            self.abort()
        elif self._waiting:
            following = self._waiting.popleft()
            self._ending = self._full and not self._waiting
            self._begin(following)
        elif self._half_closed:
            self._close()
        self.update_flow()

    def _write_refusal(self, cause: NotHttp) -> None:
        self._ending = True
        if self._transport.is_closing():
            return
        cause.peer = self.peer
        try:
            response = self._server.refuse(cause)
            date = _date(int(self._loop.time()))
            head = response.head(date, is_old=False, keeps_open=False)
        except Exception as error:  # noqa: BLE001 - whatever it is, here it ends
            self._fail(error)
            return
        self._transport.write(head + response.body)
        self._part(sends_on=not self._reading)

    def _finish(self, request: Request) -> None:
        """Close behind the last answer."""
        is_whole = request.body.is_whole
        if is_whole and not request.keeps_open:
            self._close()  # as its caller said, who sends nothing behind it
            return
        if is_whole:
            self._parser = None  # what comes is thrown away
        self._part(sends_on=not (is_whole and self._reading))

    def _part(self, *, sends_on: bool) -> None:
        """Show the end of the answers, and close once the caller has shown its own.

        Args:
            sends_on: whether it is known to send more. Over TLS the end cannot be
                shown before all is over, so that only then it is waited for.
        """
        shows = self._transport.can_write_eof()
        if self._half_closed or not (shows or sends_on):
            self._close()
            return
        self._lingering = True
        if shows:
            self._transport.write_eof()
        self._forget_waiting()
        self.update_flow()
        self._ring(_LINGER_S, self._close)

    def _close(self) -> None:
        """Close behind what was written, but not wait for ever that it is taken."""
        if not self._transport.is_closing():  # asyncio's TLS is not to be closed twice
            self._transport.close()
            self._ring(_LINGER_S, self.abort)

    def _fail(self, error: BaseException) -> None:
        """End it at once for a defect of ours."""
        self._tell(error)
        self.abort()

    def _tell(self, error: BaseException) -> None:
        context = {"message": "a request was not answered", "exception": error}
        self._loop.call_exception_handler(context)

    def _ring(self, seconds: float, act: Callable[[], None]) -> None:
        """Do this later, in place of whatever else was to be done."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, act)

    def _end_if_idle(self) -> None:
        """Close a connection whose first or next request does not come."""
        server = self._server
        left = server.head_s if self._queue is server.unheard else server.idle_s
        since = self._queue.get(self)
        if since is not None:
            left += since - self._loop.time()
        if left > 0:
            self._ring(min(left, server.idle_s), self._end_if_idle)
        else:
            self._close()


def _without_offer(request: Request, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Write a head as it came, but for its Upgrade header."""
    line = b"%b %b HTTP/%b" % (
        request.method.encode("latin-1"),
        request.raw_target,
        request.version.encode("latin-1"),
    )
    kept = [b"%b: %b" % each for each in headers if each[0].lower() != b"upgrade"]
    return b"\r\n".join([line, *kept, b"", b""])


@lru_cache(maxsize=1)
def _date(second: int) -> str:  # noqa: ARG001 - what it is kept for
    """Give the Date header, made once a second."""
    return formatdate(usegmt=True)


def _reason_of(error: HttpParserError, line: bytes) -> NotHttp:
    """Say what is wrong, in words of ours: the parser's may quote the request."""
    if isinstance(error, HttpParserInvalidMethodError):
        if _A_METHOD.match(line):
            return NotHttp("its method", status=HTTPStatus.METHOD_NOT_ALLOWED)
        return NotHttp("its request line begins with no method")
    if isinstance(error, HttpParserInvalidURLError):
        return NotHttp("its target has a character that no target has")
    return NotHttp(_REASONS.get(str(error), "a line, a header or a chunk is malformed"))
