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
from functools import lru_cache
from typing import Final, cast

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from gateway.access.admission import Account, Quota, unlimited
from gateway.edge.paced import Paced
from gateway.edge.pieces import CHUNK_BYTES, READ_BYTES, pieces_of
from gateway.edge.request import Request
from gateway.edge.response import Response
from gateway.edge.tls import names_of
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

_A_METHOD: Final = re.compile(rb"[A-Za-z]{1,20} /")

_VERSIONS: Final = ("1.1", "1.0")

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
    """What came is no request. `is_method` says that its method alone is at fault.

    `peer`: where it came from.
    """

    peer: str | None = None

    def __init__(self, reason: str, *, is_method: bool = False) -> None:
        super().__init__(reason)
        self.is_method = is_method


class Server:
    """Answers requests with `handle`, and what is not HTTP with `refuse`.

    Args:
        handle: answers one request, with `Connection.deliver`.
        refuse: gives the answer to what could not be parsed.
        max_connections: more at once are closed as they come (`gateway.edge.door`).
        idle_s: how long a connection may wait for a whole request head: the first,
            or the next.
        max_head_bytes: gives how large a head may be; of a greater one, no more than
            this is waited for.
        memory: what connections count the bytes in that they hold.
        on_refused: is called for each connection that was one too many.

    Attributes:
        on_handshake_failed: is called for each TLS handshake that came to nothing,
            with the peer and the reason in words.
    """

    def __init__(  # noqa: PLR0913 - all but the first two have a default
        self,
        handle: Callable[[Request], Awaitable[None]],
        refuse: Callable[[NotHttp], Response],
        *,
        max_connections: int = 64,
        idle_s: float = 75.0,
        max_head_bytes: Callable[[], int] = lambda: 1 << 14,
        memory: Quota | None = None,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        self.handle = handle
        self.refuse = refuse
        self.idle_s = idle_s
        self.max_head_bytes = max_head_bytes
        self.memory = memory or unlimited()
        self.on_refused = on_refused
        self.on_handshake_failed: Callable[[str | None, str], None] = lambda *_: None
        self.connections: set[Connection] = set()
        self.beginning: set[Connection] = set()
        """Those whose TLS is not there yet; they are not among `connections`."""
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
        return Connection(self)

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
        self._parser: HttpRequestParser | None = HttpRequestParser(self)
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
        self._quiet_since = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        """Of whatever it is that this waits for and may not wait for for ever."""

    @property
    def is_unsent(self) -> bool:
        """Whether the system has not been given all that was written."""
        return self._transport.get_write_buffer_size() > 0

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

    # --- what the loop calls ---------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin a connection: TLS, if there is to be, is there."""
        self._transport = cast("asyncio.Transport", transport)  # as a stream's are
        self._bound_buffers(self._transport)
        if hasattr(transport, "max_size"):  # of a read; TLS and uvloop have their own
            transport.max_size = READ_BYTES
        self._server.beginning.discard(self)
        self._server.connections.add(self)
        self.names = names_of(transport.get_extra_info("peercert"))
        self._ring(self._server.idle_s, self._end_if_idle)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's
        """Return where the next bytes are to be read to, and no more than are wanted."""
        return self._buffer if self._in_body else self._buffer[:_HEAD_READ_BYTES]

    def data_received(self, data: memoryview) -> None:
        """Parse on."""
        if self._parser is None:
            return  # behind the last request, or what was malformed
        was_between, self._attributed = self._is_between, 0
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._parser = None  # another protocol's from here on, which is not spoken
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
            self._refuse(NotHttp("HeadTooLong"))
            loose = 0
        if loose != self._loose:
            self.account.add(loose - self._loose)
            self._loose = loose

    def eof_received(self) -> bool:
        """Tell asyncio to stay open for the answers that are still to be written."""
        if self._current is None or self._transport.get_extra_info("sslcontext"):
            self._close()
            return False  # TLS ends both halves at once
        self._half_closed = True
        if self._in_body:
            self._request.body.lose("The rest never comes.")
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Note that the caller is gone. What was begun for it is brought to its end."""
        self._server.connections.discard(self)
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
        """Take a part of the request-target."""
        self._request.raw_target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header of the head; of one behind the body only the length counts."""
        if not self._in_body:
            if len(self._headers) <= _MOST_HEADERS:  # one too many says enough
                self._headers.append((name, value))
            return
        request = self._request
        request.count_header(name, value)
        if not self._is_bounded(request):
            self._refuse(NotHttp("TrailersTooLong"))

    def on_headers_complete(self) -> None:
        """Answer the request, or let it wait for its turn."""
        self._in_body = True
        request, parser = self._request, self._parser
        if parser is None:
            return  # behind the last that is answered
        headers, self._headers = self._headers, []
        request.take_headers(headers)
        self._attributed += len(request.raw_target) + request.size + _FRAME_BYTES
        request.method = parser.get_method().decode("latin-1")
        request.target = request.raw_target.decode("latin-1")
        request.version = parser.get_http_version()
        request.keeps_open = parser.should_keep_alive()
        if request.version not in _VERSIONS or request.method in _NOT_OF_HTTP:
            self._parser = None
            self._offer(NotHttp("OtherProtocol"))
        elif request.headers > _MOST_HEADERS:
            self._parser = None
            self._offer(NotHttp("TooManyHeaders"))
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
        self._attributed += CHUNK_BYTES  # of the last one, which has no bytes
        self._request.body.complete()
        self._request = Request(self)
        self._in_body = False
        self._is_between = True
        if self._lingering:
            self._close()

    def _is_bounded(self, request: Request) -> bool:
        return (
            request.headers <= _MOST_HEADERS
            and request.size <= self._server.max_head_bytes()
        )

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
        else:
            self._quiet_since = self._loop.time()
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
        """Close a connection whose next request does not come."""
        left = self._server.idle_s
        if self._current is None:
            left += self._quiet_since - self._loop.time()
        if left > 0:
            self._ring(left, self._end_if_idle)
        else:
            self._close()


@lru_cache(maxsize=1)
def _date(second: int) -> str:  # noqa: ARG001 - what it is kept for
    """Give the Date header, made once a second."""
    return formatdate(usegmt=True)


def _reason_of(error: HttpParserError, line: bytes) -> NotHttp:
    """Say what is wrong, without the parser's text: it may quote the request."""
    is_method = isinstance(error, HttpParserInvalidMethodError) and bool(
        _A_METHOD.match(line)
    )
    return NotHttp(type(error).__name__, is_method=is_method)
