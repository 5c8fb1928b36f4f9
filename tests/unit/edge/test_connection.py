"""The server of our own, on real sockets and both loops: what no caller may do to it."""

import asyncio
import contextlib
import gc
import socket
import ssl
import struct
import tracemalloc
import weakref
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from gateway.edge import connection
from gateway.edge.connection import Server
from gateway.edge.listener import listening
from gateway.edge.response import Response
from gateway.edge.tls import server_context
from tests.hostile.wire import Line, answers_in, reset, turns
from tests.integration.pki import LOCALHOST, Authority


class Desk:
    """A handler that reads bodies and says what each request was."""

    def __init__(self):
        self.seen = []
        self.delivered = []
        self.raised = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.sizes = {}
        self.patience_s = 0.3

    async def handle(self, request):
        if request.target == "/unread":
            await self._give(request, Response(body=b"unread"))
            return
        if "Expect" in request.fields:
            request.wire.interim(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (request.body.is_whole or request.body.problem):
            await request.body.more()
        body = request.body.whole()
        self.seen.append((request.target, len(body)))
        await self.gate.wait()
        if request.body.problem:
            await self._give(request, Response(status=400))
            return
        size = self.sizes.get(request.target, 0)
        name = request.target.encode()
        headers = {"X": "a\r\nB: c"} if request.target == "/spoiled" else {}
        answer = Response(body=name.ljust(size, b"x"), headers=headers)
        answer.closes = request.target == "/last"
        await self._give(request, answer)

    async def _give(self, request, answer):
        self.delivered.append(
            await request.wire.deliver(request, answer, self.patience_s)
        )

    def refuse(self, cause):
        self.seen.append((str(cause), None))
        return Response(status=400, body=b"refused")


@pytest.fixture
def desk():
    return Desk()


@pytest.fixture
async def errors():
    """What the loop is told of; a test that expects none looks, too."""
    told = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))
    return told


@asynccontextmanager
async def serving(desk, *, tls=None, **bounds):
    server = Server(desk.handle, desk.refuse, **bounds)
    async with listening(server, ("127.0.0.1", 0), setting="x", tls=tls) as listener:
        yield server, listener.port


