"""Answers that must not pass, one by one, for plain and for encrypted exchanges."""

import asyncio
import base64
import gzip
import socket
import struct
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote_to_bytes

import pytest

from tests import peer
from tests.integration.conftest import point_at
from tests.integration.wallet import Reply

REFUSALS = {"F": peer.FAILURE, "U": peer.UNKNOWN}
ENCRYPT = [("Gateway-Encrypt", "true")]
JSON_HEADERS = [("Content-Type", "application/json")]


def unsigned(body, status=200):
    return lambda _wallet, _request: plain_reply(status, JSON_HEADERS, body)


def typed(content_type):
    headers = [("Content-Type", content_type), ("Tracer-Id", "t1")]
    return lambda _wallet, _request: plain_reply(400, headers, peer.FAILURE)


def plain_reply(status, headers, body):
    return Reply(status, list(headers), body)


def changed(change):
    """Give an answer of success whose headers or body are changed once signed."""

    def answer(wallet, request):
        reply = wallet.success(request)
        change(reply)
        return reply

    return answer


def header(name, value):
    def change(reply):
        reply.headers = peer.with_header(reply.headers, name, *value)

    return changed(change)


def repeated(name):
    def change(reply):
        value = dict(reply.headers).get(name, "x")
        reply.headers.append((name.lower(), value))

    return changed(change)


def body(value):
    return changed(lambda reply: setattr(reply, "body", value))


def flip_signature(reply):
    text = dict(reply.headers)["Signature"]
    raw = base64.b64decode(unquote_to_bytes(text.rpartition("signature=")[2]))
    flipped = bytes([raw[0] ^ 1]) + raw[1:]
    reply.headers = peer.with_header(
        reply.headers, "Signature", peer.signature_header(flipped)
    )


def when(**shift):
    moment = datetime.now(UTC) + timedelta(**shift)
    return moment.isoformat(timespec="seconds")


def encrypted_to_another(wallet, request, version):
    reply = wallet.signed(request, peer.seal(peer.SUCCESS))
    wrapped = peer.wrap(wallet.platform_key.public_key())
    reply.headers.append(("Encrypt", peer.encrypt_header(wrapped, version)))
    return reply


def compressed(wallet, request):
    reply = wallet.signed(request, gzip.compress(peer.SUCCESS))
    reply.headers.append(("Content-Encoding", "gzip"))
    return reply


