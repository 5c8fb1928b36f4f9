"""TLS where services call: who is known by a certificate, and how files change."""

import asyncio
import contextlib
import socket
import ssl
from datetime import timedelta

import pytest
from cryptography import x509

from gateway import preflight
from gateway.config import ListenerTls
from gateway.edge import tls
from gateway.errors import SetupError
from gateway.telemetry import floods
from gateway.telemetry.floods import SINGLY
from tests import peer
from tests.integration.caller import read_answer
from tests.integration.conftest import change
from tests.integration.pki import DAY, LOCALHOST, Authority, serial_of, trusting
from tests.integration.test_callers import OTHER, TOKEN, digest, holding
from tests.integration.test_limits import answer_of

SPIFFE = "spiffe://prod/catalogue"
URI = x509.UniformResourceIdentifier(SPIFFE)
PLAIN = {"certificate": "gateway.crt", "private_key": "gateway.key"}
MUTUAL = {**PLAIN, "client_ca": "ca.crt"}
BY_TOKEN = {"name": "catalogue", "token_sha256": digest(TOKEN), "clients": ["hk"]}
BY_NAME = {"name": "catalogue", "client_certificate": SPIFFE, "clients": ["hk"]}
REQUEST = (
    f"POST {peer.TARGET} HTTP/1.1\r\nHost: g\r\n"
    f"Content-Length: {len(peer.REQUEST_BODY)}\r\n"
    f"Authorization: Bearer {TOKEN}\r\n\r\n"
).encode() + peer.REQUEST_BODY


@pytest.fixture
def authority(tmp_path):
    """The authority of the gateway's certificate and of its callers'."""
    made = Authority(tmp_path)
    made.issue("gateway", *LOCALHOST)
    made.issue("catalogue", URI)
    return made


@pytest.fixture
def run_tls(run_house, monkeypatch):
    """Run a gateway with TLS, which looks at its files often."""
    monkeypatch.setattr(tls, "POLL_SECONDS", 0.05)

    def run(*callers, files=PLAIN, **settings):
        return run_house(inbound={"tls": files}, callers=[*callers], **settings)

    return run


async def test_a_caller_with_its_token_is_served_over_tls(run_tls, authority):
    async with run_tls(BY_TOKEN) as house:
        caller = house.caller.known_by(tls=trusting(authority))
        assert (await caller.known_by(TOKEN).post()).status == 200
        assert (await caller.known_by(OTHER).post()).status == 401
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await house.caller.known_by(TOKEN).post()  # plain HTTP
        assert len(house.wallet.arrived) == 1
        assert house.events("loop_error") == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_tls_before_1_2_is_not_spoken(run_tls, authority):
    old = trusting(authority)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with run_tls(BY_TOKEN) as house:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await house.caller.known_by(TOKEN, old).post()
        assert house.exchanges == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (SPIFFE, [URI]),
        ("catalogue.internal", [x509.DNSName("catalogue.internal")]),
        (SPIFFE, [x509.DNSName("other.internal"), URI]),
    ],
)
async def test_a_caller_is_known_by_a_name_of_its_certificate(
    run_tls, authority, name, shown
):
    authority.issue("catalogue", *shown)
    entry = {**BY_NAME, "client_certificate": name}
    async with run_tls(entry, files=MUTUAL) as house:
        caller = house.caller.known_by(tls=trusting(authority, "catalogue"))
        assert (await caller.post()).status == 200
        assert house.exchanges[0]["caller"] == "catalogue"


@pytest.mark.parametrize(
    "shown",
    [
        [],
        [x509.DNSName("localhost")],
        [x509.UniformResourceIdentifier(SPIFFE + "/more")],
        [x509.UniformResourceIdentifier("spiffe://prod")],
        [x509.UniformResourceIdentifier(SPIFFE.upper())],
        [x509.RFC822Name("catalogue@prod")],
        [x509.DNSName(SPIFFE)],
    ],
    ids=["none", "another", "longer", "shorter", "other letters", "mail", "wrong kind"],
)
async def test_another_name_of_the_same_authority_is_nobody(run_tls, authority, shown):
    authority.issue(SPIFFE.replace("/", ""), *shown)
    async with run_tls(BY_NAME, files=MUTUAL) as house:
        caller = trusting(authority, SPIFFE.replace("/", ""))
        got = await house.caller.known_by(tls=caller).post()
        assert (got.status, got.code) == (401, "unauthenticated")


