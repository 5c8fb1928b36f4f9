"""What a connection holds is in its account: compared with what the interpreter holds.

Either side is fed bytes in pieces that nobody chose, in process and without sockets.
"""

import asyncio
import gc
import sys
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st

from gateway.access.admission import Account, Quota
from gateway.edge.connection import Server
from gateway.edge.outbound import Outbound
from gateway.edge.response import Response

OBJECTS_BYTES = 24 << 10
"""What a connection needs beside its bytes: the objects of 128 headers are most of it."""

PART = 1.5
"""Small pieces are joined by the 64, so that little more than their bytes is held."""

MAX_HEAD_BYTES = 1 << 14

PIECES = [1, 7, 100, 1460, 1 << 14, 1 << 16]

TURNS = {"whole": 4, "never": 0, "early": 1}
"""Of the loop for each piece, by when a request is answered: at its end, or before."""

REQUEST_PARTS = [
    b"POST /p HTTP/1.1\r\n",
    b"POST /" + b"t" * 3000 + b" HTTP/1.1\r\n",
    b"Host: g\r\n",
    b"Content-Length: 2\r\n",
    b"Content-Length: 70000\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"A: " + b"v" * 700 + b"\r\n",
    b"B:" + b" " * 500 + b"b\r\n",
    b"a:b\r\n",
    b"\r\n",
    b"{}",
    b"x" * 35_000,
    b"1\r\n \r\n",
    b"5000\r\n" + b"y" * 0x5000 + b"\r\n",
    b"1;" + b"e" * 900 + b"\r\n \r\n",
    b"0\r\nT: u\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}",
    b"\xff\x00",
]
ANSWER_PARTS = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n",
    b"Content-Length: 70000\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n",
    b"A: " + b"v" * 7000 + b"\r\n",
    b"a:b\r\n",
    b"B:" + b" " * 500 + b"b\r\n",
    b"\r\n",
    b"x" * 35_000,
    b"1\r\n \r\n",
    b"5000\r\n" + b"y" * 0x5000 + b"\r\n",
    b"1;" + b"e" * 900 + b"\r\n \r\n",
    b"0\r\n",
    b"T: " + b"u" * 5000,
    b"\xff\x00",
]


def streams(parts):
    """Draw parts of messages, each repeated, and the sizes in which they come."""
    runs = st.lists(
        st.tuples(st.sampled_from(parts), st.sampled_from([1, 1, 2, 40, 3000])),
        min_size=1,
        max_size=8,
    )
    return st.tuples(runs, st.lists(st.sampled_from(PIECES), min_size=1, max_size=4))


class Transport(asyncio.Transport):
    """What is read from and written to, without a system below it."""

    def __init__(self, protocol, data, sizes):
        super().__init__()
        self.protocol = protocol
        self._data, self._sizes = memoryview(data), sizes
        self._at = self._number = 0
        self._open = self._reads = True

    def feed(self):
        """Hand over the next piece. Return whether there was one that is read."""
        if not (self._open and self._reads and self._at < len(self._data)):
            return False
        size = self._sizes[self._number % len(self._sizes)]
        self._number += 1
        buffer = self.protocol.get_buffer(-1)
        piece = self._data[self._at : self._at + min(size, len(buffer))]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        self.protocol.buffer_updated(len(piece))
        return True

    def get_extra_info(self, name, default=None):
        return default

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def get_write_buffer_size(self):
        return 0

    def is_closing(self):
        return not self._open

    def can_write_eof(self):
        return True

    def write_eof(self):
        pass

    def write(self, data):
        pass

    def pause_reading(self):
        self._reads = False

    def resume_reading(self):
        self._reads = True

    def close(self):
        self.abort()

    def abort(self):
        self._open = False


def held_now():
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def stream(drawn, limit=250_000):
    runs, sizes = drawn
    data = b"".join(part * times for part, times in runs)
    assume(len(data) <= limit)
    assume(len(data) // min(sizes) <= 4_000)
    return data, sizes


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


async def feed_server(data, sizes, *, answers):
    Outbound()  # makes the buffer that all connections of a loop share
    memory = Quota(1 << 30)
    gate = asyncio.Event()

    async def handle(request):
        body = request.body
        while answers == "whole" and not (body.is_whole or body.problem):
            await body.more()
        if answers == "never":
            await gate.wait()
        body.drop()
        await request.wire.deliver(request, Response(body=b"{}"), 1)

    server = Server(
        handle,
        lambda _: Response(status=400),
        max_head_bytes=lambda: MAX_HEAD_BYTES,
        memory=memory,
    )
    before = held_now()
    connection = server()
    transport = Transport(connection, data, sizes)
    connection.connection_made(transport)
    while transport.feed():
        for _ in range(TURNS[answers]):
            await asyncio.sleep(0)
        assert memory.taken == connection.account.held >= 0
    held = held_now() - before
    assert held <= PART * connection.account.held + OBJECTS_BYTES
    assert connection.account.held <= 1 << 19
    transport.abort()
    connection.connection_lost(None)
    gate.set()
    for _ in range(200):
        await asyncio.sleep(0)
    assert memory.taken == 0


@pytest.mark.parametrize("answers", TURNS)
@given(drawn=streams(REQUEST_PARTS))
@settings(
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.filter_too_much,
    ],
    deadline=None,
    max_examples=40,
)
def test_what_a_caller_makes_the_gateway_hold_is_counted_and_bounded(
    traced, answers, drawn
):
    asyncio.run(feed_server(*stream(drawn), answers=answers))


