"""One request of a service, read strictly: what is left is a `Call` or an error.

Nothing of a caller's headers goes further than this module: what AlipayHK gets is
made from the configuration, so a caller cannot send it a Client-Id, a cookie or a
credential.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.web_request import BaseRequest

from gateway.access.admission import Quota
from gateway.access.callers import Credentials
from gateway.edge.connection import names_shown
from gateway.errors import InvalidRequest, Overloaded, RequestTooLarge
from gateway.relay.exchange import check_call_target

_OURS: Final = frozenset(
    {"gateway-encrypt", "gateway-client", "gateway-exchange-id", "gateway-timeout"}
)
_WISHES: Final = {"true": True, "false": False}
_SECONDS: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of one request.

    Attributes:
        max_header_bytes: the greatest head: request line and headers together.
        max_body_bytes: the greatest body.
        body_timeout_s: how long a body may take to arrive.
        write_timeout_s: how long the caller may take to read its answer.
    """

    max_header_bytes: int
    max_body_bytes: int
    body_timeout_s: float
    write_timeout_s: float


@dataclass(frozen=True, slots=True)
class Head:
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


def credentials_of(request: BaseRequest) -> Credentials:
    """Give what a request shows of its sender."""
    authorization = tuple(request.headers.getall("Authorization", ()))
    return Credentials(authorization, names_shown(request))


def read_head(request: BaseRequest, bounds: Bounds) -> Head:
    """Read all but the body, strictly.

    Raises:
        InvalidRequest: it is not HTTP as it must be, or has a reserved header.
    """
    target = check_call_target(request.raw_path)
    _check_size(request, bounds)
    _check_headers(request)
    client, encrypt = _one(request, "Gateway-Client"), _wish(request)
    return Head(target, client, encrypt, _timeout(request))


@asynccontextmanager
async def body_of(
    request: BaseRequest, bounds: Bounds, memory: Quota, arriving: Arriving
) -> AsyncIterator[bytes]:
    """Read a body to its end; its bytes count against `memory` while the block runs.

    They count piece by piece, so that who sends slowly, and has sent little, takes
    little from others.

    Raises:
        InvalidRequest: it did not arrive whole, or in time.
        RequestTooLarge: it is over the bound.
        Overloaded: there is no memory for it, or the gateway ends.
    """
    if (request.content_length or 0) > bounds.max_body_bytes:
        raise _too_large(bounds)
    await _continue(request)
    pieces: list[bytes] = []
    size = 0
    try:
        try:
            async with arriving.one(bounds.body_timeout_s):
                async for piece in request.content.iter_any():
                    _check_room(memory, size + len(piece), len(piece), bounds)
                    memory.add(len(piece))
                    size += len(piece)
                    pieces.append(piece)
        except TimeoutError:
            if arriving.over:
                msg = "The gateway ends, and the body had not arrived. Send it again."
                raise Overloaded(msg) from None
            msg = f"The body took over {bounds.body_timeout_s:g} s to arrive."
            raise InvalidRequest(msg) from None
        except (web.RequestPayloadError, OSError) as error:
            msg = "The body did not arrive whole."
            raise InvalidRequest(msg) from error
        body = b"".join(pieces)
        pieces.clear()  # else all of it would be there twice, to the exchange's end
        yield body
    finally:
        memory.give_back(size)


def _check_room(memory: Quota, size: int, piece: int, bounds: Bounds) -> None:
    if size > bounds.max_body_bytes:
        raise _too_large(bounds)
    if not memory.has(piece):
        msg = (
            "The bodies in memory are as large as they may be together "
            "(inbound.max_buffered_bytes). Send again later."
        )
        raise Overloaded(msg)


def _too_large(bounds: Bounds) -> RequestTooLarge:
    return RequestTooLarge(
        f"The body is over {bounds.max_body_bytes} bytes (inbound.max_body_bytes)."
    )


def _check_size(request: BaseRequest, bounds: Bounds) -> None:
    """Refuse a head over the bound; aiohttp bounds each line and their number."""
    size = len(request.raw_path) + sum(
        len(name) + len(value) + 4 for name, value in request.raw_headers
    )
    if size > bounds.max_header_bytes:
        msg = (
            f"The headers are over {bounds.max_header_bytes} bytes "
            "(inbound.max_header_bytes)."
        )
        raise InvalidRequest(msg)


def _check_headers(request: BaseRequest) -> None:
    """Refuse what another reader of the same bytes may understand otherwise."""
    headers = request.headers
    if request.version not in (HttpVersion10, HttpVersion11):
        msg = "Only HTTP/1.1 and HTTP/1.0 are spoken here."
        raise InvalidRequest(msg)
    if request.version == HttpVersion11 and len(headers.getall("Host", [])) != 1:
        msg = "One Host header is needed."
        raise InvalidRequest(msg)
    if "Upgrade" in headers:
        msg = "No other protocol is spoken here; leave Upgrade out."
        raise InvalidRequest(msg)
    codings = headers.getall("Transfer-Encoding", [])
    chunks = [coding.strip().lower() for coding in codings] == ["chunked"]
    if codings and (
        not chunks
        or "Content-Length" in headers
        or request.version == HttpVersion10  # RFC 9112, 6.1
    ):
        msg = "A body has a Content-Length, or is chunked, and nothing else."
        raise InvalidRequest(msg)
    if (_one(request, "Content-Encoding") or "identity").lower() != "identity":
        msg = "The body must be plain: the bytes that are signed are the bytes sent."
        raise InvalidRequest(msg)
    for name in headers:
        if name.lower().startswith("gateway-") and name.lower() not in _OURS:
            msg = "Headers that begin with Gateway- are reserved; one is not known."
            raise InvalidRequest(msg)


def _one(request: BaseRequest, name: str) -> str | None:
    values = request.headers.getall(name, [])
    if len(values) > 1:
        msg = f"The header {name} may occur once."
        raise InvalidRequest(msg)
    return values[0] if values else None


def _wish(request: BaseRequest) -> bool | None:
    text = _one(request, "Gateway-Encrypt")
    if text is None:
        return None
    wish = _WISHES.get(text.strip().lower())
    if wish is None:
        msg = "Gateway-Encrypt is true or false."
        raise InvalidRequest(msg)
    return wish


def _timeout(request: BaseRequest) -> float | None:
    text = _one(request, "Gateway-Timeout")
    if text is None:
        return None
    if not _SECONDS.fullmatch(text) or not float(text):
        msg = "Gateway-Timeout is seconds, such as 2.5."
        raise InvalidRequest(msg)
    return float(text)


async def _continue(request: BaseRequest) -> None:
    """Answer `Expect: 100-continue`, once it is known that the body is wanted."""
    expectation = _one(request, "Expect")
    if expectation is None:
        return
    if expectation.lower() != "100-continue":
        msg = "The only expectation that can be met is 100-continue."
        raise InvalidRequest(msg)
    transport = request.transport
    # HTTP/1.0 knows no interim answer, and would take it for the answer itself.
    if transport is not None and request.version != HttpVersion10:
        transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
