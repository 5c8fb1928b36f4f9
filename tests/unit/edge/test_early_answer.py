"""An answer that comes before the request was taken, from a host that then hangs up."""

import asyncio
import socket
import ssl
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest

from gateway.edge.dial import Dial
from gateway.edge.tls import LiveContext, client_context
from gateway.edge.upstream import HttpUpstream
from gateway.errors import UpstreamDisconnected
from gateway.relay.ports import UNCOUNTED
from tests import peer
from tests.integration.pki import LOCALHOST, Authority

ANSWER = b"HTTP/1.1 413 X\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
TIMES = 20
"""The race between the answer and the reset has many ends."""


@contextmanager
def refusing(answer, tls=None):
    """Answer each connection once its first bytes came, and close it: a reset."""

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                # Else the answer waits behind TLS's tickets, and the reset destroys it.
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                taken = tls.wrap_socket(connection, server_side=True) if tls else None
                with taken or connection as spoken:
                    spoken.recv(1000)
                    spoken.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(20)


def request(size):
    draft = peer.sent_request().draft
    return replace(peer.sent_request(), draft=replace(draft, body=b"x" * size))


@contextmanager
def reaching(answer, scheme, folder):
    authority = Authority(folder)
    authority.issue("host", *LOCALHOST)
    tls = None
    if scheme == "https":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(folder / "host.crt", folder / "host.key")
    with refusing(answer, tls) as port:
        upstream = HttpUpstream(
            Dial(
                f"{scheme}://localhost:{port}",
                tls=LiveContext(client_context(authority.file)),
                connect_timeout_s=20,
            ),
            max_response_bytes=1000,
        )
        yield upstream
        upstream.close()


@pytest.mark.parametrize("size", [1000, 60_000, 100_000, 1 << 20, 8 << 20])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_answer_is_read_although_the_rest_could_not_be_written(
    tmp_path, scheme, size
):
    with reaching(ANSWER, scheme, tmp_path) as upstream:
        for _ in range(TIMES):
            answer = await upstream.send(
                request(size), timeout_s=20, memory=UNCOUNTED, on_write=lambda: None
            )
            assert (answer.status, answer.body) == (413, b"{}")


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_half_an_answer_is_none(tmp_path, scheme):
    with reaching(ANSWER[:-1], scheme, tmp_path) as upstream:
        for _ in range(TIMES):
            with pytest.raises(UpstreamDisconnected):
                await upstream.send(
                    request(1 << 20),
                    timeout_s=20,
                    memory=UNCOUNTED,
                    on_write=lambda: None,
                )
            await asyncio.sleep(0)
