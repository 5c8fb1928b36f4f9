"""One request of a service, read strictly: what is left is a `Call` or an error.

Nothing of a caller's headers goes further than this module: what AlipayHK gets is
made from the configuration, so a caller cannot send it a Client-Id, a cookie or a
credential. Most of them are not kept.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from gateway.access.admission import Quota
from gateway.access.callers import Credentials
from gateway.edge.pieces import MANY, READ_BYTES, condense
from gateway.edge.response import Response
from gateway.errors import InvalidRequest, Overloaded, RequestTooLarge
from gateway.relay.exchange import check_call_target

_OURS: Final = frozenset(
    {"Gateway-Encrypt", "Gateway-Client", "Gateway-Exchange-Id", "Gateway-Timeout"}
)
_READ: Final = {
    name.lower().encode(): name
    for name in (
        *("Authorization", "Content-Encoding", "Content-Length", "Expect", "Host"),
        *("Origin", "Sec-Fetch-Site", "Sec-WebSocket-Key1", "Transfer-Encoding"),
        *_OURS,
    )
}
"""The headers that are read; of all others only the length counts."""

_WITHOUT_WISHES: Final = {"Authorization", "Content-Length", "Host"}
"""What most requests have, of the headers that are read."""

_FRAME_BYTES: Final = 4
"""What a header has beside its name and its value."""

_WISHES: Final = {"true": True, "false": False}
_SECONDS: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of one request.

    Attributes:
        max_header_bytes: the greatest head: request line and headers together. The
            connection sees to it.
        max_body_bytes: the greatest body.
        body_timeout_s: how long a body may take to arrive.
        write_timeout_s: how long the caller may take to read its answer.
    """

    max_header_bytes: int
    max_body_bytes: int
    body_timeout_s: float
    write_timeout_s: float


class Wire(Protocol):
    """The connection that a request came on."""

    names: frozenset[str] | None
    local_address: str | None

    @property
    def is_secure(self) -> bool:
        """Whether it is of TLS."""
        ...

    def hold(self) -> None:
        """Read no more for now."""
        ...

    def go_on(self) -> None:
        """Read on."""
        ...

    def interim(self, head: bytes) -> None:
        """Write an interim answer."""
        ...

    async def deliver(
        self, request: "Request", response: Response, timeout_s: float
    ) -> bool:
        """Write an answer; give whether it was taken in time."""
        ...


class Body:
    """A body, as far as it has come.

    Attributes:
        is_whole: whether all of it has come.
        problem: why the rest of it never comes; None while it may.
    """

    __slots__ = ("_arrived", "_pieces", "_unread", "_wire", "is_whole", "problem")

    def __init__(self, wire: Wire) -> None:
        self.is_whole = False
        self.problem: str | None = None
        self._wire = wire
        self._pieces: list[bytes] = []
        self._unread = 0
        self._arrived: asyncio.Future[None] | None = None

    def add(self, piece: bytes) -> None:
        """Take a piece, and no more than is read soon."""
        if self.problem is not None:
            return
        self._pieces.append(piece)
        self._unread += len(piece)
        if self._unread >= READ_BYTES:
            self._wire.hold()
        self._wake()

    def complete(self) -> None:
        """Note that this was all."""
        self.is_whole = self.problem is None
        self._wake()

    def lose(self, problem: str) -> None:
        """Note that the rest never comes."""
        self.problem = problem
        self._pieces.clear()
        self._wake()

    def take(self) -> bytes:
        """Give what has come since this was asked last."""
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if self._unread >= READ_BYTES:
            self._wire.go_on()
        self._unread = 0
        return data

    async def more(self) -> None:
        """Wait until more has come, or nothing will."""
        if not (self._pieces or self.is_whole or self.problem):
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived

    def _wake(self) -> None:
        arrived, self._arrived = self._arrived, None
        if arrived is not None and not arrived.done():
            arrived.set_result(None)


