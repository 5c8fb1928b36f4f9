"""AlipayHK over HTTP: sends the signed bytes once and reads the whole answer.

Invariants: one fixed origin, no redirect is followed, no cookie kept, no proxy
taken from the environment, no body decompressed, TLS always verified. Whether a
byte of the request went out is known, so that `not_sent` is never a guess.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from typing import Final, NoReturn

import aiohttp
from aiohttp.abc import AbstractStreamWriter, ResolveResult
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from yarl import URL

from gateway.access.admission import Loan, Quota
from gateway.edge.parser import READ_BYTES, pieces_of
from gateway.edge.reasons import reason_of
from gateway.errors import (
    ExchangeError,
    ResponseMalformed,
    ResponseTooLarge,
    UpstreamDisconnected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.protocol import Headers, ReceivedResponse, SignedMessage

_MAX_HEADER_BYTES: Final = 8190
_KEEPALIVE_S: Final = 15.0
_DNS_S: Final = 10
_ATTEMPTS: Final = 2
"""The second one only where a connection died before a byte was written."""

_NO_CONNECTION: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""None was made, so none died: whoever does not answer is not asked twice."""

_FRAMING: Final = ("content-length", "transfer-encoding", "content-encoding")
_OUR_HEADERS: Final = (
    ("Accept-Encoding", "identity"),
    ("User-Agent", "alipayhk-gateway"),
)


class HttpUpstream:
    """One AlipayHK host. Implements the relay's `Upstream`.

    Args:
        origin: scheme and host, such as `https://open.alipay.hk`.
        session: from `open_session`.
        memory: the bytes of bodies that may be held. An answer waits for room, as
            refusing it would lose it; so that none waits for ever, one at a time
            may go over the limit.
        max_response_bytes: the greatest body that is read.
        first_byte_timeout_s: how long AlipayHK may take to begin its answer; None
            leaves that to the deadline.
    """

    def __init__(
        self,
        origin: str,
        session: aiohttp.ClientSession,
        memory: Quota,
        *,
        max_response_bytes: int,
        first_byte_timeout_s: float | None = None,
    ) -> None:
        self._origin = origin
        self._session = session
        self._memory = memory
        self._max_response_bytes = max_response_bytes
        self._first_byte_timeout_s = first_byte_timeout_s

    async def send(
        self, request: SignedMessage, *, timeout_s: float
    ) -> ReceivedResponse:
        """Send the request and wait for the whole answer; see `Upstream.send`."""
        body = _Body(request.body)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._attempts(request, body)
        except TimeoutError:
            if not body.written:
                msg = "No connection to AlipayHK within the route's deadline."
                raise UpstreamUnavailable(msg) from None
            msg = f"No whole answer within the route's deadline of {timeout_s:g} s."
            raise UpstreamTimeout(msg) from None

    async def _attempts(
        self, request: SignedMessage, body: "_Body"
    ) -> ReceivedResponse:
        for left in reversed(range(_ATTEMPTS)):
            try:
                return await self._attempt(request, body)
            except aiohttp.ClientError as error:
                died = not isinstance(error, _NO_CONNECTION)
                if left and died and not body.written:
                    continue
                _translate(error, written=body.written)
        raise AssertionError

    async def _attempt(self, request: SignedMessage, body: "_Body") -> ReceivedResponse:
        async with await self._begin(request, body) as response:
            if not body.written:
                # aiohttp hands over what stood on the connection before it writes.
                response.close()
                msg = "an answer stood on the connection before the request"
                raise aiohttp.ClientConnectionResetError(msg)
            headers = [
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in response.raw_headers
            ]
            _check_status_line(response)
            _check_framing(headers)
            return ReceivedResponse(
                response.status, headers, await self._read(response)
            )

    async def _begin(
        self, request: SignedMessage, body: "_Body"
    ) -> aiohttp.ClientResponse:
        """Send the request, and wait for the answer's head."""
        asked = self._session.post(
            URL(self._origin + request.target, encoded=True),
            data=body,
            headers=CIMultiDict((*_OUR_HEADERS, *request.headers)),
            allow_redirects=False,
        )
        if self._first_byte_timeout_s is None:
            return await asked
        waiting = asyncio.timeout(None)
        try:
            async with waiting:
                body.on_written = partial(
                    _begin_waiting, waiting, self._first_byte_timeout_s
                )
                return await asked
        except TimeoutError:
            if not waiting.expired():
                raise
            msg = (
                f"No answer began within {self._first_byte_timeout_s:g} s "
                "(clients[].first_byte_timeout_s)."
            )
            raise UpstreamTimeout(msg) from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        declared = response.content_length or 0
        chunks: list[bytes] = []
        size = 0
        if declared <= self._max_response_bytes:
            with Loan(self._memory) as loan:
                async for chunk in response.content.iter_any():
                    size += len(chunk)
                    if size > self._max_response_bytes:
                        break
                    await loan.take(len(chunk))
                    chunks.append(chunk)
        if max(size, declared) > self._max_response_bytes:
            response.close()
            msg = (
                f"The answer is over {self._max_response_bytes} bytes "
                "(max_response_bytes)."
            )
            raise ResponseTooLarge(msg)
        return b"".join(chunks)


