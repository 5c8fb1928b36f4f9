"""Where services call: strict HTTP in, AlipayHK's answer or a problem out.

Nothing of a caller's headers goes further than this module: what AlipayHK gets is
made from the configuration, so that a caller cannot send it a Client-Id, a cookie
or a credential.
"""

import asyncio
import re
import traceback
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.web_request import BaseRequest

from gateway.edge.problems import problem
from gateway.errors import (
    ExchangeError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    Outcome,
    Overloaded,
    RequestTooLarge,
)
from gateway.events import ExchangeRecord, Observer
from gateway.protocol import Headers
from gateway.protocol.outgoing import check_target
from gateway.relay.exchange import Answer, Relay
from gateway.relay.ports import Clock, Entropy
from gateway.relay.routes import Call

_EXCHANGE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_OURS: Final = frozenset({"gateway-encrypt", "gateway-client", "gateway-exchange-id"})
_WISHES: Final = {"true": True, "false": False}
_PASSED_ON: Final = {
    "content-type": "Content-Type",
    "response-time": "Response-Time",
    "tracer-id": "Tracer-Id",
    "tracerid": "Tracer-Id",
    "trace-id": "Tracer-Id",
}
"""AlipayHK's headers that go back, and what they are called then (protocol.md 5)."""


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


class Inbound:
    """The handler of the inbound listener.

    Args:
        relay: carries out exchanges.
        limits: what is refused for its size, number or slowness.
        observer: is told of each exchange, also of those refused here.
        clock: for measuring.
        entropy: for the names of exchanges.
    """

    def __init__(
        self,
        relay: Relay,
        limits: Limits,
        observer: Observer,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.in_flight = 0
        self.draining = False
        self._relay = relay
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._entropy = entropy
        self._ended = asyncio.Event()

    def use(self, relay: Relay, limits: Limits) -> None:
        """Take these for requests from now on; those under way keep what they have."""
        self._relay, self._limits = relay, limits

    async def idle(self) -> None:
        """Wait until no exchange is under way."""
        while self.in_flight:
            self._ended.clear()
            await self._ended.wait()

    async def handle(self, request: BaseRequest) -> web.StreamResponse:
        """Answer one request. Never raises for what a caller or AlipayHK did."""
        record = ExchangeRecord(self._exchange_id(request))
        started = self._clock.monotonic()
        self.in_flight += 1
        try:
            response = await self._answer(request, record)
        finally:
            self.in_flight -= 1
            self._ended.set()
            record.seconds = self._clock.monotonic() - started
            self._observer(record)
        return response

    def refuse(self, detail: str) -> web.Response:
        """Answer what was not HTTP at all."""
        record = ExchangeRecord(self._entropy(16).hex())
        response = _failed(InvalidRequest(detail), record)
        response.force_close()
        self._observer(record)
        return response

    async def _answer(
        self, request: BaseRequest, record: ExchangeRecord
    ) -> web.Response:
        try:
            call = await self._read_call(request)
            record.request_bytes = len(call.body)
            response = _passed_on(await self._relay.exchange(call, record), record)
        except ExchangeError as error:
            response = _failed(error, record)
        except Exception as error:  # noqa: BLE001 - the last resort: fail closed
            record.error = _place_of(error)
            sent = record.upstream_seconds is not None
            outcome = Outcome.UNKNOWN if sent else Outcome.NOT_SENT
            msg = "A defect of the gateway; its log has the place."
            response = _failed(InternalError(msg, outcome), record)
        if self.draining or not request.content.is_eof():
            response.force_close()
        return response

    async def _read_call(self, request: BaseRequest) -> Call:
        if request.method != "POST":
            msg = "Every call of this gateway is a POST."
            raise MethodNotAllowed(msg)
        target = _target(request)
        _check_headers(request)
        if self.in_flight > self._limits.max_concurrent:
            msg = f"{self._limits.max_concurrent} exchanges are under way; send again later."
            raise Overloaded(msg)
        return Call(
            target,
            await self._read_body(request),
            client=_one(request, "Gateway-Client"),
            encrypt=_wish(request),
        )

    async def _read_body(self, request: BaseRequest) -> bytes:
        if (request.content_length or 0) > self._limits.max_body_bytes:
            raise self._too_large()
        await _continue(request)
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                async for chunk in request.content.iter_any():
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > self._limits.max_body_bytes:
                        raise self._too_large()
        except TimeoutError:
            msg = f"The body took over {self._limits.body_timeout_s:g} s to arrive."
            raise InvalidRequest(msg) from None
        except (web.RequestPayloadError, OSError) as error:
            msg = "The body did not arrive whole."
            raise InvalidRequest(msg) from error
        return b"".join(chunks)

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(
            f"The body is over {self._limits.max_body_bytes} bytes (inbound.max_body_bytes)."
        )

    def _exchange_id(self, request: BaseRequest) -> str:
        given = request.headers.getall("Gateway-Exchange-Id", [])
        if len(given) == 1 and _EXCHANGE_ID.fullmatch(given[0]):
            return given[0]
        return self._entropy(16).hex()


class InboundServer(web.Server):
    """aiohttp's low-level server, answering malformed HTTP with problems too."""

    def __init__(self, inbound: Inbound) -> None:
        # auto_decompress off: a body is the bytes that were sent.
        super().__init__(inbound.handle, access_log=None, auto_decompress=False)
        self.inbound = inbound

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of one connection."""
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """A connection whose parse errors are problems and leave no request in a log."""

    def handle_error(
        self,
        request: BaseRequest,  # noqa: ARG002 - aiohttp's signature
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,  # noqa: ARG002
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        assert isinstance(self._manager, InboundServer)  # noqa: S101
        detail = f"The request is not HTTP as it must be ({type(exc).__name__})."
        return self._manager.inbound.refuse(detail)

    def log_exception(self, *args: object, **kwargs: object) -> None:
        """Log nothing: the text of a parse error quotes the request."""


def _target(request: BaseRequest) -> str:
    try:
        return check_target(request.raw_path)
    except ValueError as error:
        msg = f"The request-target is not valid: {error}."
        raise InvalidRequest(msg) from None


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
    if codings and (codings != ["chunked"] or "Content-Length" in headers):
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
    if transport is not None:
        transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _passed_on(answer: Answer, record: ExchangeRecord) -> web.Response:
    headers = _chosen(answer.headers)
    headers["Gateway-Verified"] = "true" if answer.verified else "false"
    response = web.Response(status=answer.status, body=answer.body, headers=headers)
    record.tracer_id = headers.get("Tracer-Id")
    record.response_bytes = len(answer.body)
    return _finished(response, record)


def _chosen(headers: Headers) -> dict[str, str]:
    """Pick the headers that go back; of a repeated one, the first."""
    chosen: dict[str, str] = {}
    for name, value in headers:
        passed = _PASSED_ON.get(name.lower())
        if passed and value.isascii() and value.isprintable():
            chosen.setdefault(passed, value)
    return chosen


def _failed(error: ExchangeError, record: ExchangeRecord) -> web.Response:
    record.code, record.outcome = error.code, str(error.outcome)
    return _finished(problem(error, record.exchange_id), record)


def _finished(response: web.Response, record: ExchangeRecord) -> web.Response:
    response.headers["Gateway-Exchange-Id"] = record.exchange_id
    response.headers["Server"] = "alipayhk-gateway"
    record.status = response.status
    return response


def _place_of(error: Exception) -> str:
    """Name the class and the place of a defect, without its text or values."""
    frames = traceback.extract_tb(error.__traceback__)
    place = (
        f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    )
    return f"{type(error).__name__}{place}"
