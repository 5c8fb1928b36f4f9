"""What either side may have the gateway hold: bounded, counted, and never the loop."""

import asyncio
import contextlib
import socket
import time

import pytest

from tests import peer
from tests.chaos.conftest import settings_for, until
from tests.integration.pki import LOCALHOST, Authority, trusting
from tests.integration.test_callers import entry

BODY = 70_000
CONNECTIONS = 100
AHEAD_S = 12.0
"""For as long each connection sends as much as is taken, and reads no answer."""

ENDLESS_BYTES = 64 << 20
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
ENDLESS = {
    "a trailer": (HEAD + b"0\r\nX: ", b"x" * 65536),
    "a chunk extension": (HEAD + b"2;x=", b"y" * 65536),
    "many trailers": (HEAD + b"0\r\n", b"A: b\r\n" * 10_000),
    "many interim answers": (b"", b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" * 2000),
    "many small chunks": (HEAD, b"1\r\n \r\n" * 10_000),
    "many chunk extensions": (HEAD, b"1;abcdefgh=ijklmnopqrstuvwxyz\r\n \r\n" * 2000),
}


REFUSAL = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\n"
    b'{"resultInfo":{"resultStatus":"F","resultCode":"X","resultMessage":"x"}}'
)


class Endless:
    """An AlipayHK whose answers go on for ever, or that refuses at once."""

    def __init__(self, begin=None, piece=b""):
        self.begin, self.piece = begin, piece
        self.sent = 0
        self.ended = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        try:
            while self.begin is None:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].split()[0])
                await reader.readexactly(size)
                writer.write(REFUSAL)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.begin)
            size = 0
            while size < ENDLESS_BYTES:
                writer.write(self.piece)
                await writer.drain()
                size += len(self.piece)
                self.sent += len(self.piece)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.ended += 1
            writer.close()


def request(body=b"{}"):
    head = (
        f"POST {peer.TARGET} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
    )
    return head.encode() + b"\r\n\r\n" + body


async def send_ahead(port):
    """Pipeline bodies until no more are taken; keep the connection open."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.settimeout(0)
    await loop.sock_connect(sock, ("127.0.0.1", port))
    data = request(b'{"filler":"' + b"x" * BODY + b'"}')
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(AHEAD_S):
            while True:
                await loop.sock_sendall(sock, data)
    return sock


@pytest.mark.chaos
@pytest.mark.timeout(400)
async def test_bodies_that_are_sent_ahead_are_not_read_and_what_is_held_is_counted(
    served,
):
    async with Endless() as platform:
        served.configure(settings_for(platform.port))
        await served.start()
        rest = served.memory()
        sockets = await asyncio.gather(
            *(send_ahead(served.caller.port) for _ in range(CONNECTIONS))
        )
        counted = await served.metric("gateway_buffered_bytes") / (1 << 20)
        peak = served.memory("VmHWM")
        for each in sockets:
            each.close()
    print(f"{rest:.0f} MiB at rest, {peak:.0f} MiB at most, {counted:.0f} MiB counted")
    assert peak < 200
    assert counted >= CONNECTIONS * BODY / (1 << 20)
    assert peak - rest <= 2 * counted + 16


@pytest.mark.chaos
@pytest.mark.timeout(400)
async def test_of_what_strangers_send_over_tls_and_is_not_taken_little_is_held(
    served, tmp_path
):
    """Half a megabyte and more each, in no account, with what TLS keeps by default."""
    authority = Authority(tmp_path)
    authority.issue("gateway", *LOCALHOST)
    tls = {"certificate": "gateway.crt", "private_key": "gateway.key"}
    settings = {**settings_for(1, tls=tls), "callers": [entry()]}
    served.configure(settings)
    await served.start()
    rest = served.memory()
    writers = []
    for _ in range(CONNECTIONS):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", served.caller.port))
        _, writer = await asyncio.open_connection(
            sock=sock, ssl=trusting(authority), server_hostname="localhost"
        )
        writer.transport.pause_reading()
        writer.write(request(b"") * 20_000)
        writers.append(writer)
    await asyncio.sleep(3)
    each = (served.memory("VmHWM") - rest) * 1024 / CONNECTIONS
    for writer in writers:
        writer.transport.abort()
    print(f"{each:.0f} KiB for each connection")
    assert each < 500


@pytest.mark.chaos
@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ENDLESS)
async def test_an_answer_without_end_is_soon_over_and_holds_nothing_up(served, kind):
    async with Endless(*ENDLESS[kind]) as platform:
        served.configure(settings_for(platform.port))
        await served.start()
        rest, before = served.memory(), served.processor_seconds()
        exchange = asyncio.ensure_future(served.caller.raw(request()))
        slowest = 0.0
        while not exchange.done():
            begun = time.monotonic()
            got = await served.admin.raw(
                b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            slowest = max(slowest, time.monotonic() - begun)
            assert got.status == 200
        answer = await exchange
        await until(lambda: platform.ended, "the answer goes on")
        counted = await served.metric("gateway_buffered_bytes")
        more = served.memory("VmHWM") - rest
        seconds = served.processor_seconds() - before
    print(
        f"{kind}: {platform.sent >> 10} KiB sent, {more:.1f} MiB more, {seconds:.2f} s "
        f"of processor, the slowest probe {slowest:.2f} s"
    )
    assert answer.problem["outcome"] == "answered"
    assert more < 40
    assert slowest < 1
    assert counted == 0