async def test_a_common_name_is_no_name(run_tls, authority):
    authority.issue("catalogue", x509.DNSName("elsewhere"))
    entry = {**BY_NAME, "client_certificate": "catalogue"}
    async with run_tls(entry, files=MUTUAL) as house:
        caller = house.caller.known_by(tls=trusting(authority, "catalogue"))
        assert (await caller.post()).status == 401


@pytest.mark.parametrize("kind", ["another CA", "expired", "none"])
@pytest.mark.parametrize("required", [True, False])
async def test_a_certificate_that_does_not_verify_opens_nothing(
    run_tls, authority, kind, required
):
    stranger = Authority(authority.folder, "stranger")
    if kind == "another CA":
        stranger.issue("bad", URI)
    else:
        authority.issue("bad", URI, ends=-DAY)
    show = None if kind == "none" else "bad"
    # A token suffices for someone: then a certificate is not asked of everyone.
    more = [] if required else [{**BY_TOKEN, "name": "payments"}]
    async with run_tls(BY_NAME, *more, files=MUTUAL) as house:
        caller = house.caller.known_by(tls=trusting(authority, show))
        if kind == "none" and not required:
            assert (await caller.post()).status == 401
            assert (await caller.known_by(TOKEN).post()).status == 200
        else:
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await caller.known_by(TOKEN).post()
            assert house.exchanges == []
        assert house.events("loop_error") == []


@pytest.mark.parametrize(
    ("token", "show", "status"),
    [
        (TOKEN, "catalogue", 200),
        (TOKEN, None, 401),
        (None, "catalogue", 401),
        (OTHER, "catalogue", 401),
        (TOKEN, "other", 401),
    ],
)
async def test_who_has_both_must_show_both(run_tls, authority, token, show, status):
    authority.issue("other", x509.DNSName("other"))
    both = {**BY_TOKEN, "client_certificate": SPIFFE}
    async with run_tls(both, files=MUTUAL) as house:
        caller = house.caller.known_by(token, trusting(authority, show))
        assert (await caller.post()).status == status


async def serials(caller, wanted):
    """Connect until that certificate is shown, and give how often it was not."""
    async with asyncio.timeout(2):
        while True:
            _, writer = await caller.connect()
            shown = serial_of(writer)
            writer.close()
            if shown == wanted:
                return
            await asyncio.sleep(0.02)


async def test_a_new_certificate_is_shown_without_a_failed_exchange(run_tls, authority):
    async with run_tls(BY_TOKEN) as house, asyncio.TaskGroup() as tasks:
        answering = await holding(house)
        caller = house.caller.known_by(TOKEN, trusting(authority))
        reader, writer = await caller.connect()
        writer.write(REQUEST)
        under_way = tasks.create_task(read_answer(reader))
        await house.seen(lambda: house.wallet.arrived, "nothing arrived")
        before = serial_of(writer)
        after = authority.issue("gateway", *LOCALHOST)
        await serials(caller, after)
        answering.set()
        assert (await under_way).status == 200
        writer.write(REQUEST)  # the connection goes on as it began
        assert (await read_answer(reader)).status == 200
        assert serial_of(writer) == before != after
        writer.close()
        (event,) = house.events("certificates_loaded")
        assert event["setting"] == "inbound.tls"


