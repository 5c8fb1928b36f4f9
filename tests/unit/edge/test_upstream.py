"""AlipayHK over HTTP, where tests/integration cannot reach: before the first byte."""

import asyncio
import socket
import ssl
from contextlib import ExitStack, asynccontextmanager
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler

from gateway.access.admission import Quota
from gateway.edge.tls import client_context
from gateway.edge.upstream import HttpUpstream, _Body, _PublicResolver, open_session
from gateway.errors import (
    Outcome,
    ResponseMalformed,
    UpstreamDisconnected,
    UpstreamUnavailable,
)
from tests import peer

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Answers each connection's first bytes with the same bytes, or not at all."""

    def __init__(self, answer):
        self.connections = 0
        self.received = b""
        self.port = 0
        self._answer = answer
        self._writers = []

    async def serve(self, reader, writer):
        self.connections += 1
        self._writers.append(writer)
        if self._answer is not None:
            self.received += await reader.readuntil(b"\r\n\r\n")
            writer.write(self._answer)

    @asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self._writers:
                writer.close()


@asynccontextmanager
async def reaching(origin, *, connect_timeout_s=5.0):
    session = open_session(tls=client_context(), connect_timeout_s=connect_timeout_s)
    async with session as opened:
        yield HttpUpstream(origin, opened, Quota(1 << 20), max_response_bytes=1000)


async def send(upstream, timeout_s=5.0):
    return await upstream.send(peer.sent_request(), timeout_s=timeout_s)


# --- no connection -----------------------------------------------------------


async def test_a_deadline_that_passes_while_connecting_is_not_sent():
    async with (
        Server(None).running() as server,
        reaching(f"https://127.0.0.1:{server.port}") as upstream,
    ):
        with pytest.raises(UpstreamUnavailable, match="deadline") as caught:
            await send(upstream, 0.05)
    assert caught.value.outcome is Outcome.NOT_SENT


async def test_a_connection_that_takes_too_long_is_not_sent():
    async with (
        Server(None).running() as server,
        reaching(
            f"https://127.0.0.1:{server.port}", connect_timeout_s=0.05
        ) as upstream,
    ):
        with pytest.raises(UpstreamUnavailable, match="connect_timeout_s") as caught:
            await send(upstream)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert server.connections == 1, "it was tried again"


async def test_a_host_that_answers_no_connection_is_asked_once(monkeypatch):
    """Its queue of connections is full: the kernel drops whoever comes next."""
    asked = []
    connect = asyncio.get_running_loop().sock_connect

    async def noted(sock, address):
        asked.append(address)
        await connect(sock, address)

    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            other = waiting.enter_context(socket.socket())
            other.settimeout(0)
            other.connect_ex(full.getsockname())
        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", noted)
        origin = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with reaching(origin, connect_timeout_s=0.1) as upstream:
            with pytest.raises(
                UpstreamUnavailable, match="connect_timeout_s"
            ) as caught:
                await send(upstream)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert len(asked) == 1


async def test_a_name_that_does_not_resolve_is_told_in_words(monkeypatch):
    async def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    async with reaching("https://open.alipay.hk") as upstream:
        with pytest.raises(UpstreamUnavailable) as caught:
            await send(upstream)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert "Unknown error" not in caught.value.detail
    assert "Name or service not known" in caught.value.detail


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with (
        Server(ANSWER).running() as server,
        reaching(f"http://127.0.0.1:{server.port}") as upstream,
    ):
        assert (await send(upstream)).body == b"{}"


# --- what is sent again, and what is not -------------------------------------


class Session:
    """A session whose attempts end as the test says, after the body or before it."""

    def __init__(self, *attempts):
        self.bodies = []
        self._attempts = iter(attempts)

    async def post(self, url, *, data, headers, allow_redirects):
        assert allow_redirects is False
        self.bodies.append(data)
        error, written = next(self._attempts)
        data.written = data.written or written
        if error:
            raise error
        return Empty()


class Empty:
    """An answer without headers and body."""

    version = aiohttp.HttpVersion11
    status = 200
    raw_headers = ()
    content_length = 0

    @property
    def content(self):
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def iter_any(self):
        for chunk in ():
            yield chunk


DIED = aiohttp.ServerDisconnectedError()
REFUSED = aiohttp.ClientConnectorError(
    SimpleNamespace(host="h", port=1, ssl=None, is_ssl=False),
    OSError(111, "Connection refused"),
)


async def tried(*attempts):
    session = Session(*attempts)
    upstream = HttpUpstream("https://h", session, Quota(1 << 20), max_response_bytes=10)
    try:
        return await send(upstream), len(session.bodies)
    except (UpstreamUnavailable, UpstreamDisconnected) as error:
        return type(error), len(session.bodies)