def post(target, body=b"", *headers, line="POST {} HTTP/1.1"):
    lines = [line.format(target), "Host: g", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def names(data):
    answers, _, rest = answers_in(data)
    assert rest == b""
    return [each.body.rstrip(b"x").decode() for each in answers]


def caller(port, size=4096):
    """Give a socket that takes little, and says when it was cut off."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    sock.connect(("127.0.0.1", port))
    sock.settimeout(0)
    return sock


async def gone(server):
    async with asyncio.timeout(5):
        while server.connections:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


async def all_of(sock):
    """Read to the end, and tell whether it came by a reset."""
    loop, data = asyncio.get_running_loop(), b""
    async with asyncio.timeout(5):
        while True:
            try:
                piece = await loop.sock_recv(sock, 1 << 16)
            except ConnectionResetError:
                return data, True
            if not piece:
                return data, False
            data += piece


# --- one answer for each request, in order ------------------------------------------


async def test_an_answer_that_cannot_be_written_is_not_replaced_by_the_next(
    desk, errors
):
    """The second answer would be taken for the first one's."""
    async with serving(desk) as (_, port):
        line = await Line.to(port)
        line.write(post("/spoiled") + post("/b"))
        await line.until_end()
        assert line.data == b""
        assert desk.seen == [("/spoiled", 0)]
        assert ["ValueError" in repr(each["exception"]) for each in errors] == [True]
        line.close()


async def test_a_cut_connection_begins_none_of_those_that_wait(desk):
    """Its caller took too long to read the first answer, and hears of no other."""
    desk.sizes["/a"] = 8 << 20
    async with serving(desk) as (server, port):
        with caller(port) as sock:
            sock.sendall(post("/a") + post("/b"))
            await connections(server, 1)
            await gone(server)
        assert desk.seen == [("/a", 0)]
        assert desk.delivered == [False]


async def test_requests_behind_one_that_ends_its_connection_are_not_begun(desk):
    async with serving(desk) as (_, port):
        line = await Line.to(port)
        line.write(post("/a") + post("/last") + post("/b"))
        await line.until_end()
        assert names(line.data) == ["/a", "/last"]
        assert [target for target, _ in desk.seen] == ["/a", "/last"]
        line.close()


async def test_an_interim_answer_comes_behind_the_answer_before_it(desk):
    async with serving(desk) as (_, port):
        desk.gate.clear()
        line = await Line.to(port)
        line.write(post("/a") + post("/b", b"{}", "Expect: 100-continue"))
        await turns(10)
        assert line.data == b""
        desk.gate.set()
        await line.until_answers(2)
        first, _, second = bytes(line.data).partition(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert (names(first), names(second)) == (["/a"], ["/b"])
        line.close()


@pytest.mark.parametrize("each", [1000, 70_000, 300_000])
async def test_many_large_requests_at_once_are_all_read_and_answered(desk, each):
    async with serving(desk) as (_, port):
        line = await Line.to(port)
        targets = [f"/{n}" for n in range(40)]
        line.write(b"".join(post(target, b"x" * each) for target in targets))
        await line.until_answers(40)
        assert names(line.data) == targets
        assert desk.seen == [(target, each) for target in targets]
        line.close()


async def test_of_too_many_sent_ahead_the_last_that_is_taken_is_read_whole(desk):
    """And its answer says that it is the last; the others are to be sent again."""
    async with serving(desk) as (_, port):
        desk.gate.clear()
        line = await Line.to(port)
        most = connection._MOST_WAITING
        line.write(b"".join(post(f"/{n}") for n in range(most)))
        last = post(f"/{most}", b"x" * 200_000)
        line.write(last[:100])
        await seen(desk)
        await turns(10)
        line.write(last[100:] + post("/lost"))
        desk.gate.set()
        await line.until_end()
        assert names(line.data) == [f"/{n}" for n in range(most + 1)]
        answers, _, _ = answers_in(line.data)
        assert [n for n, a in enumerate(answers) if "connection" in a.headers] == [most]
        assert desk.seen[-1] == (f"/{most}", 200_000)
        line.close()


async def test_who_sends_far_too_many_ahead_gets_every_answer_and_no_reset(desk):
    """Closed on at once, it would lose answers of what was carried out."""
    async with serving(desk) as (server, port):
        desk.gate.clear()
        with caller(port, 1 << 20) as sock:
            loop = asyncio.get_running_loop()
            whole = b"".join(post(f"/{n}") for n in range(40_000))
            sending = asyncio.ensure_future(loop.sock_sendall(sock, whole))
            await turns(20)
            desk.gate.set()
            data, was_reset = await all_of(sock)
            await sending
            sock.shutdown(socket.SHUT_WR)
            await gone(server)
        assert not was_reset
        count = connection._MOST_WAITING + 1
        assert names(data) == [f"/{n}" for n in range(count)]


async def test_what_waits_is_answered_where_the_caller_closed_its_half(desk):
    async with serving(desk) as (server, port):
        desk.gate.clear()
        line = await Line.to(port)
        line.write(b"".join(post(f"/{n}", b"x" * 1000) for n in range(50)))
        line.half_close()
        await turns(10)
        desk.gate.set()
        await line.until_end()
        assert names(line.data) == [f"/{n}" for n in range(50)]
        await gone(server)
        line.close()


# --- answers larger than what is taken at once ---------------------------------------


async def test_a_large_answer_is_written_as_its_caller_takes_it(desk):
    desk.sizes["/a"] = 8 << 20
    desk.patience_s = 30
    async with serving(desk) as (server, port):
        with caller(port, 1 << 16) as sock:
            await asyncio.get_running_loop().sock_sendall(
                sock, post("/a") + post("/last")
            )
            data, was_reset = await all_of(sock)
        await gone(server)
        assert not was_reset
        assert names(data) == ["/a", "/last"]
        assert desk.delivered == [True, True]


async def test_who_goes_while_its_answer_waits_was_not_delivered_to(desk):
    """And that is known then, and not when its time is over."""
    desk.sizes["/a"] = 8 << 20
    desk.patience_s = 60
    async with serving(desk) as (server, port):
        with caller(port) as sock:
            sock.sendall(post("/a") + post("/b"))
            await connections(server, 1)
            await asyncio.get_running_loop().sock_recv(sock, 100)
            linger = struct.pack("ii", 1, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await gone(server)
        await delivered(desk)
        assert (desk.seen, desk.delivered) == ([("/a", 0)], [False])


# --- the end of a connection ---------------------------------------------------------


@pytest.mark.parametrize("target", ["/last", "/x\0"], ids=["answered", "malformed"])
async def test_who_still_sends_gets_the_answer_and_then_the_end(desk, target):
    async with serving(desk) as (server, port):
        with caller(port, 1 << 20) as sock:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, post(target))
            await loop.sock_sendall(sock, post("/b", b"x" * (8 << 20)))
            data, was_reset = await all_of(sock)
            sock.shutdown(socket.SHUT_WR)
            await gone(server)
        assert not was_reset
        assert len(answers_in(data)[0]) == 1
        assert len(desk.seen) == 1


@pytest.mark.parametrize("how", ["eof", "idle", "malformed"])
async def test_who_takes_nothing_is_cut_off_at_last(desk, monkeypatch, how):
    """Closed, a connection waits until what was written is taken."""
    monkeypatch.setattr(connection, "_LINGER_S", 0.2)
    desk.sizes["/a"] = 60_000
    async with serving(desk, idle_s=0.5) as (server, port):
        with caller(port) as sock:
            (ours,) = await connections(server, 1)
            small(ours)
            sock.sendall(post("/a"))
            await delivered(desk)
            assert ours._transport.get_write_buffer_size()
            if how == "eof":
                sock.shutdown(socket.SHUT_WR)
            elif how == "malformed":
                sock.sendall(b"\0")
            await gone(server)


async def connections(server, count):
    async with asyncio.timeout(5):
        while len(server.connections) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return tuple(server.connections)


async def test_a_body_that_nobody_reads_ends_its_connection(desk):
    """Else what is left of it would hold the connection, and be paused for ever."""
    async with serving(desk) as (server, port):
        line = await Line.to(port)
        whole = post("/unread", b"x" * (1 << 20))
        line.write(whole[:80])
        await line.until_answers(1)
        line.write(whole[80:] + post("/b"))
        await line.until_end()
        (answer,), _, _ = answers_in(line.data)
        assert (answer.body, answer.headers["connection"]) == (b"unread", "close")
        line.close()
        await gone(server)
    assert desk.seen == []


@pytest.mark.parametrize(
    "data",
    [
        post("/a", b"", line="CONNECT {} HTTP/1.1"),
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
    ],
    ids=["CONNECT", "chunks"],
)
async def test_behind_what_others_may_read_otherwise_nothing_is_read(desk, data):
    async with serving(desk) as (_, port):
        line = await Line.to(port)
        line.write(data)
        await line.until_answers(1)
        line.write(post("/b"))
        await line.until_end()
        (answer,), _, rest = answers_in(line.data)
        assert (answer.body, answer.headers["connection"], rest) == (
            *(b"/a", "close"),
            b"",
        )
        assert [target for target, _ in desk.seen] == ["/a"]
        line.close()


OFFER = ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AA")


@pytest.mark.parametrize("offset", range(1, len(post("/a", b"12345", *OFFER)) + 9, 7))
async def test_an_offer_of_another_protocol_is_declined_wherever_reads_end(
    desk, errors, offset
):
    data = post("/a", b"12345", *OFFER) + post("/b", b"1", *OFFER) + post("/c", b"12")
    async with serving(desk) as (_, port):
        line = await Line.to(port)
        line.write(data[:offset])
        await turns(5)
        line.write(data[offset:])
        await line.until_answers(3)
        assert names(line.data) == ["/a", "/b", "/c"]
        assert desk.seen == [("/a", 5), ("/b", 1), ("/c", 2)]
        assert b"Connection" not in line.data  # it stays open
        line.close()
    assert errors == []


async def test_a_large_body_behind_an_offer_is_read_as_any_other(desk):
    async with serving(desk) as (_, port):
        line = await Line.to(port)
        line.write(post("/a", b"x" * 300_000, *OFFER) + post("/b"))
        await line.until_answers(2)
        assert desk.seen == [("/a", 300_000), ("/b", 0)]
        line.close()


async def test_a_caller_that_is_gone_was_not_delivered_to(desk):
    async with serving(desk) as (server, port):
        desk.gate.clear()
        line = await Line.to(port)
        line.write(post("/a"))
        await seen(desk)
        reset(line.transport)
        await gone(server)
        desk.gate.set()
        await delivered(desk)
        await turns(10)
        assert (desk.seen, desk.delivered) == ([("/a", 0)], [False])


async def test_what_waits_is_not_begun_where_writing_shows_that_nobody_is_there(desk):
    """Reading is held, so that writing is the first to know."""
    async with serving(desk) as (server, port):
        desk.gate.clear()
        line = await Line.to(port)
        line.write(post("/a") + post("/b", b"x" * 10) + post("/c"))
        await seen(desk)
        reset(line.transport)
        await turns(10)
        desk.gate.set()
        await gone(server)
        await turns(10)
        assert desk.seen[1:] in ([], [("/b", 10)])  # uvloop writes after this turn
        assert not all(desk.delivered)


async def seen(desk, count=1):
    async with asyncio.timeout(5):
        while len(desk.seen) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def delivered(desk):
    async with asyncio.timeout(5):
        while not desk.delivered:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("is_refused", [False, True])
async def test_many_small_headers_are_held_no_more_than_a_few(desk, is_refused):
    """Each would be 25 times its bytes, for as long as the head is not whole."""
    count = 30_000 if is_refused else 2_300
    async with serving(desk, max_connections=10) as (server, port):
        lines = [await Line.to(port) for _ in range(10)]
        tracemalloc.start()
        try:
            for line in lines:
                line.write(b"POST /x HTTP/1.1\r\n" + b"ab:cd\r\n" * count)
            async with asyncio.timeout(5):
                while not all(  # noqa: ASYNC110
                    each.account.held or each._parser is None
                    for each in server.connections
                ):
                    await asyncio.sleep(0.01)
            await turns(50)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(server.connections) == 10
        assert held < 10 * (64 << 10)
        for line in lines:
            reset(line.transport)


async def test_a_handler_that_is_cancelled_leaves_nobody_waiting(desk):
    async def handle(request):
        await desk.handle(request)
        if request.target == "/cancelled":
            raise asyncio.CancelledError

    server = Server(handle, desk.refuse)
    async with listening(server, ("127.0.0.1", 0), setting="x", tls=None) as listener:
        sock = caller(listener.port, 1 << 16)
        sock.sendall(post("/cancelled") + post("/behind"))
        data, _ = await all_of(sock)
        sock.close()
        assert names(data) == ["/cancelled"] or not data
    assert desk.seen == [("/cancelled", 0)]


async def test_a_connection_leaves_nothing_that_has_to_be_searched_for(desk):
    """No circle of references, and no timer that keeps it: it is gone at once."""
    async with serving(desk) as (server, port):
        line = await Line.to(port)
        line.write(post("/a") + post("/unread", b"x" * 100)[:-50])
        await line.until_answers(2)
        (ours,) = (weakref.ref(each) for each in server.connections)
        gc.disable()
        try:
            reset(line.transport)
            await gone(server)
            await turns(10)
            assert ours() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("end", ["silent", "refused", "unread"])
async def test_a_connection_with_no_request_under_way_makes_room(desk, end):
    """Also where its last answer is written, and only its end is waited for."""
    desk.gate.clear()
    async with serving(desk, max_connections=4) as (server, port):
        busy = await Line.to(port)
        busy.write(post("/busy"))
        await seen(desk)
        data = {"silent": b"", "refused": b"\0", "unread": post("/unread", b"{}")[:-1]}
        held = [await Line.to(port) for _ in range(300)]
        for line in held:
            line.write(data[end])
        if data[end]:
            for line in held:
                await line.until_answers(1)
        newcomer = await Line.to(port)
        newcomer.write(post("/new"))
        async with asyncio.timeout(5):
            while ("/new", 0) not in desk.seen:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        desk.gate.set()
        for line, name in ((busy, "/busy"), (newcomer, "/new")):
            await line.until_answers(1)
            assert names(line.data) == [name]
            line.close()
        for line in held:
            line.close()
        await gone(server)
        assert (server.beginning, server.unheard, server.idle) == ({}, {}, {})


async def test_where_all_connections_are_at_work_the_newcomer_is_closed(desk):
    desk.gate.clear()
    refused = []
    async with serving(
        desk, max_connections=2, on_refused=lambda: refused.append(1)
    ) as (server, port):
        busy = [await Line.to(port) for _ in range(2)]
        for n, line in enumerate(busy):
            line.write(post(f"/{n}"))
        await seen(desk, 2)
        newcomer = await Line.to(port)
        await newcomer.until_end()
        assert (newcomer.data, refused) == (b"", [1])
        desk.gate.set()
        for n, line in enumerate(busy):
            await line.until_answers(1)
            assert names(line.data) == [f"/{n}"]
        for line in (*busy, newcomer):
            line.close()
        await gone(server)


async def test_the_end_of_the_server_ends_what_is_idle_and_what_is_under_way(desk):
    desk.gate.clear()
    async with serving(desk) as (server, port):
        idle, busy = await Line.to(port), await Line.to(port)
        busy.write(post("/a") + post("/b"))
        await connections(server, 2)
        await seen(desk)
    for line in (idle, busy):
        await line.until_end()
        assert line.data == b""
        line.close()
    assert not server.connections
    assert desk.seen == [("/a", 0)]


async def test_at_the_end_of_the_server_what_was_written_is_still_sent(desk):
    """It was told as delivered: the caller takes it, if only as fast as it can."""
    desk.sizes["/a"] = 60_000
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as ending:
        async with serving(desk) as (server, port):
            sock = ending.enter_context(caller(port))
            (ours,) = await connections(server, 1)
            small(ours)
            sock.sendall(post("/a"))
            await delivered(desk)
            assert desk.delivered == [True]
            assert ours._transport.get_write_buffer_size()
            reading = loop.create_task(all_of(sock))
        data, was_reset = await reading
    assert not was_reset
    assert names(data) == ["/a"]


async def test_the_end_of_the_server_waits_for_nobody_for_long(desk):
    desk.sizes["/a"] = 60_000
    async with serving(desk) as (server, port):
        with caller(port) as sock:
            (ours,) = await connections(server, 1)
            small(ours)
            sock.sendall(post("/a"))
            await delivered(desk)
            async with asyncio.timeout(5):
                await server.end()
            await gone(server)


def small(ours):
    """Let the system take little of what a connection of ours writes."""
    sock = ours._transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


# --- TLS ------------------------------------------------------------------------------


@pytest.fixture
def tls(tmp_path):
    """Settings of a server and of a caller that trusts it."""
    authority = Authority(tmp_path)
    authority.issue("server", *LOCALHOST)
    ours = server_context(tmp_path / "server.crt", tmp_path / "server.key")
    theirs = ssl.create_default_context(cafile=str(authority.file))
    return ours, theirs


async def test_over_tls_an_early_refusal_is_read_and_the_end_comes_once(
    desk, tls, errors
):
    """asyncio's transport forgets its connection if it is closed twice."""
    ours, theirs = tls
    async with serving(desk, tls=ours) as (server, port):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=theirs, server_hostname="localhost"
        )
        whole = post("/unread", b"x" * (1 << 20))
        writer.write(whole)
        data = await reader.readuntil(b"unread")
        assert b"Connection: close" in data
        await writer.drain()
        await gone(server)
        writer.close()
    assert errors == []


async def test_over_tls_requests_sent_ahead_are_answered_in_order(desk, tls):
    ours, theirs = tls
    async with serving(desk, tls=ours) as (server, port):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=theirs, server_hostname="localhost"
        )
        writer.write(b"".join(post(f"/{n}", b"x" * 70_000) for n in range(20)))
        data = b""
        while len(answers_in(data)[0]) < 20:
            data += await reader.read(1 << 16)
        assert names(data) == [f"/{n}" for n in range(20)]
        writer.transport.abort()
        await gone(server)