class Request:
    """A request: its head whole, its body as far as it has come.

    Attributes:
        raw_target: the request-target's bytes.
        target: the same, each byte a character; without our own authority, once
            `gateway.edge.rules` took that off.
        version: of HTTP: `1.1` or `1.0`.
        fields: the values of the headers that are read, by their names as `only` has them.
        headers: how many there are.
        size: of all of them, in bytes, with what parts them.
        unknown: a header that is reserved for the gateway, and not known to it; empty
            if there is none.
        keeps_open: whether another request may follow, as far as this one says.
    """

    __slots__ = (
        *("body", "fields", "headers", "keeps_open", "method"),
        *("raw_target", "size", "target", "unknown", "version", "wire"),
    )

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.method = ""
        self.raw_target = b""
        self.target = ""
        self.version = "1.1"
        self.fields: dict[str, list[str]] = {}
        self.headers = 0
        self.size = 0
        self.unknown = ""
        self.keeps_open = False
        self.body = Body(wire)

    @property
    def is_old(self) -> bool:
        """Whether it is HTTP/1.0's."""
        return self.version == "1.0"

    @property
    def is_last(self) -> bool:
        """Whether no other request may come on its connection.

        After chunks there may be trailers, which some readers take for headers. After
        CONNECT no requests are read.
        """
        return "Transfer-Encoding" in self.fields or self.method == "CONNECT"

    def take_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Take the headers, as they were sent, and keep those that are read."""
        size = 0
        for name, value in headers:
            size += len(name) + len(value) + _FRAME_BYTES
            lower = name.lower()
            known = _READ.get(lower)
            if known is not None:
                text = value.decode("latin-1").rstrip(" \t")  # RFC 9110, 5.5
                self.fields.setdefault(known, []).append(text)
            elif lower.startswith(b"gateway-"):
                self.unknown = name.decode("ascii")
        self.headers, self.size = len(headers), size

    def count_header(self, name: bytes, value: bytes) -> None:
        """Count a header behind the body, which is not read."""
        self.headers += 1
        self.size += len(name) + len(value) + _FRAME_BYTES

    def only(self, name: str) -> str | None:
        """Give the value of a header that is read; None where it is missing.

        Raises:
            InvalidRequest: it occurs more than once.
        """
        values = self.fields.get(name)
        if values is None:
            return None
        if len(values) > 1:
            msg = f"The header {name} may occur once."
            raise InvalidRequest(msg)
        return values[0]


class Head(NamedTuple):
    """What a request says before its body.

    Attributes:
        client: the client it names, if any.
        encrypt: whether it wants to be encrypted; None leaves that to the route.
        timeout_s: how long its caller waits; None if it does not say.
    """

    target: str
    client: str | None
    encrypt: bool | None
    timeout_s: float | None


class Arriving:
    """The bodies that are still arriving."""

    def __init__(self) -> None:
        self.over = False
        """Whether no body is waited for any more."""
        self._deadlines: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def one(self, timeout_s: float) -> AsyncIterator[None]:
        """Read a body in this block: until its time or that of all is over."""
        async with asyncio.timeout(0 if self.over else timeout_s) as deadline:
            self._deadlines.add(deadline)
            try:
                yield
            finally:
                self._deadlines.discard(deadline)

    def end(self) -> None:
        """Wait for no body any more."""
        self.over = True
        for deadline in self._deadlines:
            deadline.reschedule(asyncio.get_running_loop().time())


def credentials_of(request: Request) -> Credentials:
    """Give what a request shows of its sender."""
    shown = request.fields.get("Authorization", ())
    return Credentials(tuple(shown), request.wire.names)


def read_head(request: Request) -> Head:
    """Read all but the body, strictly.

    Raises:
        InvalidRequest: its target is none, it has a reserved header, or its body is
            encoded.
    """
    target = check_call_target(request.target)
    if request.unknown:
        msg = (
            f"The header {request.unknown[:64]} is not known, and all that begin with "
            f"Gateway- are reserved. Known are {', '.join(sorted(_OURS))}."
        )
        raise InvalidRequest(msg)
    if "Content-Encoding" in request.fields:
        _check_encoding(request)
    if request.fields.keys() <= _WITHOUT_WISHES:
        return Head(target, None, None, None)
    client, encrypt = request.only("Gateway-Client"), _wish(request)
    return Head(target, client, encrypt, _timeout(request))


async def read_body(
    request: Request, bounds: Bounds, memory: Quota, arriving: Arriving
) -> bytes:
    """Read a body to its end. Its bytes are taken from `memory`; give them back.

    They count piece by piece, so that who sends slowly, and has sent little, takes
    little from others.

    Raises:
        InvalidRequest: it did not arrive whole, or in time.
        RequestTooLarge: it is over the bound.
        Overloaded: there is no memory for it, or the gateway ends.
    """
    if request.body.is_whole and "Expect" not in request.fields:
        body = request.body.take()  # it came with its head, as most do
        _take_room(memory, len(body), len(body), bounds)
        return body
    length = (request.only("Content-Length") or "").lstrip("0")  # which int() counts
    if int(length or 0) > bounds.max_body_bytes:
        raise _too_large(bounds)
    _continue(request)
    pieces = _Pieces(bounds, memory)
    try:
        await _arrive(request.body, bounds, pieces, arriving)
    except BaseException:
        memory.give_back(pieces.size)
        raise
    return pieces.whole()


class _Pieces:
    """What has come of a body, counted against the memory."""

    def __init__(self, bounds: Bounds, memory: Quota) -> None:
        self.size = 0
        self._bounds = bounds
        self._memory = memory
        self._pieces: list[bytes] = []
        self._condensed = 0

    def add(self, piece: bytes) -> None:
        """Take a piece.

        Raises:
            RequestTooLarge, Overloaded: it is one too many.
        """
        size = len(piece)
        _take_room(self._memory, self.size + size, size, self._bounds)
        self.size += size
        self._pieces.append(piece)
        if len(self._pieces) == self._condensed + MANY:
            self._condensed = condense(self._pieces, self._condensed)

    def whole(self) -> bytes:
        """Give all of it."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


