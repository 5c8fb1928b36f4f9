"""AlipayHK over HTTP, where tests/integration cannot reach: before the first byte."""

import asyncio
import gc
import socket
import ssl
import sys
from contextlib import ExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import replace

import pytest

from gateway.access.admission import Account, Quota
from gateway.edge import dial, pool
from gateway.edge.dial import Dial
from gateway.edge.outbound import Outbound
from gateway.edge.tls import client_context
from gateway.edge.upstream import HttpUpstream
from gateway.errors import (
    ExchangeError,
    Outcome,
    ResponseMalformed,
    UpstreamDisconnected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.relay.ports import UNCOUNTED
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


class SlowDial(Dial):
    """Gives a connection only once what its server does at once has been done."""

    async def __call__(self):
        connection = await super().__call__()
        await until_read()
        return connection


@asynccontextmanager
async def reaching(origin, *, connect_timeout_s=5.0, settled=False):
    calling = (SlowDial if settled else Dial)(
        origin, tls=client_context(), connect_timeout_s=connect_timeout_s
    )
    upstream = HttpUpstream(calling, max_response_bytes=1000)
    try:
        yield upstream
    finally:
        upstream.close()


async def send(upstream, timeout_s=5.0, memory=UNCOUNTED, on_write=lambda: None):
    return await upstream.send(
        peer.sent_request(), timeout_s=timeout_s, memory=memory, on_write=on_write
    )


# --- what was written ---------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "ends"),
    [(ANSWER, None), (b"nonsense\r\n\r\n", ResponseMalformed), (None, UpstreamTimeout)],
    ids=["answered", "answered wrongly", "not answered"],
)
async def test_a_write_is_told_once_however_it_ends(answer, ends):
    told = []
    async with (
        Server(answer).running() as server,
        reaching(f"http://127.0.0.1:{server.port}") as upstream,
    ):
        with nullcontext() if ends is None else pytest.raises(ends):
            await send(upstream, 0.5, on_write=lambda: told.append(1))
    assert told == [1]


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_write_is_told_where_no_connection_is_made(scheme):
    """Nobody listens, or somebody who does not shake hands."""
    told = []
    async with Server(None).running() as server:
        port = 1 if scheme == "http" else server.port
        async with reaching(f"{scheme}://127.0.0.1:{port}") as upstream:
            with pytest.raises(UpstreamUnavailable):
                await send(upstream, 0.1, on_write=lambda: told.append(1))
    assert told == []


# --- no connection -----------------------------------------------------------


async def test_a_deadline_that_passes_while_connecting_is_not_sent():
    async with (
        Server(None).running() as server,
        reaching(f"https://127.0.0.1:{server.port}") as upstream,
    ):
        with pytest.raises(UpstreamUnavailable, match="in time") as caught:
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
    reach = dial._reach

    async def noted(address):
        asked.append(address)
        return await reach(address)

    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            other = waiting.enter_context(socket.socket())
            other.settimeout(0)
            other.connect_ex(full.getsockname())
        monkeypatch.setattr(dial, "_reach", noted)
        origin = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with reaching(origin, connect_timeout_s=0.1) as upstream:
            with pytest.raises(
                UpstreamUnavailable, match="connect_timeout_s"
            ) as caught:
                await send(upstream)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert len(asked) == 1