async def test_files_that_are_swapped_by_a_symbolic_link_are_taken_up(
    run_tls, authority, tmp_path
):
    def lay(name):
        folder = tmp_path / name
        folder.mkdir()
        for end in ("crt", "key"):
            (tmp_path / f"gateway.{end}").rename(folder / f"gateway.{end}")
        link = tmp_path / ".link"
        link.symlink_to(name)
        link.rename(tmp_path / "data")

    lay("one")
    for end in ("crt", "key"):
        (tmp_path / f"tls.{end}").symlink_to(f"data/gateway.{end}")
    files = {"certificate": "tls.crt", "private_key": "tls.key"}
    async with run_tls(BY_TOKEN, files=files) as house:
        after = authority.issue("gateway", *LOCALHOST)
        lay("two")
        await serials(house.caller.known_by(tls=trusting(authority)), after)


async def test_half_a_swap_leaves_the_last_good_pair_and_says_so(run_tls, authority):
    folder = authority.folder
    async with run_tls(BY_TOKEN) as house:
        caller = house.caller.known_by(TOKEN, trusting(authority))
        _, writer = await caller.connect()
        before = serial_of(writer)
        writer.close()
        after = authority.issue("next", *LOCALHOST)
        (folder / "next.crt").replace(folder / "gateway.crt")
        await house.seen(lambda: house.events("certificates_refused"), "not seen")
        (event,) = house.events("certificates_refused")
        assert event["setting"] == "inbound.tls"
        assert "does not belong to the private key" in event["reason"]
        await serials(caller, before)
        assert (await caller.post()).status == 200
        ready = await house.admin_get("/readyz")
        assert ready.status == 200
        assert b"inbound.tls: the certificate loaded before stays in use" in ready.body
        series = 'gateway_tls_reload_failures_total{setting="inbound.tls"}'
        assert await house.metric(series) == 1
        (folder / "next.key").replace(folder / "gateway.key")
        await serials(caller, after)
        ready = await house.admin_get("/readyz")
        assert b"stays in use" not in ready.body


async def test_another_authority_of_callers_is_taken_up(run_tls, authority):
    async with run_tls(BY_NAME, files=MUTUAL) as house:
        caller = house.caller.known_by(tls=trusting(authority, "catalogue"))
        assert (await caller.post()).status == 200
        Authority(authority.folder, "next")
        trusts = trusting(authority, "catalogue")
        (authority.folder / "next.crt").replace(authority.file)
        await house.seen(lambda: house.events("certificates_loaded"), "not seen")
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await house.caller.known_by(tls=trusts).post()


async def test_a_reload_turns_the_listener_to_other_files(run_tls, authority):
    after = authority.issue("second", *LOCALHOST)

    def turn(settings):
        settings["inbound"]["tls"] = {
            "certificate": "second.crt",
            "private_key": "second.key",
        }

    async with run_tls(BY_TOKEN) as house:
        await change(house, turn)
        caller = house.caller.known_by(TOKEN, trusting(authority))
        await serials(caller, after)
        assert (await caller.post()).status == 200


async def test_a_file_that_changes_while_it_is_read_ends_nothing(
    run_tls, authority, monkeypatch
):
    """Looked at and found good, then spoiled before OpenSSL reads it."""
    look = preflight._listener_flaws

    def look_then_spoil(files):
        yield from look(files)
        if spoil:
            authority.write("gateway.crt", b"half a certif")

    spoil = False
    monkeypatch.setattr(preflight, "_listener_flaws", look_then_spoil)
    async with run_tls(BY_TOKEN) as house:
        spoil = True
        authority.issue("gateway", *LOCALHOST)
        await house.seen(lambda: house.events("certificates_refused"), "not seen")
        spoil = False
        caller = house.caller.known_by(TOKEN, trusting(authority))
        assert (await caller.post()).status == 200
        await serials(caller, authority.issue("gateway", *LOCALHOST))


def test_a_file_that_changes_while_it_is_read_is_told_in_words(authority, monkeypatch):
    monkeypatch.setattr(preflight, "_listener_flaws", lambda _: [])
    monkeypatch.setattr(preflight, "_client_flaws", lambda _: [])
    folder = authority.folder
    authority.write("gateway.crt", b"half a certif")
    pair = {
        "certificate": folder / "gateway.crt",
        "private_key": folder / "gateway.key",
    }
    with pytest.raises(SetupError, match=r"inbound\.tls: .*not PEM"):
        preflight.listener_tls("inbound.tls", ListenerTls(**pair), required=True)
    with pytest.raises(SetupError, match=r"client hk: tls: .*not PEM"):
        preflight.client_tls("client hk: tls", preflight.Tls(**pair))