class _Body(aiohttp.Payload):
    """The signed bytes, which know whether they were written.

    aiohttp holds the headers back and writes them together with the body's first
    bytes, so this is the moment before which AlipayHK has seen nothing.
    """

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self._size = len(body)
        self.written = False
        self.on_written: Callable[[], None] = _nothing

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,  # noqa: ARG002 - always the whole body
    ) -> None:
        transport = writer.transport
        if transport is None or transport.is_closing() or _is_spoiled(transport):
            msg = "the pooled connection is not fit for another request"
            raise aiohttp.ClientConnectionResetError(msg)
        self.written = True
        for piece in pieces_of(self._value):
            await writer.write(piece)
        self.on_written()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Never: bodies are bytes."""
        raise NotImplementedError


@asynccontextmanager
async def open_session(
    *, tls: ssl.SSLContext, connect_timeout_s: float, public_only: bool = False
) -> AsyncIterator[aiohttp.ClientSession]:
    """Open a pool of keep-alive connections; closes them at the end.

    A name is looked up anew every ten seconds; of several addresses each is tried.

    Args:
        tls: from `gateway.edge.tls`.
        connect_timeout_s: for one connection, name look-up and handshake included.
        public_only: connect to addresses of the public internet alone, so that no
            name server can send requests into our own network.
    """
    connector = aiohttp.TCPConnector(
        limit=0,
        ssl=tls,
        keepalive_timeout=_KEEPALIVE_S,
        ttl_dns_cache=_DNS_S,
        resolver=_PublicResolver() if public_only else None,
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout_s),
        auto_decompress=False,
        trust_env=False,
        max_line_size=_MAX_HEADER_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
        read_bufsize=READ_BYTES,
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
    ) as session:
        yield session


class _PublicResolver(aiohttp.ThreadedResolver):
    """Looks names up, and takes addresses of the public internet alone."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        public = [each for each in found if ip_address(each["host"]).is_global]
        if not public:
            msg = "the name has no public address (clients[].public_addresses_only)"
            raise OSError(None, msg)
        return public


def _begin_waiting(waiting: asyncio.Timeout, seconds: float) -> None:
    waiting.reschedule(asyncio.get_running_loop().time() + seconds)


def _nothing() -> None:
    """Be called, and do nothing."""


def _is_spoiled(transport: asyncio.WriteTransport) -> bool:
    """Tell whether bytes came before the request: they can be no answer to it.

    A connection that holds some would give this exchange the answer to another.
    """
    protocol = transport.get_protocol()
    return not isinstance(protocol, ResponseHandler) or protocol.should_close


def _check_status_line(response: aiohttp.ClientResponse) -> None:
    """Refuse what HTTP/1 does not have; aiohttp's parser is lenient here."""
    if response.version not in (aiohttp.HttpVersion10, aiohttp.HttpVersion11):
        msg = "The answer is not HTTP/1.1 or HTTP/1.0."
        raise ResponseMalformed(msg)
    if not 200 <= response.status <= 599:  # RFC 9110, 15
        msg = f"The answer's status is {response.status}, which ends no exchange."
        raise ResponseMalformed(msg)


def _check_framing(headers: Headers) -> None:
    """Refuse answers whose end or content two readers may see differently."""
    framing: dict[str, list[str]] = {name: [] for name in _FRAMING}
    for name, value in headers:
        if (lower := name.lower()) in framing:
            framing[lower].append(value.strip().lower())
    lengths, codings, encodings = framing.values()
    if len(lengths) + len(codings) > 1:
        msg = "The answer declares its length more than once."
        raise ResponseMalformed(msg)
    if codings not in ([], ["chunked"]):
        msg = "The answer's transfer coding is not plain chunks."
        raise ResponseMalformed(msg)
    if any(encoding not in ("", "identity") for encoding in encodings):
        msg = "The answer is compressed, which was not asked for."
        raise ResponseMalformed(msg)


def _translate(error: aiohttp.ClientError, *, written: bool) -> NoReturn:
    """Raise the taxonomy's word for an error of aiohttp's, without its text."""
    name = type(error).__name__
    if not written:
        msg = f"No connection to AlipayHK could be made ({_reason(error)})."
        raise UpstreamUnavailable(msg) from error
    raised: ExchangeError
    if isinstance(error, aiohttp.ClientResponseError):
        raised = ResponseMalformed("The answer is not HTTP as it must be.")
    else:
        msg = f"The connection ended before the answer was whole ({name})."
        raised = UpstreamDisconnected(msg)
    raise raised from error


def _reason(error: aiohttp.ClientError) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its TLS certificate does not verify"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "none within connect_timeout_s"
    if not isinstance(error, aiohttp.ClientConnectorError):
        return type(error).__name__
    return reason_of(error.os_error)
