"""One request of a service, read strictly: what is left is a `Call` or an error.

Nothing of a caller's headers goes further than this module: what AlipayHK gets is
made from the configuration, so a caller cannot send it a Client-Id, a cookie or a
credential.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.web_request import BaseRequest

from gateway.errors import InvalidRequest, Overloaded, RequestTooLarge
from gateway.relay.exchange import check_call_target
from gateway.relay.routes import Call

_OURS: Final = frozenset({"gateway-encrypt", "gateway-client", "gateway-exchange-id"})
_WISHES: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the inbound listener.

    Attributes:
        max_body_bytes: the greatest request body.
        max_concurrent: how many exchanges may be under way at once.
        body_timeout_s: how long a request's body may take to arrive.
    """

    max_body_bytes: int
    max_concurrent: int
    body_timeout_s: float

    @property
    def max_arriving_bytes(self) -> int:
        """How many bytes of bodies may be here before their requests are whole.

        As many as exchanges may hold: bytes and not bodies, so that who sends
        slowly, and has sent little, takes little from others.
        """
        return self.max_body_bytes * self.max_concurrent


class Arriving:
    """Counts the bytes of all bodies that are still arriving."""

    def __init__(self) -> None:
        self._held = 0

    @contextmanager
    def body(self, limits: Limits) -> Iterator[Callable[[bytes], None]]:
        """Give what counts each piece of one body, until the body is whole.

        Raises:
            Overloaded: of what it gives: there is no room for this piece.
        """
        mine = 0

        def count(piece: bytes) -> None:
            nonlocal mine
            if self._held + len(piece) > limits.max_arriving_bytes:
                msg = "Too many bodies are arriving at once; send again later."
                raise Overloaded(msg)
            mine += len(piece)
            self._held += len(piece)

        try:
            yield count
        finally:
            self._held -= mine


async def read_call(request: BaseRequest, limits: Limits, arriving: Arriving) -> Call:
    """Read a POST to its end.

    Raises:
        InvalidRequest: it is not HTTP as it must be, or has a reserved header.
        RequestTooLarge: its body is over the limit.
        Overloaded: too much of other bodies is here already.
    """
    target = check_call_target(request.raw_path)
    _check_headers(request)
    client, encrypt = _one(request, "Gateway-Client"), _wish(request)
    with arriving.body(limits) as count:
        body = await _read_body(request, limits, count)
    return Call(target, body, client, encrypt)


async def _read_body(
    request: BaseRequest, limits: Limits, count: Callable[[bytes], None]
) -> bytes:
    if (request.content_length or 0) > limits.max_body_bytes:
        raise _too_large(limits)
    await _continue(request)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            async for chunk in request.content.iter_any():
                chunks.append(chunk)
                size += len(chunk)
                if size > limits.max_body_bytes:
                    raise _too_large(limits)
                count(chunk)
    except TimeoutError:
        msg = f"The body took over {limits.body_timeout_s:g} s to arrive."
        raise InvalidRequest(msg) from None
    except (web.RequestPayloadError, OSError) as error:
        msg = "The body did not arrive whole."
        raise InvalidRequest(msg) from error
    return b"".join(chunks)


def _too_large(limits: Limits) -> RequestTooLarge:
    return RequestTooLarge(
        f"The body is over {limits.max_body_bytes} bytes (inbound.max_body_bytes)."
    )


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