async def _arrive(
    body: Body, bounds: Bounds, pieces: _Pieces, arriving: Arriving
) -> None:
    """Wait for the pieces of a body, but not for ever."""
    try:
        async with arriving.one(bounds.body_timeout_s):
            while not body.problem:
                await body.more()
                pieces.add(body.take())
                if body.is_whole:
                    return
    except TimeoutError:
        if arriving.over:
            msg = "The gateway ends, and the body had not arrived. Send it again."
            raise Overloaded(msg) from None
        msg = f"The body took over {bounds.body_timeout_s:g} s to arrive."
        raise InvalidRequest(msg) from None
    msg = "The body did not arrive whole."
    raise InvalidRequest(msg)


def _take_room(memory: Quota, size: int, piece: int, bounds: Bounds) -> None:
    """Take the bytes of a piece from the memory; `size` is that of all with it."""
    if size > bounds.max_body_bytes:
        raise _too_large(bounds)
    if not memory.take_now(piece):
        msg = (
            "The bodies in memory are as large as they may be together "
            "(inbound.max_buffered_bytes). Send again later."
        )
        raise Overloaded(msg)


def _too_large(bounds: Bounds) -> RequestTooLarge:
    return RequestTooLarge(
        f"The body is over {bounds.max_body_bytes} bytes (inbound.max_body_bytes)."
    )


def _check_encoding(request: Request) -> None:
    if (request.only("Content-Encoding") or "identity").lower() != "identity":
        msg = (
            "The header Content-Encoding says that the body is encoded. It must be "
            "plain: the bytes that are signed are the bytes sent."
        )
        raise InvalidRequest(msg)


def _wish(request: Request) -> bool | None:
    text = request.only("Gateway-Encrypt")
    if text is None:
        return None
    wish = _WISHES.get(text.strip().lower())
    if wish is None:
        msg = "Gateway-Encrypt is true or false."
        raise InvalidRequest(msg)
    return wish


def _timeout(request: Request) -> float | None:
    text = request.only("Gateway-Timeout")
    if text is None:
        return None
    if not _SECONDS.fullmatch(text) or not float(text):
        msg = "Gateway-Timeout is seconds, such as 2.5."
        raise InvalidRequest(msg)
    return float(text)


def _continue(request: Request) -> None:
    """Answer `Expect: 100-continue`, once it is known that the body is wanted."""
    expectation = request.only("Expect")
    if expectation is None:
        return
    if expectation.lower() != "100-continue":
        msg = "The only expectation that can be met is 100-continue."
        raise InvalidRequest(msg)
    # HTTP/1.0 knows no interim answer, and would take it for the answer itself.
    if not request.is_old:
        request.wire.interim(b"HTTP/1.1 100 Continue\r\n\r\n")