async def test_a_name_that_does_not_resolve_is_told_in_words(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
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


class Door(Server):
    """A server whose connections do what a test says, one after the other.

    "answer": answers each request; "be silent": reads them; "close": closes at once; "greet": speaks first and
    goes on waiting; "hang up": reads a request, then closes.
    """

    def __init__(self, *manners):
        super().__init__(ANSWER)
        self._manners = iter(manners)
        self.requests = 0

    async def serve(self, reader, writer):
        self.connections += 1
        self._writers.append(writer)
        manner = next(self._manners)
        if manner == "close":
            writer.close()
        if manner == "greet":
            writer.write(ANSWER)
        while manner in ("answer", "hang up", "be silent"):
            try:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(len(peer.sent_request().body))
            except asyncio.IncompleteReadError:
                return
            self.requests += 1
            if manner == "hang up":
                writer.close()
                return
            if manner == "answer":
                writer.write(ANSWER)


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a socket's other end tells nobody
            await asyncio.sleep(0.001)


async def until_read():
    """Let whatever stands on loopback's sockets be read."""
    for _ in range(20):
        await asyncio.sleep(0.002)


async def test_a_connection_is_used_again():
    async with (
        Door("answer").running() as server,
        reaching(f"http://127.0.0.1:{server.port}") as upstream,
    ):
        for _ in range(3):
            assert (await send(upstream)).body == b"{}"
    assert (server.connections, server.requests) == (1, 3)


@pytest.mark.parametrize("read", [True, False], ids=["its end was read", "not yet"])
async def test_a_pooled_connection_that_ended_is_replaced(read):
    """Nothing was written to it, so nothing is unknown."""
    async with (
        Door("answer", "answer").running() as server,
        reaching(f"http://127.0.0.1:{server.port}") as upstream,
    ):
        await send(upstream)
        server._writers[0].close()
        if read:
            await until_read()
        else:
            await server._writers[0].wait_closed()
        assert (await send(upstream)).body == b"{}"
    assert (server.connections, server.requests) == (2, 2)


@pytest.mark.parametrize("read", [True, False], ids=["it was read", "not yet"])
async def test_an_answer_that_nobody_asked_for_is_nobodys(read):
    async with (
        Door("answer", "answer").running() as server,
        reaching(f"http://127.0.0.1:{server.port}") as upstream,
    ):
        await send(upstream)
        server._writers[0].write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nSTRAY")
        if read:
            await until_read()
        assert (await send(upstream)).body == b"{}"
    assert server.connections == 2


async def test_a_connection_that_dies_before_a_byte_is_replaced_once():
    for manners, connections in (
        (("close", "answer"), 2),
        (("greet", "answer"), 2),
    ):
        async with (
            Door(*manners).running() as server,
            reaching(f"http://127.0.0.1:{server.port}", settled=True) as upstream,
        ):
            assert (await send(upstream)).body == b"{}"
            assert server.connections == connections
    async with (
        Door("close", "greet").running() as server,
        reaching(f"http://127.0.0.1:{server.port}", settled=True) as upstream,
    ):
        with pytest.raises(UpstreamUnavailable, match="closed at once") as caught:
            await send(upstream)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert server.connections == 2


async def test_what_may_have_been_sent_is_never_sent_again():
    async with (
        Door("hang up", "answer").running() as server,
        reaching(f"http://127.0.0.1:{server.port}") as upstream,
    ):
        with pytest.raises(UpstreamDisconnected) as caught:
            await send(upstream)
    assert caught.value.outcome is Outcome.UNKNOWN
    assert (server.connections, server.requests) == (1, 1)


async def test_a_host_that_refuses_connections_is_not_asked_twice(monkeypatch):
    asked = []
    reach = dial._reach

    async def noted(address):
        asked.append(address)
        return await reach(address)

    monkeypatch.setattr(dial, "_reach", noted)
    async with Server(None).running() as server:
        pass
    async with reaching(f"http://127.0.0.1:{server.port}") as upstream:
        with pytest.raises(UpstreamUnavailable, match="Connection refused"):
            await send(upstream)
    assert len(asked) == 1


async def test_whoever_gives_up_leaves_no_connection_behind():
    """An answer that still comes must not be given to the next."""
    async with (
        Door("be silent", "answer").running() as server,
        reaching(f"http://127.0.0.1:{server.port}") as upstream,
    ):
        asking = asyncio.ensure_future(send(upstream))
        await until(lambda: server.requests)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert upstream._pool._idle == []
        assert (await send(upstream)).body == b"{}"


async def test_old_connections_are_ended(monkeypatch):
    monkeypatch.setattr(pool, "_KEEPALIVE_S", 0.05)
    async with (
        Door("answer", "answer").running() as server,
        reaching(f"http://127.0.0.1:{server.port}") as upstream,
    ):
        await send(upstream)
        (idle,) = upstream._pool._idle
        await until(lambda: not upstream._pool._idle)
        assert not idle.is_fit
        await send(upstream)
    assert server.connections == 2


async def test_a_closed_pool_keeps_nothing():
    async with (
        Door("answer").running() as server,
        reaching(f"http://127.0.0.1:{server.port}") as upstream,
    ):
        asking = asyncio.ensure_future(send(upstream))
        await until(lambda: server.connections)
        upstream.close()
        assert (await asking).body == b"{}"
        assert upstream._pool._idle == []


def soon():
    return asyncio.get_running_loop().time() + 5.0


class Eager:
    """A connection whose other side answers before a write returns."""

    def __init__(self, answers):
        self.connection = Outbound()
        self._answers = iter(answers)
        self.ours, self.theirs = socket.socketpair()
        self.connection.connection_made(self)

    def get_extra_info(self, _):
        return self.ours

    def set_write_buffer_limits(self, _):
        pass

    def is_closing(self):
        return False

    def write(self, _):
        self.connection.data_received(next(self._answers, b""))

    def close(self):
        self.ours.close()
        self.theirs.close()


async def test_an_answer_that_is_there_already_is_waited_for_no_more():
    """Else the clock of this exchange would end the next on the same connection."""
    eager = Eager([ANSWER])
    account = Account(Quota(100))
    await eager.connection.ask((b"head", b"body"), 100, account, soon(), 0.01)
    assert eager.connection.is_reusable
    assert eager.connection._alarm._at is None
    eager.close()


async def test_an_answer_that_comes_before_a_large_body_was_taken_ends_the_connection():
    eager = Eager([b"", ANSWER])
    account = Account(Quota(100))
    message = b"head", b"x" * 500_000
    answer = await eager.connection.ask(message, 100, account, soon())
    assert answer.body == b"{}"
    assert not eager.connection.is_fit
    eager.close()


async def test_a_large_answer_before_a_large_body_was_taken_is_read_to_its_end():
    """Reading pauses while the body waits to be taken, and has to go on behind that."""
    answer = b"HTTP/1.1 413 X\r\nContent-Length: 300000\r\n\r\n" + b"y" * 300_000
    async with Server(answer).running() as server:
        connection = await Dial(
            f"http://127.0.0.1:{server.port}",
            tls=client_context(),
            connect_timeout_s=5,
        )()
        message = b"POST / HTTP/1.1\r\n\r\n", b"x" * (8 << 20)
        account = Account(Quota(1 << 30))
        got = await connection.ask(message, 1 << 20, account, soon())
        assert (got.status, len(got.body)) == (413, 300_000)
        connection.end()


async def test_a_deadline_that_rang_while_something_else_was_waited_for_is_heeded():
    """It rings once: whoever waits on behind it would wait for ever."""
    eager = Eager([])
    eager.write = lambda _: setattr(eager.connection, "_late", True)
    account = Account(Quota(100))
    asking = asyncio.ensure_future(
        eager.connection.ask((b"head", b"body"), 100, account, soon())
    )
    await asyncio.wait([asking], timeout=2)
    assert asking.done()
    assert isinstance(asking.exception(), TimeoutError)
    eager.close()


async def test_a_deadline_in_the_turn_of_the_last_byte_ends_neither_this_nor_the_next():
    """Else the next request on the connection would be sent, and told as a timeout."""
    eager = Eager([])
    connection, loop = eager.connection, asyncio.get_running_loop()

    def come_late():
        while loop.time() < deadline:
            pass
        connection.data_received(ANSWER)
        connection._lose_patience()  # as the loop does behind it, in the same turn

    account = Account(Quota(100))
    deadline = loop.time() + 0.05
    loop.call_at(deadline - 0.02, come_late)
    first = await connection.ask((b"head", b"body"), 100, account, deadline)
    assert first.body == b"{}"
    assert connection.is_reusable
    loop.call_soon(connection.data_received, ANSWER)
    second = await connection.ask((b"head", b"body"), 100, account, soon())
    assert second.body == b"{}"
    eager.close()


@pytest.mark.parametrize(
    "answer", [b"nonsense\r\n\r\n", b"", ANSWER[:-1], None], ids=str
)
async def test_an_exchange_that_failed_keeps_no_body(answer):
    """Not even until garbage is looked for, which is seldom."""
    draft = peer.sent_request().draft
    body = b"x" * 1000
    request = replace(peer.sent_request(), draft=replace(draft, body=body))
    before = sys.getrefcount(body)

    async def fail():
        with pytest.raises(ExchangeError):
            await upstream.send(
                request, timeout_s=0.1, memory=UNCOUNTED, on_write=lambda: None
            )

    class Cutting(Server):
        async def serve(self, reader, writer):
            await super().serve(reader, writer)
            if answer is not None:
                writer.close()

    gc.collect()
    gc.disable()
    try:
        async with (
            Cutting(answer).running() as server,
            reaching(f"http://127.0.0.1:{server.port}") as upstream,
        ):
            await fail()
            await until_read()
            assert sys.getrefcount(body) == before
    finally:
        gc.enable()


async def test_a_deadline_passes_also_while_a_large_body_is_not_taken():
    """AlipayHK may have read the head and acted: the outcome is unknown."""
    draft = peer.sent_request().draft
    large = replace(peer.sent_request(), draft=replace(draft, body=b"x" * (16 << 20)))
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        async with reaching(f"http://127.0.0.1:{deaf.getsockname()[1]}") as upstream:
            with pytest.raises(UpstreamTimeout, match="in time") as caught:
                await upstream.send(
                    large, timeout_s=0.2, memory=UNCOUNTED, on_write=lambda: None
                )
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_one_step_writes_the_head_and_the_body():
    async with (
        Server(ANSWER).running() as server,
        reaching(f"http://127.0.0.1:{server.port}") as upstream,
    ):
        await send(upstream)
    head, _, _ = server.received.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    request = peer.sent_request()
    assert line == f"POST {request.target} HTTP/1.1"
    assert fields == [
        f"Host: 127.0.0.1:{server.port}",
        "Accept-Encoding: identity",
        "User-Agent: alipayhk-gateway",
        *(f"{name}: {value}" for name, value in request.headers),
        f"Content-Length: {len(request.body)}",
    ]


async def test_a_large_body_waits_for_its_place_in_memory():
    body = b"x" * 900_000
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    memory = Quota(1 << 20)
    async with Server(answer).running() as server:
        upstream = HttpUpstream(
            Dial(
                f"http://127.0.0.1:{server.port}",
                tls=client_context(),
                connect_timeout_s=5,
            ),
            max_response_bytes=1 << 20,
        )
        other, account = Account(memory), Account(memory)
        other.add(2 << 20)
        await other.room()  # it is the one that may exceed the limit
        asking = asyncio.ensure_future(send(upstream, memory=account))
        await until(lambda: memory.waiting)
        await until_read()
        assert account.held <= 1 << 17
        other.keep(0)
        assert (await asking).body == body
        assert len(body) <= memory.taken == account.held <= len(body) + 100
        upstream.close()


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


# --- how long a connection serves --------------------------------------------


@asynccontextmanager
async def keeping(answer, **more):
    """Reach a host that answers everything on each of its connections."""

    class Keeping(Door):
        async def serve(self, reader, writer):
            self.connections += 1
            self._writers.append(writer)
            with suppress(asyncio.IncompleteReadError):
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    await reader.readexactly(len(peer.sent_request().body))
                    writer.write(answer)

    async with Keeping().running() as server:
        calling = Dial(
            f"http://127.0.0.1:{server.port}", tls=client_context(), connect_timeout_s=5
        )
        upstream = HttpUpstream(calling, max_response_bytes=99, **more)
        try:
            yield server, upstream
        finally:
            upstream.close()


def ahead(monkeypatch, seconds):
    """Put the loop's clock ahead."""
    loop = asyncio.get_running_loop()
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + seconds)


