"""AlipayHK over HTTP: sends the signed bytes once and reads the whole answer.

Invariants: one fixed origin, no redirect is followed, no cookie kept, no proxy
taken from the environment, no body decompressed, TLS always verified. Whether a
byte of the request went out is known, so that `not_sent` is never a guess.
"""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NoReturn

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from yarl import URL

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
        max_response_bytes: the greatest body that is read.
    """

    def __init__(
        self, origin: str, session: aiohttp.ClientSession, max_response_bytes: int
    ) -> None:
        self._origin = origin
        self._session = session
        self._max_response_bytes = max_response_bytes

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
        async with self._session.post(
            URL(self._origin + request.target, encoded=True),
            data=body,
            headers=CIMultiDict((*_OUR_HEADERS, *request.headers)),
            allow_redirects=False,
        ) as response:
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

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        declared = response.content_length or 0
        chunks: list[bytes] = []
        size = 0
        if declared <= self._max_response_bytes:
            async for chunk in response.content.iter_any():
                chunks.append(chunk)
                size += len(chunk)
                if size > self._max_response_bytes:
                    break
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
        await writer.write(self._value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Never: bodies are bytes."""
        raise NotImplementedError


@asynccontextmanager
async def open_session(
    *, tls: ssl.SSLContext, connect_timeout_s: float
) -> AsyncIterator[aiohttp.ClientSession]:
    """Open a pool of keep-alive connections; closes them at the end.

    Args:
        tls: from `tls_context`.
        connect_timeout_s: for one connection, name look-up and handshake included.
    """
    connector = aiohttp.TCPConnector(
        limit=0, ssl=tls, keepalive_timeout=_KEEPALIVE_S, ttl_dns_cache=10
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout_s),
        auto_decompress=False,
        trust_env=False,
        max_line_size=_MAX_HEADER_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
    ) as session:
        yield session


def tls_context(
    ca_file: Path | None = None,
    certificate: Path | None = None,
    private_key: Path | None = None,
) -> ssl.SSLContext:
    """Make the TLS settings: the server is always verified, 1.2 at least.

    Not by `ssl.create_default_context`: that writes each connection's session keys
    to the file that SSLKEYLOGFILE names.

    Args:
        ca_file: authorities that replace the system's.
        certificate: what we show of ourselves, if anything.
        private_key: the certificate's.

    Raises:
        OSError: a file cannot be read, or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies, host names too
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if sys.version_info >= (3, 13):  # as strict as this Python's own default
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    if ca_file is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(ca_file)
    if certificate is not None:
        context.load_cert_chain(certificate, private_key)
    return context


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