SIGNATURE = "algorithm=RSA256,keyVersion=1,signature="
UNTRUSTED = {
    "another body": (body(peer.SUCCESS + b" "), "signature_invalid"),
    "a body without its last byte": (body(peer.SUCCESS[:-1]), "signature_invalid"),
    "a flipped signature": (changed(flip_signature), "signature_invalid"),
    "garbage for a signature": (header("Signature", ["nonsense"]), "signature_invalid"),
    "an empty signature value": (header("Signature", [SIGNATURE]), "signature_invalid"),
    "a short signature": (
        header("Signature", [SIGNATURE + "QUJD"]),
        "signature_invalid",
    ),
    "another algorithm": (
        header("Signature", ["algorithm=ECC224,keyVersion=1,signature=QUJD"]),
        "signature_invalid",
    ),
    "no Signature": (header("Signature", []), "signature_missing"),
    "an empty Signature": (header("Signature", [""]), "signature_missing"),
    "no Response-Time": (header("Response-Time", []), "signature_missing"),
    "an empty Response-Time": (header("Response-Time", [""]), "signature_missing"),
    "another time": (
        header("Response-Time", ["2026-01-01T00:00:00+08:00"]),
        "signature_invalid",
    ),
    "no Client-Id": (header("Client-Id", []), "client_id_mismatch"),
    "another Client-Id": (header("Client-Id", ["EVIL"]), "client_id_mismatch"),
    "another Client-Id, signed": (
        lambda w, r: w.signed(r, peer.SUCCESS, client_id="EVIL"),
        "client_id_mismatch",
    ),
    "another target, signed": (
        lambda w, r: w.signed(r, peer.SUCCESS, target="/other"),
        "signature_invalid",
    ),
    "an unknown key version": (
        lambda w, r: w.signed(r, peer.SUCCESS, version="99"),
        "key_version_unknown",
    ),
    "a time too early": (
        lambda w, r: w.signed(r, peer.SUCCESS, time=when(seconds=-400)),
        "response_stale",
    ),
    "a time too late": (
        lambda w, r: w.signed(r, peer.SUCCESS, time=when(seconds=400)),
        "response_stale",
    ),
    "a signed time that is none": (
        lambda w, r: w.signed(r, peer.SUCCESS, time="soon"),
        "response_malformed",
    ),
    "a signed time without a zone": (
        lambda w, r: w.signed(r, peer.SUCCESS, time="2026-11-23T14:00:00"),
        "response_malformed",
    ),
    "Signature twice": (repeated("Signature"), "response_malformed"),
    "Response-Time twice": (repeated("Response-Time"), "response_malformed"),
    "Client-Id twice": (repeated("Client-Id"), "response_malformed"),
    "Content-Type twice": (repeated("Content-Type"), "response_malformed"),
    "Encrypt twice": (header("Encrypt", ["a=b", "a=b"]), "response_malformed"),
    "an unsigned success": (unsigned(peer.SUCCESS), "signature_missing"),
    "an unsigned unknown status": (
        unsigned(b'{"resultInfo":{"resultStatus":"X"}}'),
        "signature_missing",
    ),
    "an unsigned status in lower case": (
        unsigned(b'{"resultInfo":{"resultStatus":"f"}}'),
        "signature_missing",
    ),
    "an unsigned object without a result": (unsigned(b"{}"), "signature_missing"),
    "an unsigned empty body": (unsigned(b""), "signature_missing"),
    "unsigned text": (unsigned(b"<html>F</html>", 502), "signature_missing"),
    "an unsigned success in another envelope": (
        unsigned(b'{"result":{"resultStatus":"S"}}'),
        "signature_missing",
    ),
    "an unsigned body with two results": (
        unsigned(b'{"result":{"resultStatus":"F"},"resultInfo":{"resultStatus":"S"}}'),
        "signature_missing",
    ),
    "an unsigned body with a result twice": (
        unsigned(b'{"result":{"resultStatus":"S"},"result":{"resultStatus":"F"}}'),
        "signature_missing",
    ),
    "an unsigned redirect": (
        lambda _w, _r: plain_reply(302, [("Location", "http://evil/")], b""),
        "signature_missing",
    ),
    "an unsigned refusal that looks like a problem of ours": (
        typed("application/problem+json"),
        "response_malformed",
    ),
    "such a refusal in other letters": (
        typed("Application/Problem+JSON; charset=utf-8"),
        "response_malformed",
    ),
    "such a refusal under two names": (
        typed("application/json, application/problem+json"),
        "response_malformed",
    ),
    "an encrypted answer that is no base64": (
        header("Encrypt", ["algorithm=RSA_AES,keyVersion=1,symmetricKey=QUJD"]),
        "decryption_failed",
    ),
    "an Encrypt header that cannot be read": (
        header("Encrypt", ["nonsense"]),
        "decryption_failed",
    ),
    "encryption to a key that is not held": (
        lambda w, r: encrypted_to_another(w, r, version="99"),
        "key_version_unknown",
    ),
    "a compressed answer": (
        compressed,
        "response_malformed",
    ),
    "a length twice": (
        lambda w, r: raw(w, r, b"Content-Length: 5\r\nContent-Length: 5\r\n"),
        "response_malformed",
    ),
    "a length and chunks": (
        lambda w, r: raw(w, r, b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        "response_malformed",
    ),
    "another coding": (
        lambda w, r: raw(w, r, b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
        "response_malformed",
    ),
    "no HTTP": (lambda _w, _r: b"220 smtp.example ESMTP\r\n\r\n", "response_malformed"),
    "a header without a name": (
        lambda w, r: raw(w, r, b": x\r\nContent-Length: 0\r\n"),
        "response_malformed",
    ),
    "a header of 20 KiB": (
        lambda w, r: raw(w, r, b"X: " + b"x" * 20480 + b"\r\nContent-Length: 0\r\n"),
        "response_malformed",
    ),
    "another protocol": (
        lambda _w, _r: (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
        ),
        "response_malformed",
    ),
    "a length that is announced too large": (
        lambda w, r: raw(w, r, b"Content-Length: 1073741824\r\n"),
        "response_too_large",
    ),
    "a body that is too large": (
        lambda w, r: w.signed(r, b'{"a":"' + b"x" * 70_000 + b'"}'),
        "response_too_large",
    ),
    "chunks that are too large": (
        lambda w, r: raw(
            w, r, b"Transfer-Encoding: chunked\r\n", b"11170\r\n" + b"x" * 70_000
        ),
        "response_too_large",
    ),
}


def raw(_wallet, _request, headers, body=b""):
    return b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n" + body


@pytest.fixture
async def house(run_house):
    async with run_house(
        client={"max_response_bytes": 65536}, route={"timeout_s": 5}
    ) as running:
        yield running


@pytest.mark.parametrize("encrypt", [[], ENCRYPT], ids=["plain", "encrypted"])
@pytest.mark.parametrize(("answer", "code"), UNTRUSTED.values(), ids=UNTRUSTED.keys())
async def test_an_untrusted_answer_is_a_problem_and_shows_nothing_of_it(
    house, answer, code, encrypt
):
    house.wallet.answer = lambda request: answer(house.wallet, request)
    got = await house.caller.post(headers=encrypt)
    assert got.status == 502
    assert got.code == code
    assert got.problem["outcome"] == "answered"
    assert got.problem["exchange_id"] == got.header("Gateway-Exchange-Id")
    assert got.header("Gateway-Verified") is None
    assert b"SUCCESS" not in got.body
    assert len(house.wallet.arrived) == 1
    assert house.exchanges[-1]["code"] == code
    assert house.exchanges[-1]["outcome"] == "answered"
    assert "result_code" not in house.exchanges[-1]


async def test_a_signed_answer_that_looks_like_a_problem_of_ours_is_no_answer(house):
    """Its signature does not cover the type, by which callers tell a problem."""
    answer = header("Content-Type", ["application/problem+json"])
    house.wallet.answer = lambda request: answer(house.wallet, request)
    got = await house.caller.post()
    assert (got.status, got.code) == (502, "response_malformed")
    assert got.problem["outcome"] == "answered"
    assert got.header("Gateway-Verified") is None
    assert b"SUCCESS" not in got.body
    line = house.exchanges[-1]
    assert (line["code"], line["tracer_id"]) == ("response_malformed", "tracer0001")
    assert "result_code" not in line


@pytest.mark.parametrize("encrypt", [[], ENCRYPT], ids=["plain", "encrypted"])
@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("body", REFUSALS.values(), ids=REFUSALS.keys())
async def test_an_unsigned_refusal_is_passed_on_and_marked_unverified(
    house, body, status, encrypt
):
    house.wallet.answer = lambda _: plain_reply(status, JSON_HEADERS, body)
    got = await house.caller.post(headers=encrypt)
    assert (got.status, got.body) == (status, body)
    assert got.header("Gateway-Verified") == "false"
    assert house.exchanges[-1]["code"] == "refused"


async def test_a_plain_success_to_an_encrypted_request_is_a_downgrade(house):
    got = await house.caller.post(headers=ENCRYPT)
    assert (got.status, got.code) == (502, "encryption_downgraded")


@pytest.mark.parametrize("body", [b"[]", b"not json", b"{}", b""])
async def test_plain_text_to_an_encrypted_request_is_a_downgrade(house, body):
    house.wallet.answer = lambda r: house.wallet.signed(r, body)
    got = await house.caller.post(headers=ENCRYPT)
    assert (got.status, got.code) == (502, "encryption_downgraded")


@pytest.mark.parametrize("body", REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_signed_plain_refusal_of_an_encrypted_request_is_verified(house, body):
    house.wallet.answer = lambda r: house.wallet.signed(r, body)
    got = await house.caller.post(headers=ENCRYPT)
    assert (got.status, got.body) == (200, body)
    assert got.header("Gateway-Verified") == "true"


async def test_an_encrypted_answer_to_a_plain_request_is_decrypted(house):
    house.wallet.answer = lambda r: house.wallet.encrypted(r, peer.SUCCESS)
    got = await house.caller.post()
    assert got.body == peer.SUCCESS
    assert got.header("Gateway-Verified") == "true"


@pytest.mark.parametrize(
    "time",
    [
        lambda now: now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        lambda now: now.strftime("%Y-%m-%dT%H:%M:%S.123Z"),
        lambda now: now.strftime("%Y-%m-%dT%H:%M:%S+0000"),
        lambda now: (now + timedelta(hours=5.5)).strftime("%Y-%m-%dT%H:%M:%S+05:30"),
        lambda now: str(int(now.timestamp() * 1000)),
    ],
)
async def test_every_known_form_of_response_time_is_accepted(house, time):
    text = time(datetime.now(UTC))
    house.wallet.answer = lambda r: house.wallet.signed(r, peer.SUCCESS, time=text)
    got = await house.caller.post()
    assert got.header("Gateway-Verified") == "true"
    assert got.header("Response-Time") == text


@pytest.mark.parametrize("version", [None, ""])
async def test_an_answer_without_a_key_version_is_tried_with_every_key(house, version):
    def answer(request):
        reply = house.wallet.signed(request, peer.SUCCESS, version=None)
        if version == "":
            text = dict(reply.headers)["Signature"]
            text = text.replace("RSA256,", "RSA256,keyVersion=,")
            reply.headers = peer.with_header(reply.headers, "Signature", text)
        return reply

    house.wallet.answer = answer
    assert (await house.caller.post()).header("Gateway-Verified") == "true"


# --- the network ---------------------------------------------------------------


async def test_a_silent_platform_is_a_timeout_with_an_unknown_outcome(run_house):
    async with run_house(route={"timeout_s": 0.3}) as house:
        house.wallet.answer = lambda _: asyncio.sleep(3600)
        got = await house.caller.post()
        assert (got.status, got.code) == (504, "upstream_timeout")
        assert got.problem["outcome"] == "unknown"
        assert len(house.wallet.arrived) == 1


async def test_a_platform_that_stalls_in_its_body_is_a_timeout(run_house):
    async with run_house(route={"timeout_s": 0.3}) as house:
        stalled = asyncio.Event()

        async def stall(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            await stalled.wait()
            writer.close()

        server = await asyncio.start_server(stall, "127.0.0.1", 0)
        async with server:
            await point_at(house, server, timeout_s=0.3)
            got = await house.caller.post()
            stalled.set()
        assert (got.code, got.problem["outcome"]) == ("upstream_timeout", "unknown")


DEATHS = {
    "before the answer": b"",
    "in the status line": b"HTTP/1.1 20",
    "in the headers": b"HTTP/1.1 200 OK\r\nContent-",
    "in the body": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
    "in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nabc",
}


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("sent", DEATHS.values(), ids=DEATHS.keys())
async def test_a_connection_that_dies_after_the_request_is_never_repeated(
    house, sent, reset
):
    requests = 0

    async def die(reader, writer):
        nonlocal requests
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        requests += 1
        writer.write(sent)
        await writer.drain()
        if reset:
            linger = struct.pack("ii", 1, 0)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    server = await asyncio.start_server(die, "127.0.0.1", 0)
    async with server:
        await point_at(house, server)
        got = await house.caller.post()
    assert (got.status, got.code) == (502, "upstream_disconnected")
    assert got.problem["outcome"] == "unknown"
    assert requests == 1


async def test_a_port_where_nobody_listens_is_unavailable_and_not_sent(house):
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    await point_at(house, server)
    server.close()
    await server.wait_closed()
    got = await house.caller.post()
    assert (got.status, got.code) == (503, "upstream_unavailable")
    assert got.problem["outcome"] == "not_sent"


def test_each_untrusted_answer_is_told_by_a_code_of_the_contract():
    codes = {code for _, code in UNTRUSTED.values()}
    assert codes == {
        "signature_missing",
        "signature_invalid",
        "key_version_unknown",
        "client_id_mismatch",
        "response_stale",
        "response_malformed",
        "response_too_large",
        "decryption_failed",
    }