# --- defects ----------------------------------------------------------------------------


async def test_a_defect_while_parsing_is_told_and_ends_the_connection(desk, errors):
    """And is not taken for a mistake of the caller's."""

    def defect():
        msg = "a defect"
        raise LookupError(msg)

    async with serving(desk, max_head_bytes=defect) as (server, port):
        line = await Line.to(port)
        line.write(
            b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"1\r\nx\r\n0\r\nX: y\r\nZ: z\r\n\r\n" + post("/b")
        )
        await line.until_end()
        await gone(server)
        assert line.data == b""
        assert [type(each["exception"]) for each in errors] == [LookupError]
        line.close()


@pytest.mark.parametrize("before", [b"", post("/a")], ids=["alone", "behind one"])
@pytest.mark.parametrize("data", [b"\0", b"SETUP /a RTSP/1.0\r\n\r\n"])
async def test_a_defect_in_a_refusal_is_told_and_ends_the_connection(
    desk, errors, before, data
):
    def refuse(_):
        msg = "a defect"
        raise LookupError(msg)

    desk.refuse = refuse
    async with serving(desk) as (server, port):
        line = await Line.to(port)
        line.write(before + data)
        await line.until_end()
        await gone(server)
        assert len(names(line.data)) == bool(before)
        assert [type(each["exception"]) for each in errors] == [LookupError]
        line.close()


