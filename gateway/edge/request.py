"""One request of a service, read strictly: what is left is a `Call` or an error.

Nothing of a caller's headers goes further than this module: what AlipayHK gets is
made from the configuration, so a caller cannot send it a Client-Id, a cookie or a
credential. Most of them are not kept.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from typing import Final, NamedTuple, Protocol

from gateway.access.admission import Account, Quota
from gateway.access.callers import Credentials
from gateway.edge.pieces import MANY, READ_BYTES, condense
from gateway.edge.response import Response
from gateway.errors import (
    ExchangeError,
    InvalidRequest,
    Overloaded,
    RequestTooLarge,
)
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

_OBJECTS_BYTES: Final = 2048
"""What a request without a body takes beside its bytes: its objects, as measured."""

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
    peer: str | None
    account: Account

    @property
    def local_address(self) -> str | None:
        """The address that it came in on; None for a Unix socket."""
        ...

    @property
    def is_secure(self) -> bool:
        """Whether it is of TLS."""
        ...

    def update_flow(self) -> None:
        """Stop reading, or read on, as what is held says."""
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
    """A body, as far as it has come. Its bytes are in the account of its connection.

    Attributes:
        is_whole: whether all of it has come.
        problem: why the rest of it never comes; None while it may.
        size: how many bytes have come.
        unread: how many came since `more` was called last.
    """

    __slots__ = (
        *("_arrived", "_condensed", "_pieces", "_wire"),
        *("is_whole", "problem", "size", "unread"),
    )

    def __init__(self, wire: Wire) -> None:
        self.is_whole = False
        self.problem: str | None = None
        self.size = 0
        self.unread = 0
        self._wire = wire
        self._pieces: list[bytes] = []
        self._condensed = 0
        self._arrived: asyncio.Future[None] | None = None

    def add(self, piece: bytes) -> None:
        """Take a piece, and no more than is read soon."""
        if self.problem is not None:
            return
        size = len(piece)
        self._wire.account.add(size)
        self.size += size
        self.unread += size
        self._pieces.append(piece)
        if len(self._pieces) == self._condensed + MANY:
            self._condensed = condense(self._pieces, self._condensed)
        if self.unread >= READ_BYTES:
            self._wire.update_flow()
        self._wake()

    def complete(self) -> None:
        """Note that this was all."""
        self.is_whole = self.problem is None
        self._wake()

    def lose(self, problem: str) -> None:
        """Hold nothing of it, and note that the rest never comes."""
        self.problem = problem
        self.drop()
        self._wake()

    def drop(self) -> None:
        """Hold nothing of it any more."""
        self._pieces.clear()
        self._wire.account.release(self.size)
        self.size = 0

    def whole(self) -> bytes:
        """Return all that has come, joined once: later calls return the same."""
        if len(self._pieces) != 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0]

    async def more(self) -> None:
        """Wait until more has come since this was called last, or nothing will."""
        if not (self.unread or self.is_whole or self.problem):
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        was_full = self.unread >= READ_BYTES
        self.unread = 0
        if was_full:
            self._wire.update_flow()

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
        head_bytes: what is held of it beside its body.
        keeps_open: whether another request may follow, as far as this one says.
    """

    __slots__ = (
        *("body", "fields", "head_bytes", "headers", "keeps_open", "method"),
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
        self.head_bytes = 0
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

    @property
    def held(self) -> int:
        """What is held of it, once its head is whole."""
        return self.head_bytes + self.body.size

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
        self.head_bytes = _OBJECTS_BYTES + len(self.raw_target) + size

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


_YOUNG_S: Final = 1.0
"""A body gives way to others of its own caller only if it has been coming for longer."""


@dataclass(slots=True, eq=False)
class Pending:
    """A request whose body arrives, or that waits for a place.

    Attributes:
        gave_way: whether its memory was given to another.
    """

    caller: str
    body: Body
    began: float
    deadline: asyncio.Timeout
    gave_way: bool = False

    def rate(self, now: float) -> float:
        """Return how many bytes came per second."""
        return self.body.size / max(now - self.began, _YOUNG_S)

    def cut(self, now: float) -> None:
        """Have its time be over, if it is not yet."""
        if not self.deadline.expired():
            self.deadline.reschedule(now)


class Arriving:
    """The requests that are not under way yet, and which of them gives way.

    Where memory runs out, of those who have such requests the caller that holds most loses
    the slowest of them. So a caller whose bodies never end, or fill whatever is left, takes
    memory from itself and not from the others, also where its exchanges hold the rest.

    Args:
        memory: what bodies are counted in.

    Attributes:
        over: whether no body is waited for any more.
        under_way: of each exchange that has its place, by its account: the caller, and
            the body of the request.
    """

    def __init__(self, memory: Quota) -> None:
        self.over = False
        self.under_way: dict[Account, tuple[str, Body]] = {}
        self._memory = memory
        self._pending: set[Pending] = set()

    @asynccontextmanager
    async def one(
        self, caller: str, body: Body, timeout_s: float
    ) -> AsyncIterator[Pending]:
        """Read a body, and wait for its place, in this block.

        Args:
            caller: who sends it.
            body: what arrives.
            timeout_s: how long it may take; see `Pending.deadline`.

        Raises:
            TimeoutError: its time, or that of all, is over, or it gave way.
        """
        loop = asyncio.get_running_loop()
        longest = None if body.is_whole else 0 if self.over else timeout_s
        async with asyncio.timeout(longest) as deadline:
            pending = Pending(caller, body, loop.time(), deadline)
            self._pending.add(pending)
            try:
                yield pending
            finally:
                self._pending.discard(pending)

    def end(self) -> None:
        """Wait for no body any more."""
        self.over = True
        for pending in self._pending:
            if not pending.body.is_whole:
                pending.cut(asyncio.get_running_loop().time())

    def make_room(self, caller: str, body: Body) -> bool:
        """Have others give way, if that makes room. Return whether there is.

        Nobody gives way where that would not be enough.

        Args:
            caller: who sends it.
            body: what has just come, counted already.
        """
        if not self._memory.is_over:
            return True
        now = asyncio.get_running_loop().time()
        giving_way = self._giving_way(caller, body, now)
        for each in giving_way:
            each.gave_way = True
            each.body.lose("It gave way to others.")
            each.cut(now)
        return bool(giving_way)

    def _giving_way(self, caller: str, body: Body, now: float) -> list[Pending]:
        """Return who gives way for a body; nobody where that is not enough."""
        slow = self._slow(caller, now)
        held = self._held(caller, body)
        greedy = [(-held[name], name != caller, name) for name in slow]
        heapify(greedy)
        found: list[Pending] = []
        missing = self._memory.excess
        while missing > 0:
            size, is_other, name = greedy[0]
            theirs = slow[name]
            if is_other and not theirs:  # all else that it holds is under way
                heappop(greedy)
            elif not theirs or theirs[-1].body is body:
                return []
            else:
                slowest = theirs.pop()
                found.append(slowest)
                missing -= slowest.body.size
                heapreplace(greedy, (size + slowest.body.size, is_other, name))
        return found

    def _slow(self, caller: str, now: float) -> dict[str, list[Pending]]:
        """Return who may give way to a caller, by who sends it, the slowest last."""
        slow: dict[str, list[Pending]] = {caller: []}
        for each in self._pending:
            if each.caller != caller or (
                not each.body.is_whole and now - each.began > _YOUNG_S
            ):
                slow.setdefault(each.caller, []).append(each)
        for theirs in slow.values():
            theirs.sort(key=lambda each: each.rate(now), reverse=True)
        return slow

    def _held(self, caller: str, body: Body) -> Counter[str]:
        """Return how much memory each caller holds, exchanges under way included."""
        held = Counter({caller: body.size})
        for each in self._pending:
            if each.body is not body:
                held[each.caller] += each.body.size
        for account, (name, sent) in self.under_way.items():
            held[name] += account.held + sent.size
        return held


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


def check_body(body: Body, bounds: Bounds, caller: str, arriving: Arriving) -> None:
    """Check that what has come of a body may be held.

    Raises:
        RequestTooLarge: it is over the bound.
        Overloaded: there is no memory for it.
    """
    error: ExchangeError
    if body.size > bounds.max_body_bytes:
        error = _too_large(bounds)
    elif not arriving.make_room(caller, body):
        error = _no_memory()
    else:
        return
    body.lose("It is refused.")
    raise error


async def read_body(
    request: Request, bounds: Bounds, pending: Pending, arriving: Arriving
) -> None:
    """Wait until a body is whole.

    Raises:
        InvalidRequest: it cannot become whole.
        RequestTooLarge: it is over the bound.
        Overloaded: there is no memory for it.
        TimeoutError: see `Arriving.one`.
    """
    body = request.body
    length = (request.only("Content-Length") or "").lstrip("0")  # which int() counts
    if int(length or 0) > bounds.max_body_bytes:
        raise _too_large(bounds)
    _continue(request)
    while not body.is_whole:
        await body.more()
        if pending.gave_way:
            raise _no_memory()
        if body.problem:
            msg = "The body did not arrive whole."
            raise InvalidRequest(msg)
        check_body(body, bounds, pending.caller, arriving)
    pending.deadline.reschedule(None)


def too_late(pending: Pending, arriving: Arriving, bounds: Bounds) -> ExchangeError:
    """Return what to say of a request that `Arriving.one` did not wait for."""
    if pending.gave_way:
        return _no_memory()
    if arriving.over:
        msg = "The gateway ends, and the body had not arrived. Send it again."
        return Overloaded(msg)
    msg = f"The body took over {bounds.body_timeout_s:g} s to arrive."
    return InvalidRequest(msg)


def _no_memory() -> Overloaded:
    return Overloaded(
        "The bodies in memory are as large as they may be together "
        "(inbound.max_buffered_bytes). Send again later."
    )


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
