"""Who is at the other end, and why TLS with it came to nothing, on either event loop."""

import asyncio
import os
import socket
import ssl

import pytest
import uvloop

from gateway.edge.connection import Server
from gateway.edge.listener import listening
from gateway.edge.peers import peer_of, why_no_tls
from gateway.edge.response import Response
from gateway.edge.tls import server_context
from tests.integration.pki import DAY, LOCALHOST, Authority, trusting

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    made = Authority(tmp_path_factory.mktemp("pki"))
    made.issue("gateway", *LOCALHOST)
    made.issue("expired", *LOCALHOST, ends=-DAY)
    return made


def failures(authority, attempt, new_loop):
    """Give what a listener tells of a peer that does this; a certificate is asked of it."""
    folder = authority.folder
    context = server_context(
        folder / "gateway.crt", folder / "gateway.key", authority.file
    )
    told = []

    async def handle(request):
        raise AssertionError(request)

    async def run():
        server = Server(handle, lambda _: Response())
        over = asyncio.Event()

        def failed(peer, reason):
            told.append((peer, reason))
            over.set()

        server.on_handshake_failed = failed
        where = ("127.0.0.1", 0)
        async with listening(server, where, setting="x", tls=context) as listener:
            doing = asyncio.to_thread(attempt, listener.port, authority)
            peer = await doing
            async with asyncio.timeout(20):
                await over.wait()
        return f"127.0.0.1:{peer}"

    with asyncio.Runner(loop_factory=new_loop) as runner:
        peer = runner.run(run())
    assert [each for each, _ in told] == [peer]
    return told[0][1]


def handshake(context, port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        ours = plain.getsockname()[1]
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as tls:
                tls.recv(1)
        except OSError:
            pass
    return ours


def say(data):
    def attempt(port, _):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            plain.sendall(data)
            if data:
                try:
                    while plain.recv(100):
                        pass
                except OSError:
                    pass
            return plain.getsockname()[1]

    return attempt


def no_certificate(port, authority):
    return handshake(trusting(authority), port)


def expired(port, authority):
    return handshake(trusting(authority, "expired"), port)


def no_trust(port, _):
    return handshake(ssl.create_default_context(), port)


CASES = {
    "plain HTTP": (say(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"), "plain HTTP"),
    "no TLS": (say(b"\x00" * 64), "not TLS"),
    "nothing": (say(b""), "ended the connection"),
    "no certificate": (no_certificate, "showed no client certificate"),
    "expired": (expired, "does not verify: certificate has expired"),
    "no trust": (no_trust, "does not trust the listener's certificate"),
}


@pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("case", CASES)
def test_a_handshake_that_fails_is_told_with_the_peer_and_why(
    authority, case, new_loop
):
    attempt, reason = CASES[case]
    assert reason in failures(authority, attempt, new_loop)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionAbortedError("SSL handshake is taking longer"), "in time"),
        (ConnectionResetError(), "ended the connection"),
        (ssl.SSLError(1, "[X] some text of a peer's (_ssl.c:1)"), "TLS failed"),
    ],
)
def test_a_reason_is_never_a_peers_own_text(error, reason):
    assert why_no_tls(error).endswith(reason)


def test_a_reason_that_is_not_in_the_table_is_openssls_own():
    error = ssl.SSLError()
    error.reason = "BAD_ECPOINT"
    assert why_no_tls(error) == "bad ecpoint"


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (("192.0.2.1", 40000), "192.0.2.1:40000"),
        (("2001:db8::1", 40000, 0, 0), "[2001:db8::1]:40000"),
    ],
)
def test_a_peer_is_an_address_and_a_port(address, peer):
    assert peer_of(None, address) == peer


def test_the_peer_of_a_unix_socket_is_a_user_and_a_process():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_of(ours, "") == f"uid={os.getuid()}:pid={os.getpid()}"


def test_a_peer_that_the_system_does_not_tell_is_none():
    with socket.socket() as closed:
        pass
    assert peer_of(closed, "") is None