async def feed_client(data, sizes):
    Outbound()  # makes the buffer that all connections of a loop share
    memory = Quota(1 << 30)
    account = Account(memory)
    before = held_now()
    connection = Outbound()
    transport = Transport(connection, data, sizes)
    transport.get_extra_info = lambda *_: sys.stdin
    connection._transport = transport
    soon = asyncio.get_running_loop().time() + 60
    asking = asyncio.ensure_future(
        connection.ask((b"head", b"body"), 1 << 20, account, soon)
    )
    await asyncio.sleep(0)
    while transport.feed():
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if asking.done():
            break
    held = held_now() - before
    assert memory.taken == account.held <= len(data)
    assert held <= PART * account.held + OBJECTS_BYTES
    if not asking.done():
        asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    connection.end()


@given(drawn=streams(ANSWER_PARTS))
@settings(
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.filter_too_much,
    ],
    deadline=None,
    max_examples=40,
)
def test_what_alipayhk_makes_the_gateway_hold_is_counted(traced, drawn):
    runs, sizes = drawn
    begin = [(b"HTTP/1.1 200 OK\r\n", 1), *runs]
    asyncio.run(feed_client(*stream((begin, sizes))))


# --- steps ---------------------------------------------------------------------------


def steps_of(act):
    """Count the calls that it makes, of Python's and of C's functions."""
    count = 0

    def note(_frame, event, _argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


def fed(protocol, data, size):
    transport = Transport(protocol, data, [size])
    protocol._transport = transport
    while transport.feed():
        pass


def assert_linear(connect, begin, part, most, size):
    """Feed twice as many parts, twice: at most twice the steps, and a few."""
    counts = []
    for times in (most // 4, most // 2, most):
        connection, data = connect(), begin + part * times
        counts.append(steps_of(lambda c=connection, d=data: fed(c, d, size)))
    for fewer, more in pairwise(counts):
        assert more <= 2.2 * fewer + 500


GROWING = {
    "a header": (b"POST /p HTTP/1.1\r\nA: ", b"x", 16_000),
    "a target": (b"POST /", b"x", 16_000),
    "headers": (b"POST /p HTTP/1.1\r\n", b"a: bcd\r\n", 900),
    "a body": (
        b"POST /p HTTP/1.1\r\nHost: g\r\nContent-Length: 999999\r\n\r\n",
        b"x",
        60_000,
    ),
    "chunks": (
        b"POST /p HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\n \r\n",
        30_000,
    ),
    "an extension": (
        b"POST /p HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        b"x",
        15_000,
    ),
    "empty lines": (b"", b"\r\n", 8_000),
}


@pytest.mark.parametrize("size", [1, 100, 5000])
@pytest.mark.parametrize("kind", GROWING)
async def test_steps_for_what_a_caller_sends_grow_as_its_bytes_do(kind, size):
    def connect():
        server = Server(lambda _: asyncio.sleep(60), lambda _: Response(status=400))
        connection = server()
        connection._loop.call_soon(connection.abort)
        return connection

    assert_linear(connect, *GROWING[kind], size)


GROWING_ANSWERS = {
    "a trailer": (b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: ", b"x", 60_000),
    "trailers": (b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n", 120),
    "an extension": (b"Transfer-Encoding: chunked\r\n\r\n1;", b"x", 60_000),
    "chunks": (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 30_000),
    "a body": (b"Content-Length: 999999\r\n\r\n", b"x", 60_000),
    "headers": (b"", b"a: b\r\n", 120),
}


@pytest.mark.parametrize("size", [1, 100, 5000])
@pytest.mark.parametrize("kind", GROWING_ANSWERS)
async def test_steps_for_what_alipayhk_sends_grow_as_its_bytes_do(kind, size):
    connections = []

    def connect():
        connection = Outbound()
        connection._answer = connection._reader
        connection._reader.renew(1 << 20)
        connections.append(connection)
        return connection

    begin, part, most = GROWING_ANSWERS[kind]
    assert_linear(connect, b"HTTP/1.1 200 OK\r\n" + begin, part, most, size)
    assert [each._reader.error for each in connections] == [None] * 3