async def test_a_key_with_a_passphrase_is_refused_in_words_and_none_is_asked_for(
    run_tls, authority, monkeypatch
):
    def ask(*_):
        pytest.fail("the terminal was asked")

    monkeypatch.setattr("getpass.getpass", ask)
    authority.issue("gateway", *LOCALHOST, passphrase=b"canary")
    with pytest.raises(ExceptionGroup) as caught:
        async with run_tls(BY_TOKEN):
            pytest.fail("it started")
    (error,) = caught.value.exceptions
    assert isinstance(error, SetupError)
    assert "inbound.tls.private_key: " in error.detail
    assert "encrypted with a passphrase" in error.detail
    assert "canary" not in error.detail


async def test_a_half_that_is_closed_over_tls_breaks_nothing(
    run_tls, authority, caplog
):
    """Neither the answer is lost nor the exchange, whether its caller reads on or not."""
    async with run_tls(BY_TOKEN) as house:
        answering = await holding(house)
        caller = house.caller.known_by(TOKEN, trusting(authority))
        _, writer = await caller.connect()
        writer.write(REQUEST)
        await house.seen(lambda: house.wallet.arrived, "nothing arrived")
        writer.close()  # says so in TLS first, and waits for the other side's end
        await asyncio.sleep(0.05)
        answering.set()
        await house.seen(lambda: house.exchanges, "the exchange was lost")
        (line,) = house.exchanges
        assert (line["code"], line["delivered"]) == ("verified", True)
        with contextlib.suppress(OSError):
            await writer.wait_closed()  # its library reads no data behind its own end
        assert (await caller.post()).status == 200
        assert house.events("loop_error") == []
    assert caplog.text == ""


async def test_the_certificate_shown_to_alipayhk_is_swapped_live(
    run_house, authority, monkeypatch
):
    monkeypatch.setattr(tls, "POLL_SECONDS", 0.05)
    authority.issue("wallet", *LOCALHOST)
    before = authority.issue("partner", URI)
    wallet = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    wallet.load_cert_chain(
        authority.folder / "wallet.crt", authority.folder / "wallet.key"
    )
    wallet.verify_mode = ssl.CERT_REQUIRED
    shown = []
    files = {
        "ca_file": "ca.crt",
        "certificate": "partner.crt",
        "private_key": "partner.key",
    }
    async with run_house(
        wallet_tls=wallet, scheme="https", client={"tls": files}
    ) as house:

        def answer(request):
            shown.append(serial_of(house.wallet.writer))
            reply = house.wallet.success(request)
            reply.close = True  # so that the next one makes a connection
            return reply

        house.wallet.answer = answer
        assert (await house.caller.post()).status == 200
        after = authority.issue("partner", URI)
        await house.seen(lambda: house.events("certificates_loaded"), "not seen")
        assert (await house.caller.post()).status == 200
        assert shown == [before, after]
        Authority(authority.folder, "next")
        (authority.folder / "next.crt").replace(authority.file)
        await house.seen(
            lambda: len(house.events("certificates_loaded")) == 2, "not seen"
        )
        got = await house.caller.post()
        assert (got.status, got.code) == (503, "upstream_unavailable")
        assert "certificate does not verify" in got.problem["detail"]


@pytest.mark.parametrize(
    "said", [b"", b"\x16\x03\x01\x02\x00"], ids=["silent", "stalled"]
)
async def test_a_handshake_that_does_not_come_to_its_end_is_given_up(
    run_house, authority, said
):
    inbound = {"tls": PLAIN, "head_timeout_s": 0.3}
    async with run_house(inbound=inbound, callers=[BY_TOKEN]) as house:
        reader, writer = await house.caller.connect()  # without TLS
        writer.write(said)
        await house.seen_metric("gateway_connections", 1)
        assert await ended(reader)
        writer.close()
        await house.seen_metric("gateway_connections", 0)
        assert house.events("loop_error") == []


