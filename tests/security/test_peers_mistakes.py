"""Mistakes found in real peers (docs/threat-model.md), each shown to be absent here."""

import ast
import asyncio
import json
import logging
import os
import random
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from gateway import config
from gateway.edge import tls
from gateway.edge.tls import Certificates, client_context, server_context
from gateway.errors import DecryptionFailed, SetupError
from gateway.plant import ENTROPY
from gateway.protocol import SignatureField, decrypt, verify_response
from gateway.trees import DocumentError
from tests import peer
from tests.integration.conftest import write_ring
from tests.integration.test_rotation import swap
from tests.integration.test_tls import server_side

ROOT = Path(__file__).resolve().parents[2]
ENCRYPT = [("Gateway-Encrypt", "true")]
CANARY = "canary-0b77d1"


async def code_of(house, answer, headers=()):
    """Give the code that an answer of AlipayHK's ends in, once nothing of it is shown."""
    house.wallet.answer = answer
    got = await house.caller.post(headers=headers)
    assert got.status == 502
    assert b"SUCCESS" not in got.body
    return got.code


def replaced(house, name, *values):
    def answer(request):
        reply = house.wallet.success(request)
        reply.headers = peer.with_header(reply.headers, name, *values)
        return reply

    return answer


async def test_tls_verification_cannot_be_disabled(run_house, pki, monkeypatch):
    for name in ("PYTHONHTTPSVERIFY", "NODE_TLS_REJECT_UNAUTHORIZED", "SSL_VERIFY"):
        monkeypatch.setenv(name, "0")
    context = client_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    async with run_house(wallet_tls=server_side(pki), scheme="https") as house:
        got = await house.caller.post()
        assert (got.code, got.problem["outcome"]) == (
            "upstream_unavailable",
            "not_sent",
        )
        assert house.wallet.arrived == []
        settings = yaml.safe_load(house.file.read_text())
        for key in ("verify", "verify_tls", "insecure", "check_hostname"):
            settings["clients"][0]["tls"] = {key: "false"}
            house.file.write_text(yaml.safe_dump(settings))
            with pytest.raises(DocumentError, match=f"{key}: unknown key"):
                config.load(house.file, {})


async def test_an_empty_or_partial_signature_is_refused(house):
    start = "algorithm=RSA256,keyVersion=1"
    for value in ("", " ", "algorithm=RSA256", start, f"{start},signature="):
        refused = await code_of(house, replaced(house, "Signature", value))
        assert refused in ("signature_missing", "signature_invalid")
    for size in (1, 20, 255):

        def cut(request, size=size):
            reply = house.wallet.success(request)
            whole = SignatureField.parse(dict(reply.headers)["Signature"]).signature
            text = peer.signature_header(whole[:size])
            reply.headers = peer.with_header(reply.headers, "Signature", text)
            return reply

        assert await code_of(house, cut) == "signature_invalid"
    for name in ("Signature", "Response-Time"):
        assert await code_of(house, replaced(house, name)) == "signature_missing"


async def test_a_plain_answer_to_an_encrypted_request_is_refused(house):
    assert (
        await code_of(house, house.wallet.success, ENCRYPT) == "encryption_downgraded"
    )
    empty = replaced(house, "Encrypt", "")
    assert await code_of(house, empty, ENCRYPT) == "encryption_downgraded"


async def test_the_verify_result_is_never_ignored(house, other_key):
    """Whatever the status and the wish, a stranger's signature ends the exchange."""
    for status in (200, 400, 500):
        for make in (house.wallet.signed, house.wallet.encrypted):
            for headers in ((), ENCRYPT):

                def answer(request, make=make, status=status):
                    return make(request, peer.SUCCESS, key=other_key, status=status)

                assert await code_of(house, answer, headers) == "signature_invalid"


ODD_BODIES = {
    "newlines": b'{"a":1,\r\n\n\r"resultInfo":{"resultStatus":"S"}}\r\n',
    "spaces and order": b'{ "z" : 1.0e0 , "a":"\\u0041\\/" , "z":2}',
    "UTF-8": '{"a":"é\u2028😀"}'.encode(),
}
NO_OBJECTS = {
    "Latin-1": '{"a":"é"}'.encode("latin-1"),
    "a byte order mark": b'\xef\xbb\xbf{"a":1}',
    "a NUL": b'{"a":1}\x00',
}
ALTERED = {
    "newlines": lambda body: body.replace(b"\r\n", b"\n"),
    "spaces and order": lambda body: json.dumps(json.loads(body)).encode(),
    "UTF-8": lambda body: body.decode().encode("ascii", "xmlcharrefreplace"),
    "Latin-1": lambda body: body.decode("latin-1").encode(),
    "a byte order mark": lambda body: body.removeprefix(b"\xef\xbb\xbf"),
    "a NUL": lambda body: body.rstrip(b"\x00"),
}


