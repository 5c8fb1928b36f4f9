"""Connections to one host: which address, which name, and why there is none."""

import asyncio
import socket
import ssl
import sys
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest
from cryptography import x509

from gateway.edge import dial
from gateway.edge.dial import Dial
from gateway.edge.tls import client_context
from gateway.edge.upstream import HttpUpstream
from gateway.errors import UpstreamDisconnected, UpstreamUnavailable
from gateway.relay.ports import UNCOUNTED
from tests import peer
from tests.integration.pki import DAY, LOCALHOST, Authority


class Names:
    """A resolver that gives these addresses of loopback for each name."""

    def __init__(self, *addresses):
        self._addresses = addresses
        self.asked = []

    async def look_up(self, host, port):
        self.asked.append(host)
        kind = socket.SOCK_STREAM, 6, ""
        return [
            (socket.AF_INET6, *kind, (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, *kind, (address, port))
            for address in self._addresses
        ]


def calling(origin, tls=None, timeout_s=20.0, **more):
    return Dial(
        origin, tls=tls or client_context(), connect_timeout_s=timeout_s, **more
    )


class Host:
    """Listens on an address of loopback."""

    def __init__(self):
        self.port = 0
        self.accepted = 0
        self.server_names = []
        self.over = asyncio.Event()

    async def serve(self, _, writer):
        self.accepted += 1
        await self.over.wait()
        writer.close()

    @asynccontextmanager
    async def listening(self, address="127.0.0.1", port=0, tls=None):
        if tls is not None:
            tls.sni_callback = lambda _, name, __: self.server_names.append(name)
        server = await asyncio.start_server(self.serve, address, port, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.over.set()
            server.close()


@pytest.fixture
def authority(tmp_path):
    authority = Authority(tmp_path)
    authority.issue("host", *LOCALHOST)
    return authority


def shown(authority, name="host"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    folder = authority.folder
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return context


# --- several addresses -------------------------------------------------------


@pytest.mark.parametrize("manner", ["hangs", "closes", "speaks no TLS"])
async def test_the_next_address_is_tried_where_one_takes_tcp_and_no_tls(
    authority, manner
):
    async def serve(_, writer):
        accepted.append(writer)
        if manner == "closes":
            writer.close()
        elif manner == "speaks no TLS":
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    accepted = []
    trusting = client_context(authority.file)
    async with Host().listening(tls=shown(authority)) as good:
        bad = await asyncio.start_server(serve, "127.0.0.2", good.port)
        connection = await calling(
            f"https://localhost:{good.port}",
            trusting,
            resolver=Names("127.0.0.2", "127.0.0.1"),
        )()
        assert connection.is_fit
        connection.end()
        bad.close()
    assert accepted
    for each in accepted:
        each.close()


async def test_the_next_address_is_tried_where_ones_certificate_does_not_verify(
    authority, tmp_path
):
    other = Authority(tmp_path, "other")
    other.issue("stranger", *LOCALHOST)
    trusting = client_context(authority.file)
    async with (
        Host().listening(tls=shown(authority)) as good,
        Host().listening("127.0.0.2", good.port, shown(other, "stranger")),
    ):
        connection = await calling(
            f"https://localhost:{good.port}",
            trusting,
            resolver=Names("127.0.0.2", "127.0.0.1"),
        )()
        assert good.accepted == 1
        connection.end()


async def test_a_connection_that_came_second_is_closed(authority, monkeypatch):
    """Two are made where the first address is only slow."""
    monkeypatch.setattr(dial, "_NEXT_ADDRESS_S", 0.0)
    monkeypatch.setattr(dial, "_HANDSHAKE_S", 0.0)
    gone = []

    async def serve(reader, writer):
        gone.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    call = calling(f"http://localhost:{port}", resolver=Names(*["127.0.0.1"] * 5))
    (await call()).end()
    async with asyncio.timeout(20):
        while len(gone) < 2:  # noqa: ASYNC110 - the other end of a socket
            await asyncio.sleep(0.01)
    server.close()


async def test_each_reason_of_several_addresses_is_told_once(monkeypatch):
    monkeypatch.setattr(dial, "_NEXT_ADDRESS_S", 20.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        names = Names("127.0.0.1", "255.255.255.255", "127.0.0.1")
        with pytest.raises(UpstreamUnavailable) as caught:
            await calling(f"http://localhost:{port}", resolver=names)()
    refused, other = caught.value.cause.split("; ")
    assert refused == "Connection refused"
    assert other in ("Permission denied", "Network is unreachable")


def test_the_two_families_take_turns():
    def families(text):
        return [(int(each), 1, 6, "", ()) for each in text]

    for given, tried in (("6664", "6466"), ("4", "4"), ("44466", "46464")):
        assert dial._alternating(families(given)) == families(tried)


@pytest.mark.parametrize(
    ("found", "taken"),
    [
        (["10.0.0.1", "8.8.8.8"], ["8.8.8.8"]),
        (["2001:4860:4860::8888", "fd00::1"], ["2001:4860:4860::8888"]),
        (["127.0.0.1", "169.254.169.254", "192.168.0.1", "::1"], []),
        (["::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::", "fec0::1"], []),
    ],
)
async def test_where_only_public_addresses_are_taken_no_other_is(
    monkeypatch, found, taken
):
    async def reach(address):
        asked.append(address[4][0])
        raise ConnectionRefusedError(111, "Connection refused")

    asked = []
    monkeypatch.setattr(dial, "_reach", reach)
    call = calling("https://open.alipay.hk", public_only=True, resolver=Names(*found))
    reason = "Connection refused" if taken else "public_addresses_only"
    with pytest.raises(UpstreamUnavailable, match=reason):
        await call()
    assert asked == taken


# --- names -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "looked_up", "host"),
    [
        ("https://open.alipay.hk", "open.alipay.hk", "open.alipay.hk"),
        ("https://open.alipay.hk.", "open.alipay.hk.", "open.alipay.hk"),
        ("https://open.alipay.hk.:8443", "open.alipay.hk.", "open.alipay.hk:8443"),
        ("https://[2001:db8::1]:8443", "2001:db8::1", "[2001:db8::1]:8443"),
        ("https://[fe80::1%eth0]", "fe80::1%eth0", "[fe80::1]"),
        ("https://[fe80::1%25eth0]:1", "fe80::1%eth0", "[fe80::1]:1"),
        ("https://[fe80::1%25]", "fe80::1%25", "[fe80::1]"),
    ],
)
async def test_a_final_dot_and_a_zone_are_for_the_look_up_alone(
    monkeypatch, origin, looked_up, host
):
    async def reach(_):
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(dial, "_reach", reach)
    names = Names("192.0.2.1")
    call = calling(origin, resolver=names)
    with pytest.raises(UpstreamUnavailable):
        await call()
    assert names.asked == [looked_up]
    assert call.host == host


async def test_a_final_dot_is_in_no_server_name_and_the_certificate_verifies(
    authority,
):
    trusting = client_context(authority.file)
    async with Host().listening(tls=shown(authority)) as good:
        origin = f"https://localhost.:{good.port}"
        call = calling(origin, trusting, resolver=Names("127.0.0.1"))
        (await call()).end()
    assert good.server_names == ["localhost"]


# --- why there is none -------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "scheme"), [("TCP connection", "http"), ("TLS handshake", "https")]
)
async def test_a_time_out_says_what_it_waited_for(monkeypatch, step, scheme):
    async def reach(_):
        await asyncio.Event().wait()

    if step == "TCP connection":
        monkeypatch.setattr(dial, "_reach", reach)
    async with Host().listening() as silent:
        call = calling(f"{scheme}://127.0.0.1:{silent.port}", timeout_s=0.3)
        with pytest.raises(UpstreamUnavailable) as caught:
            await call()
    assert caught.value.cause == (
        f"timed out: no {step} within 0.3 s (clients[].connect_timeout_s)"
    )


async def test_a_time_out_of_the_look_up_says_so():
    class Silent:
        async def look_up(self, *_):
            await asyncio.Event().wait()

    call = calling("https://open.alipay.hk", timeout_s=0.05, resolver=Silent())
    with pytest.raises(UpstreamUnavailable) as caught:
        await call()
    assert "no name look-up within" in caught.value.cause


class Certified:
    """Servers with certificates of several kinds, and what their clients trust."""

    def __init__(self, folder):
        self.folder = folder
        self.authority = Authority(folder)
        self.other = Authority(folder, "other")

    async def cause(self, name, trusted=None, host="localhost"):
        """Return why a client that trusts an authority finds no connection."""
        tls = shown(self.authority, name)
        trusting = client_context((trusted or self.authority).file)
        async with Host().listening(tls=tls) as server:
            call = calling(
                f"https://{host}:{server.port}", trusting, resolver=Names("127.0.0.1")
            )
            with pytest.raises(UpstreamUnavailable) as caught:
                await call()
        assert caught.value.cause in caught.value.detail
        return caught.value.cause


@pytest.fixture
def certified(tmp_path):
    return Certified(tmp_path)


NO_MATCH = "TLS: certificate does not verify: "


async def test_a_certificate_that_expired_is_named_with_its_day(certified):
    certified.authority.issue("old", *LOCALHOST, ends=-DAY)
    day = f"{datetime.now(UTC) - DAY:%Y-%m-%d}"
    cause = await certified.cause("old")
    assert cause.startswith(f"{NO_MATCH}CN=old has expired on {day} ")


async def test_an_authority_that_expired_is_told(tmp_path):
    certified = Certified(tmp_path)
    certified.authority = Authority(tmp_path, "old", ends=-DAY)
    certified.authority.issue("host", *LOCALHOST)
    assert await certified.cause("host") == (
        f"{NO_MATCH}the issuer of CN=host has expired"
    )


async def test_a_certificate_that_is_not_valid_yet_is_told(certified):
    certified.authority.issue("young", *LOCALHOST, ends=3 * DAY, begins=2 * DAY)
    day = f"{datetime.now(UTC) + 2 * DAY:%Y-%m-%d}"
    cause = await certified.cause("young")
    assert cause.startswith(f"{NO_MATCH}CN=young begins on {day} ")


async def test_a_certificate_for_other_names_is_told_with_them(certified):
    names = [x509.DNSName(f"{each}.test") for each in ("a", "b", "c", "d", "e", "f")]
    certified.authority.issue("two", *names[:2])
    certified.authority.issue("many", *names)
    certified.authority.issue("none")
    assert await certified.cause("two") == (
        f"{NO_MATCH}it is for a.test, b.test, not for localhost"
    )
    assert "d.test, e.test, …, not for localhost" in await certified.cause("many")
    assert await certified.cause("none") == (
        f"{NO_MATCH}it is for CN=none, not for localhost"
    )
    certified.authority.issue("host", *LOCALHOST)
    assert await certified.cause("host", host="127.0.0.1") == (
        f"{NO_MATCH}it is for localhost, not for 127.0.0.1"
    )


async def test_an_issuer_that_is_not_known_is_named(certified):
    certified.authority.issue("host", *LOCALHOST)
    assert await certified.cause("host", trusted=certified.other) == (
        f"{NO_MATCH}the issuer CN=ca of CN=host is not known"
    )


async def test_an_authority_that_the_server_sends_and_we_do_not_trust_is_named(
    certified,
):
    certified.authority.issue("host", *LOCALHOST)
    chain = certified.folder / "host.crt"
    chain.write_bytes(chain.read_bytes() + certified.authority.file.read_bytes())
    assert await certified.cause("host", trusted=certified.other) == (
        f"{NO_MATCH}the authority CN=ca is not trusted"
    )


async def test_a_name_in_a_certificate_cannot_fill_or_break_a_line(certified):
    certified.authority.issue("long", x509.DNSName("a" * 300 + "\x1b[2J\n.test"))
    cause = await certified.cause("long")
    assert cause.isprintable()
    assert len(cause) < 250


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("shows", "told"),
    [
        (None, "a client certificate is wanted"),
        ("old", "our client certificate was refused: it has expired"),
        ("stranger", "our client certificate was refused: its issuer is not known"),
    ],
)
async def test_a_client_certificate_that_is_wanted_is_told(
    certified, version, shows, told
):
    """With TLS 1.3 it is only told once the handshake is over for us."""
    authority, other = certified.authority, certified.other
    authority.issue("host", *LOCALHOST)
    authority.issue("old", ends=-DAY)
    other.issue("stranger")
    tls = shown(authority)
    tls.load_verify_locations(authority.file)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.minimum_version = tls.maximum_version = version
    pair = [certified.folder / f"{shows}.{end}" for end in ("crt", "key")]
    trusting = client_context(authority.file, *(pair if shows else ()))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        server = asyncio.create_task(asyncio.to_thread(refused, listening, tls))
        call = calling(f"https://localhost:{port}", trusting, resolver=Names("127.1"))
        upstream = HttpUpstream(call, max_response_bytes=1000)
        with pytest.raises((UpstreamUnavailable, UpstreamDisconnected)) as caught:
            await upstream.send(
                peer.sent_request(),
                timeout_s=20,
                memory=UNCOUNTED,
                on_write=lambda: None,
            )
        upstream.close()
        listening.shutdown(socket.SHUT_RDWR)
        await server
    assert "TLS: " in caught.value.cause
    assert told in caught.value.cause


def refused(listening, tls):
    """Refuse the certificates of connections. asyncio would tell no reason."""
    with suppress(OSError):  # the end
        while True:
            connection, _ = listening.accept()
            with connection.dup() as kept:  # else a reset could overtake the alert
                with pytest.raises(ssl.SSLError):
                    tls.wrap_socket(connection, server_side=True)
                kept.shutdown(socket.SHUT_WR)
                kept.settimeout(20)
                while kept.recv(65536):
                    pass


async def test_what_does_not_speak_tls_is_told(certified):
    async def serve(_, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(UpstreamUnavailable) as caught:
        await calling(f"https://127.0.0.1:{port}")()
    assert caught.value.cause == "TLS: what answers does not speak TLS"
    server.close()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="verifies less strictly")
async def test_what_this_python_asks_for_beyond_earlier_ones_is_named(certified):
    certified.authority.issue("lax", *LOCALHOST, without=["authority key identifier"])
    cause = await certified.cause("lax")
    assert "CN=lax has no authority key identifier" in cause