async def test_a_pooled_connection_that_died_before_a_byte_is_replaced_once():
    answer, attempts = await tried((DIED, False), (None, True))
    assert (answer.status, attempts) == (200, 2)
    assert await tried((DIED, False), (DIED, False)) == (UpstreamUnavailable, 2)


async def test_what_may_have_been_sent_is_never_sent_again():
    assert await tried((DIED, True)) == (UpstreamDisconnected, 1)
    assert await tried((DIED, False), (DIED, True)) == (UpstreamDisconnected, 2)


async def test_a_host_that_refuses_connections_is_not_asked_twice():
    assert await tried((REFUSED, False)) == (UpstreamUnavailable, 1)


# --- the body knows whether it was written -----------------------------------


class Writer:
    def __init__(self, transport):
        self.transport = transport
        self.written = []

    async def write(self, data):
        self.written.append(data)


def transport(*, closing=False, spoiled=False):
    """A connection as it is taken from the pool; `spoiled`: with bytes that came."""
    protocol = ResponseHandler(asyncio.new_event_loop())
    protocol._loop.close()
    if spoiled:
        protocol.data_received(b"HTTP/1.1 200 OK\r\n")
    return SimpleNamespace(is_closing=lambda: closing, get_protocol=lambda: protocol)


async def test_a_body_that_was_written_says_so():
    for write in (_Body.write, lambda body, to: body.write_with_length(to, 1)):
        body, writer = _Body(b"{}"), Writer(transport(closing=False))
        assert body.written is False
        await write(body, writer)
        assert body.written is True
        assert writer.written == [b"{}"]


@pytest.mark.parametrize(
    "at",
    [None, transport(closing=True), transport(spoiled=True)],
    ids=["none", "closing", "with an answer that nobody asked for"],
)
async def test_a_body_is_not_written_to_a_connection_that_has_ended(at):
    body, writer = _Body(b"{}"), Writer(at)
    with pytest.raises(aiohttp.ClientConnectionResetError):
        await body.write(writer)
    assert body.written is False
    assert writer.written == []


def test_a_body_is_bytes_and_never_text():
    body = _Body("香".encode())
    assert body.size == 3
    with pytest.raises(NotImplementedError):
        body.decode()


# --- answers that end no exchange --------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "HTTP/1.1 101 Switching Protocols",
        "HTTP/1.1 099 X",
        "HTTP/1.1 600 X",
        "HTTP/1.1 999 X",
        "HTTP/2.0 200 OK",
        "HTTP/0.9 200 OK",
    ],
)
async def test_a_status_line_that_http_1_does_not_have_ends_no_exchange(line):
    answer = f"{line}\r\nContent-Length: 0\r\n\r\n".encode()
    async with (
        Server(answer).running() as server,
        reaching(f"http://127.0.0.1:{server.port}") as upstream,
    ):
        with pytest.raises(ResponseMalformed):
            await send(upstream)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status):
    async with Server(ANSWER).running() as other:
        answer = (
            f"HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:{other.port}/\r\n"
            "Content-Length: 2\r\n\r\n{}"
        ).encode()
        async with (
            Server(answer).running() as server,
            reaching(f"http://127.0.0.1:{server.port}") as upstream,
        ):
            received = await send(upstream)
    assert (received.status, received.body) == (status, b"{}")
    assert other.connections == 0


# --- TLS ---------------------------------------------------------------------


def test_tls_always_verifies_and_is_1_2_at_least():
    context = client_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname is True
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_tls_file_that_cannot_be_used_is_an_os_error(tmp_path):
    (tmp_path / "no.pem").write_text("no PEM")
    for files in (
        {"ca_file": tmp_path / "none"},
        {"ca_file": tmp_path / "no.pem"},
        {"certificate": tmp_path / "no.pem", "private_key": tmp_path / "no.pem"},
    ):
        with pytest.raises(OSError, match=r"."):
            client_context(**files)


@pytest.mark.parametrize(
    ("found", "taken"),
    [
        (["10.0.0.1", "8.8.8.8"], ["8.8.8.8"]),
        (["2001:4860:4860::8888", "fd00::1"], ["2001:4860:4860::8888"]),
        (["127.0.0.1", "169.254.169.254", "192.168.0.1", "::1"], []),
    ],
)
async def test_where_only_public_addresses_are_taken_no_other_is(
    monkeypatch, found, taken
):
    async def look_up(*_, **__):
        return [{"host": each} for each in found]

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", look_up)
    resolver = _PublicResolver()
    if taken:
        assert [each["host"] for each in await resolver.resolve("a")] == taken
    else:
        with pytest.raises(OSError, match="public_addresses_only"):
            await resolver.resolve("a")