async def test_a_caller_that_does_not_read_is_cut_off_over_tls_too(
    run_house, authority
):
    """asyncio takes an answer over TLS whole, and says that it was taken."""
    limits = {"tls": PLAIN, "write_timeout_s": 0.5}
    async with run_house(inbound=limits, callers=[BY_TOKEN]) as house:
        house.wallet.answer = answer_of(house, 8 << 20)
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", house.caller.port))
        _, writer = await asyncio.open_connection(
            sock=deaf, ssl=trusting(authority), server_hostname="localhost"
        )
        writer.transport.pause_reading()
        writer.write(REQUEST)
        await house.seen(lambda: house.exchanges, "it was not cut off")
        assert house.exchanges[0]["delivered"] is False
        assert await house.metric("gateway_buffered_bytes") == 0
        writer.transport.abort()


async def ended(reader):
    """Wait until a connection is closed or reset. Gives whether nothing came first."""
    async with asyncio.timeout(5):
        (got,) = await asyncio.gather(reader.read(), return_exceptions=True)
    return got == b"" or isinstance(got, ConnectionError)


async def test_handshakes_count_as_connections_and_give_way_to_newcomers(
    run_house, authority
):
    inbound = {"tls": PLAIN, "max_connections": 3}
    async with run_house(inbound=inbound, callers=[BY_TOKEN]) as house:
        caller = house.caller.known_by(TOKEN, trusting(authority))
        reader, writer = await caller.connect()
        writer.write(REQUEST)
        assert (await read_answer(reader)).status == 200
        silent = [await house.caller.connect() for _ in range(22)]  # without TLS
        for each in silent[:20]:
            assert await ended(each[0])
        assert await house.metric("gateway_connections") == 3
        assert await house.metric("gateway_connections_refused_total") == 20
        writer.write(REQUEST)  # who was heard before is served
        assert (await read_answer(reader)).status == 200
        assert (await caller.post()).status == 200
        for each in (writer, *(each[1] for each in silent)):
            each.close()
        await house.seen_metric("gateway_connections", 0)
        assert house.events("loop_error") == []


# --- handshakes that fail ----------------------------------------------------


@pytest.mark.parametrize("listener", ["inbound", "admin"])
async def test_a_handshake_that_fails_is_an_event_with_its_peer_and_why(
    run_house, authority, listener
):
    inbound, admin = ({"tls": {**MUTUAL}} for _ in range(2))
    async with run_house(inbound=inbound, admin=admin, callers=[BY_NAME]) as house:
        caller = house.caller if listener == "inbound" else house.admin
        reader, writer = await caller.connect()
        host, port = writer.get_extra_info("sockname")
        writer.write(b"POST / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        await house.seen(lambda: house.events("handshake_failed"), "no event")
        (event,) = house.events("handshake_failed")
        del event["time"]
        assert event == {
            "event": "handshake_failed",
            "level": "warning",
            "listener": listener,
            "reason": "it spoke plain HTTP to a TLS listener",
            "peer": f"{host}:{port}",
        }
        name = f'gateway_tls_handshakes_failed_total{{listener="{listener}"}}'
        house.admin.tls = trusting(authority, "catalogue")
        assert await house.metric(name) == 1
        assert house.exchanges == []


async def test_many_handshakes_that_fail_are_few_events(
    run_tls, authority, monkeypatch
):
    monkeypatch.setattr(floods, "EVERY", timedelta(minutes=10))
    async with run_tls(BY_TOKEN) as house:
        for _ in range(SINGLY + 30):
            reader, writer = await house.caller.connect()
            writer.write(b"x" * 64)
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
        name = 'gateway_tls_handshakes_failed_total{listener="inbound"}'
        await house.seen_metric(name, SINGLY + 30)
    alone, sums = house.events("handshake_failed"), house.events("handshakes_failed")
    assert len(alone) == SINGLY
    (whole,) = sums
    assert (whole["listener"], whole["count"], whole["peers"]) == ("inbound", 30, 1)