async def test_a_connection_is_replaced_at_its_greatest_age_under_steady_traffic(
    monkeypatch,
):
    async with keeping(ANSWER, max_connection_age_s=300.0) as (server, upstream):
        for _ in range(5):
            await send(upstream)
        assert server.connections == 1
        for age, connections in ((200, 1), (226, 2), (300, 2), (452, 3)):
            with monkeypatch.context() as patch:
                ahead(patch, age)
                for kept in upstream._pool._idle:
                    kept.idle_until = kept.fresh_until  # it was never idle for long
                await send(upstream)
            assert server.connections == connections


async def test_connections_that_were_made_together_end_apart():
    ages = iter([b"\x00", b"\x80", b"\xff"])
    door = keeping(ANSWER, max_connection_age_s=100.0, entropy=lambda _: next(ages))
    async with door as (_, upstream):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(send(upstream))
        now = asyncio.get_running_loop().time()
        left = sorted(round(each.fresh_until - now) for each in upstream._pool._idle)
    assert left == [75, 88, 100]


@pytest.mark.parametrize(
    ("header", "kept_s"),
    [
        ("timeout=5, max=100", 4.0),
        ("max=100, Timeout = 5", 4.0),
        ('timeout="5"', 4.0),
        ("timeout=1", 0.5),
        ("timeout=0", None),
        ("timeout=60", 15.0),
        ("max=5", 15.0),
        ("timeout=soon", 15.0),
        ("mytimeout=1", 15.0),
        ("timeout=" + "9" * 9, 15.0),
    ],
)
async def test_a_connection_is_not_used_beyond_what_the_other_side_keeps_it_for(
    header, kept_s
):
    """A request that meets the other side's end of it would be of unknown outcome."""
    answer = ANSWER.replace(b"\r\n\r\n", f"\r\nKeep-Alive: {header}\r\n\r\n".encode())
    async with keeping(answer) as (_, upstream):
        await send(upstream)
        idle = upstream._pool._idle
        if kept_s is None:
            assert idle == []
        else:
            left = idle[0].idle_until - asyncio.get_running_loop().time()
            assert left == pytest.approx(kept_s, abs=0.4)


async def test_one_that_is_kept_for_too_short_is_replaced(monkeypatch):
    answer = ANSWER.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=5\r\n\r\n")
    async with keeping(answer) as (server, upstream):
        await send(upstream)
        with monkeypatch.context() as patch:
            ahead(patch, 3.0)
            await send(upstream)
            assert server.connections == 1
            ahead(patch, 4.0)
            await send(upstream)
        assert server.connections == 2