class TlsCaller:
    """A caller's TLS by hand: it can end its own half and read on."""

    def __init__(self, sock, context):
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")

    async def _until(self, act):
        """Do this, exchanging what it needs; gives what it gives."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                done = act()
            except ssl.SSLWantReadError:
                done = None
            await loop.sock_sendall(self._sock, self._out.read())
            if done is not None:
                return done
            data = await loop.sock_recv(self._sock, 1 << 16)
            assert data, "ended without a close_notify"
            self._in.write(data)

    async def begin(self):
        await self._until(lambda: self._tls.do_handshake() or True)

    async def send(self, *pieces, end):
        """Write these in one, with a close_notify behind them."""
        for piece in pieces:
            self._tls.write(piece)
        if end:
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.unwrap()
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._sock, self._out.read())

    async def read_all(self):
        """Read to the close_notify of the other side."""
        data = b""
        with contextlib.suppress(ssl.SSLZeroReturnError):
            while True:
                data += await self._until(lambda: self._tls.read(1 << 16))
        return data


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [0, 300_000])
async def test_a_caller_that_ends_its_half_of_tls_gets_its_answers(
    desk, tls, errors, version, size
):
    context, theirs = tls
    context.maximum_version = version
    desk.sizes["/b"] = size
    desk.patience_s = 5
    desk.gate.clear()
    async with serving(desk, tls=context) as (server, port):
        with caller(port, 1 << 16) as sock:
            line = TlsCaller(sock, theirs)
            async with asyncio.timeout(5):
                await line.begin()
                await line.send(post("/a", b"{}") + post("/b", b"{}"), end=True)
                await seen(desk)
                await turns(10)
                desk.gate.set()
                data = await line.read_all()
            assert names(data) == ["/a", "/b"]
            await gone(server)
        assert desk.seen == [("/a", 2), ("/b", 2)]
        assert errors == []


@pytest.mark.parametrize(
    ("data", "seen_of_it"),
    [(b"", []), (post("/a", b"{}")[:-1], [("/a", 0)]), (b"POST /a", [])],
    ids=["nothing", "half a body", "half a head"],
)
async def test_an_end_of_tls_within_a_request_ends_the_connection(
    desk, tls, errors, data, seen_of_it
):
    context, theirs = tls
    async with serving(desk, tls=context) as (server, port):
        with caller(port) as sock:
            line = TlsCaller(sock, theirs)
            async with asyncio.timeout(5):
                await line.begin()
                await line.send(data, end=True)
                answer = await line.read_all()
            assert answer.startswith(b"HTTP/1.1 400" if seen_of_it else b"")
            await gone(server)
        assert desk.seen == seen_of_it
        assert errors == []