@pytest.mark.parametrize("name", [*ODD_BODIES, *NO_OBJECTS])
async def test_no_body_is_altered_before_verification(house, name):
    body = (ODD_BODIES | NO_OBJECTS)[name]

    def unaltered(request):
        return house.wallet.signed(request, body)

    if name in ODD_BODIES:
        house.wallet.answer = unaltered
        assert (await house.caller.post()).body == body
    else:  # its signature holds, so it was not altered before that
        assert await code_of(house, unaltered) == "response_malformed"

    def altered(request):
        reply = house.wallet.signed(request, body)
        reply.body = ALTERED[name](body)
        assert reply.body != body
        return reply

    assert await code_of(house, altered) == "signature_invalid"


async def test_content_keys_come_from_the_operating_system(house, platform_key):
    keys = []
    for _ in range(8):
        random.seed(1)
        await house.caller.post(headers=ENCRYPT)
        wrapped = peer_value(house.wallet.arrived[-1].header("Encrypt"))
        keys.append(platform_key.decrypt(wrapped, padding.PKCS1v15()))
    assert len({*keys}) == 8
    assert {len(key) for key in keys} == {32}
    assert ENTROPY is os.urandom
    for file in (ROOT / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [each.name for each in node.names]
                module = getattr(node, "module", None)
                assert "random" not in (*names, module), file


def peer_value(header):
    import base64
    from urllib.parse import unquote

    return base64.b64decode(unquote(header.rpartition("=")[2]))


@pytest.mark.parametrize("size", range(256))
def test_unpadding_checks_everything(size, platform_key, platform_public):
    """Each number as padding, and each of its bytes changed: only PKCS#7 opens."""
    padded = min(size or 16, 16)
    plain = b"{" + b" " * (30 - padded) + b"}"
    for wrong in range(padded if 1 <= size <= 16 else 1):
        blocks = bytearray(plain + bytes([size]) * padded)
        if wrong:  # not the last one, which says how many there are
            blocks[-1 - wrong] ^= 1
        received = peer.answer(
            platform_key, peer.seal_padded(bytes(blocks)), encrypt="x"
        )
        verified = verify_response(
            received,
            request=peer.sent_request(),
            keys=[platform_public],
            freshness=peer.FRESH,
        )
        if 1 <= size <= 16 and not wrong:
            assert decrypt(verified, peer.CONTENT_KEY) == plain
            continue
        with pytest.raises(DecryptionFailed):
            decrypt(verified, peer.CONTENT_KEY)


@pytest.mark.parametrize(
    "place",
    [("client_id",), ("keyring",), ("upstream",), ("tls", "ca_file")],
    ids=lambda place: place[-1],
)
@pytest.mark.parametrize("text", ["${UNSET_SECRET}", "x-${UNSET_SECRET}", "${UNSET"])
async def test_an_unresolved_variable_is_never_the_literal(house, place, text):
    settings = yaml.safe_load(house.file.read_text())
    entry = settings["clients"][0]
    for step in place[:-1]:
        entry = entry.setdefault(step, {})
    entry[place[-1]] = text
    house.file.write_text(yaml.safe_dump(settings))
    with pytest.raises(DocumentError) as caught:
        config.load(house.file, {})
    assert [problem.where for problem in caught.value.problems] == [
        ".".join(("clients[0]", *place))
    ]


async def test_no_verbosity_shows_a_request(house, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    body = b'{"requestId":"%s"}' % CANARY.encode()
    headers = [("Authorization", f"Bearer {CANARY}"), ("X-Other", CANARY)]
    answers = [
        house.wallet.success,
        lambda _: CANARY.encode(),
        replaced(house, "Signature"),
    ]
    for answer in answers:
        house.wallet.answer = answer
        await house.caller.post(body, headers=headers)
    await house.caller.raw(f"POST /{CANARY} HTTP/1.1\r\n{CANARY}\r\n\r\n".encode())
    asyncio.get_running_loop().set_debug(False)
    printed = capfd.readouterr()
    shown = [house.stdout.getvalue(), house.stderr.getvalue(), caplog.text]
    assert CANARY not in "\n".join([*shown, printed.out, printed.err])


@pytest.mark.parametrize("option", ["--verbose", "--log-level=debug"])
def test_there_is_no_verbosity_to_set(option):
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", option],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "unrecognized arguments" in done.stderr


async def test_internal_errors_are_not_echoed(house, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError(CANARY)

    for place in ("check_request_body", "verify_response", "format_time"):
        with monkeypatch.context() as patch:
            patch.setattr(f"gateway.relay.exchange.{place}", fail)
            got = await house.caller.post()
        assert (got.status, got.code) == (500, "internal_error")
        text = str(got) + house.stdout.getvalue() + house.stderr.getvalue()
        assert CANARY not in text
        assert "Traceback" not in text
        assert "ZeroDivisionError" not in str(got)


async def test_the_client_id_of_an_answer_is_not_believed(house):
    def answer(request):
        return house.wallet.signed(request, peer.SUCCESS, client_id="OTHER")

    assert await code_of(house, answer) == "client_id_mismatch"

    def relabelled(request):  # signed for another, and given our name
        reply = answer(request)
        ours = request.header("Client-Id")
        reply.headers = peer.with_header(reply.headers, "Client-Id", ours)
        return reply

    assert await code_of(house, relabelled) == "signature_invalid"


@pytest.mark.parametrize(
    "hashed", [hashes.SHA1, hashes.SHA384, hashes.SHA512, hashes.MD5]
)
@pytest.mark.parametrize("named", ["RSA256", "RSA512", "SHA512", "none"])
async def test_the_hash_algorithm_is_pinned(house, platform_key, hashed, named):
    def answer(request):
        reply = house.wallet.success(request)
        base = peer.signature_base(
            time=dict(reply.headers)["Response-Time"], body=reply.body
        )
        value = peer.signature_header(peer.rsa256(platform_key, base, hashed()))
        value = value.replace("RSA256", named)
        reply.headers = peer.with_header(reply.headers, "Signature", value)
        return reply

    assert await code_of(house, answer) == "signature_invalid"


async def test_one_signer_serves_concurrent_requests(house, partner_key):
    async def echo(request):
        await asyncio.sleep(0)
        if request.header("Encrypt"):
            wrapped = peer_value(request.header("Encrypt"))
            key = house.wallet.platform_key.decrypt(wrapped, padding.PKCS1v15())
            return house.wallet.encrypted(request, peer.unseal(request.body, key))
        return house.wallet.signed(request, request.body)

    house.wallet.answer = echo
    bodies = [b'{"requestId":"%d","resultInfo":{}}' % number for number in range(120)]
    got = await asyncio.gather(
        *(
            house.caller.post(body, headers=ENCRYPT if number % 2 else ())
            for number, body in enumerate(bodies)
        )
    )
    assert [each.body for each in got] == bodies
    assert {each.header("Gateway-Verified") for each in got} == {"true"}
    assert len(house.wallet.arrived) == 120
    for request in house.wallet.arrived:
        base = peer.signature_base(
            time=request.header("Request-Time"), body=request.body
        )
        signature = peer_value(request.header("Signature"))
        partner_key.public_key().verify(
            signature, base, padding.PKCS1v15(), hashes.SHA256()
        )


async def test_private_addresses_can_be_refused(run_house, monkeypatch):
    """By name, wherever it leads; a private address itself is refused at the start."""
    with pytest.raises(SetupError, match="not in the public internet"):
        async with run_house(client={"public_addresses_only": True}):
            pass
    loop = asyncio.get_running_loop()
    look_up = loop.getaddrinfo

    async def rebound(host, *args, **kwargs):
        name = "127.0.0.1" if host == "open.example" else host
        return await look_up(name, *args, **kwargs)

    monkeypatch.setattr(loop, "getaddrinfo", rebound)
    client = {"public_addresses_only": True, "upstream": "https://open.example:1"}
    async with run_house(client=client) as house:
        got = await house.caller.post()
        assert (got.code, got.problem["outcome"]) == (
            "upstream_unavailable",
            "not_sent",
        )
        assert house.wallet.connections == 0


async def test_a_host_header_overrides_nothing(house):
    lengths = f"Content-Length: {len(peer.REQUEST_BODY)}\r\nConnection: close\r\n\r\n"
    for host in ("gateway:80", "localhost:1", "localhost", "", "127.0.0.1"):
        for extra in ("", "X-Forwarded-Host: evil.example\r\nForwarded: host=evil\r\n"):
            head = f"POST {peer.TARGET} HTTP/1.1\r\nHost: {host}\r\n{extra}{lengths}"
            got = await house.caller.raw(head.encode() + peer.REQUEST_BODY)
            assert got.status == 200
            arrived = house.wallet.arrived[-1]
            assert arrived.header("Host") == f"localhost:{house.wallet.port}"
            assert "evil" not in str(arrived.headers)
            unknown = head.replace(peer.TARGET, "/admin", 1).encode()
            refused = await house.caller.raw(unknown + peer.REQUEST_BODY)
            assert refused.code == "unknown_route"
    for host in ("evil.example", "open.alipay.hk", "127.0.0.1.nip.io"):
        head = f"POST {peer.TARGET} HTTP/1.1\r\nHost: {host}\r\n{lengths}"
        got = await house.caller.raw(head.encode() + peer.REQUEST_BODY)
        assert got.code == "forbidden"
    twice = f"POST {peer.TARGET} HTTP/1.1\r\nHost: a\r\nHost: b\r\n{lengths}"
    got = await house.caller.raw(twice.encode() + peer.REQUEST_BODY)
    assert got.code == "invalid_request"
    assert len(house.wallet.arrived) == 10


async def test_a_swapped_link_leaves_no_stale_credential(
    run_house, tmp_path, partner_key, platform_key, other_key
):
    """Once the link points elsewhere, the old key neither signs nor decrypts."""
    write_ring(tmp_path / "old", partner_key, platform_key)
    write_ring(tmp_path / "new", other_key, platform_key)
    manifest = tmp_path / "new" / "keyring.yaml"
    text = manifest.read_text().replace("generation: 1", "generation: 2")
    manifest.write_text(
        text.replace('partner:\n  - {version: "1"', 'partner:\n  - {version: "2"')
    )
    swap(tmp_path / "current", "old")
    async with run_house(client={"keyring": "current"}) as house:
        house.wallet.answer = lambda r: house.wallet.encrypted(r, peer.SUCCESS)
        assert (await house.caller.post()).status == 200
        swap(tmp_path / "current", "new")
        await house.seen(
            lambda: any(e["generation"] == 2 for e in house.events("keyring_loaded")),
            "not taken up",
        )
        assert (await house.caller.post()).code == "key_version_unknown"
        house.wallet.partner_public = other_key.public_key()
        house.wallet.answer = lambda r: house.wallet.encrypted(
            r, peer.SUCCESS, version="2"
        )
        assert (await house.caller.post()).status == 200
    signers = [request.header("Signature") for request in house.wallet.arrived]
    assert ["keyVersion=2" in each for each in signers] == [False, True, True]


async def test_a_bad_new_certificate_causes_no_endless_retry(pki, monkeypatch):
    monkeypatch.setattr(tls, "POLL_SECONDS", 0.001)
    made, told = [], []
    files = pki / "wallet.crt", pki / "wallet.key"

    def make():
        made.append(1)
        try:
            return server_context(*files)
        except OSError:
            raise SetupError("bad") from None

    class Listener:
        def certificates_loaded(self, setting):
            told.append("loaded")

        def certificates_refused(self, setting, reason):
            told.append("refused")

    looks = []

    class Watched(Certificates):
        def _state(self):
            looks.append(1)
            return super()._state()

    certificates = Watched("inbound.tls", files, make, Listener())
    first = certificates.context.present
    watching = asyncio.create_task(certificates.watch())
    good = files[0].read_bytes()
    files[0].write_bytes(b"-----BEGIN CERTIFICATE-----\nnone\n")
    await until(lambda: told)
    after = len(looks) + 50
    await until(lambda: len(looks) > after)
    assert (len(made), told) == (2, ["refused"])
    assert certificates.context.present is first
    files[0].write_bytes(good)
    await until(lambda: len(told) > 1)
    watching.cancel()
    assert (len(made), told) == (3, ["refused", "loaded"])


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - files are watched
            await asyncio.sleep(0.001)
